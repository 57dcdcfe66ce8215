// Everything at a glance: what is wrong, the queues, the engines, what happened.
import { html } from "../lib/dom.mjs";
import { useOverview } from "../lib/overview.mjs";
import { Age, Count, Loading } from "../lib/parts.mjs";

export default function Overview() {
  const { data, trouble, at } = useOverview();
  if (!data) return trouble ? html`<${Age} trouble=${trouble} />` : html`<${Loading} />`;
  return html`<${Age} at=${at} trouble=${trouble} /><h1>Overview</h1>
    <ul>${(data.overview?.queues || []).map((queue) => html`<li key=${queue.queue}>${queue.queue}: <${Count} value=${queue.waiting} /></li>`)}</ul>`;
}
