// Everything at a glance: what is wrong, the queues, the engines, what happened.
import { html } from "../lib/dom.mjs";
import { useLive } from "../lib/live.mjs";
import { Count, Loading } from "../lib/parts.mjs";

export default function Overview() {
  const { data, trouble } = useLive("/api/overview");
  if (!data) return html`<${Loading} />`;
  return html`<h1>Overview</h1>${trouble && html`<p class="banner bad">${trouble}</p>`}
    <ul>${(data.overview?.queues || []).map((queue) => html`<li key=${queue.queue}>${queue.queue}: <${Count} value=${queue.waiting} /></li>`)}</ul>`;
}
