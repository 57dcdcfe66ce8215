// All engines, the worst first.
import { html } from "../lib/dom.mjs";
import { EngineTable } from "../lib/engine_table.mjs";
import { useLive } from "../lib/live.mjs";
import { useOverview } from "../lib/overview.mjs";
import { Empty, Failed, Loading } from "../lib/parts.mjs";

export default function Engines() {
  const { data, trouble } = useLive("/api/engines");
  const { data: overview } = useOverview();
  if (!data) return trouble ? html`<${Failed} error=${{ title: "Engines", message: trouble }} />` : html`<${Loading} />`;
  const versions = Object.entries(overview?.totals.versions || {});
  return html`<div class="title"><h1>Engines</h1><small class="muted">worst first</small>
      ${versions.length > 1 && html`<small class="muted">${versions.map(([version, count]) => `${version} × ${count}`).join(", ")}</small>`}</div>
    ${data.order.length ? html`<${EngineTable} engines=${data.engines} order=${data.order} />` : html`<div class="card"><${Empty}>
      <b>No engine was heard of within the last minute.</b><br />Jobs wait and none is lost. Start one: <code>python -m engine run</code><//></div>`}`;
}
