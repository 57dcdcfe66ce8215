// Bulk operations on dead letters, the latest first.
import { html, useEffect } from "../lib/dom.mjs";
import { path, url } from "../lib/api.mjs";
import { number } from "../lib/format.mjs";
import { useLive } from "../lib/live.mjs";
import { about, OperationBar, OperationState, remaining } from "../lib/operations.mjs";
import { Age, Ago, Empty, Loading } from "../lib/parts.mjs";

function Row({ of }) {
  const { record } = of;
  const href = path("operations", record.queue, record.id);
  return html`<tr role="row" class="o" data-row=${href}><th role="rowheader" scope="row"><a href=${href}>${record.action === "retry" ? "Retry" : "Discard"} ${number(record.planned)}</a></th>
    <td role="cell"><${OperationState} of=${of} /></td><td role="cell">${record.queue}</td><td role="cell" class="muted cut">${about(of)}</td>
    <td role="cell" class="bar-cell"><${OperationBar} of=${of} /></td><td role="cell" class="num">${remaining(of)}</td>
    <td role="cell" class="num"><${Ago} at=${record.startedMs} /></td><td role="cell">${record.who}</td><td role="cell" class="muted cut">${record.reason}</td></tr>`;
}

const COLUMNS = [["What"], ["State"], ["Queue"], ["Which"], ["How far"], ["", "num"], ["Started", "num"], ["By"], ["Reason"]];

export default function OperationList({ query }) {
  const { data, trouble, at } = useLive(url("/api/operations", { queue: query.queue }));
  useEffect(() => { document.title = "Operations – Streamlane"; }, []);
  return html`<${Age} at=${at} trouble=${trouble} /><div class="title"><h1>Operations</h1><span class="muted">retries and discards of many dead letters</span></div>
    ${!data ? !trouble && html`<${Loading} />` : data.operations.length ? html`<div class="card scroll operations" tabindex="0" role="region" aria-label="Operations"><table role="table"><thead role="rowgroup"><tr role="row">
      ${COLUMNS.map(([name, kind]) => html`<th key=${name} role="columnheader" scope="col" class=${kind}>${name || html`<span class="unseen">Time left</span>`}</th>`)}</tr></thead><tbody role="rowgroup">${data.operations.map((of) => html`<${Row} key=${of.record.id} of=${of} />`)}</tbody></table></div>
      ${data.more > 0 && html`<p class="muted">${number(data.more)} older ones are not shown.</p>`}`
    : html`<div class="card"><${Empty}><b>No operation yet.</b><br />Choose a group of <a href="/dead">dead letters</a> and retry or discard it; it runs on the engines, and is followed here.<//></div>`}`;
}
