// All queues, the worst first.
import { html } from "../lib/dom.mjs";
import { useOverview } from "../lib/overview.mjs";
import { Empty, Loading } from "../lib/parts.mjs";
import { Legend, QueueTable } from "../lib/queue_table.mjs";
import { Range, useRange } from "../lib/range.mjs";
import { setQuery } from "../lib/router.mjs";
import { useSparks } from "../lib/sparks.mjs";

export default function Queues({ query }) {
  const { data } = useOverview();
  const range = useRange();
  const sparks = useSparks(data ? data.order : [], range);
  if (!data) return html`<${Loading} />`;
  const text = query.name || "";
  const order = data.order.filter((name) => name.includes(text.trim().toLowerCase()));
  return html`<div class="title"><h1>Queues</h1><small class="muted">worst first</small>
      <div class="buttons"><input type="search" aria-label="Filter queues by name" placeholder="Filter by name" value=${text}
        onInput=${(event) => setQuery({ name: event.target.value })} /><${Range} value=${range} /></div></div>
    ${order.length ? html`<${QueueTable} queues=${data.queues} order=${order} sparks=${sparks} />`
    : html`<div class="card"><${Empty}>${data.order.length ? html`No queue has <b>${text}</b> in its name.`
      : html`<b>No queue is known yet.</b> A queue is there once an engine serves it or a job is sent to it: <a href="/about">send a first job</a>.`}<//></div>`}
    <p class="below"><${Legend} /></p>`;
}
