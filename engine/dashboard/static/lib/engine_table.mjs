// The table of engines.
import { html } from "./dom.mjs";
import { path } from "./api.mjs";
import { useCalmOrder } from "./calm.mjs";
import { bytes, percent, span } from "./format.mjs";
import { State } from "./parts.mjs";

const LAG_MS_HIGH = 250;
const LAG_MS_MAX = 1_000;

/** How a loop's lag is coloured; beyond a second, `health` warns too. */
export const lagKind = (ms) => (ms > LAG_MS_MAX ? "bad strong" : ms >= LAG_MS_HIGH ? "warn strong" : "");

/** The share of an engine's places that are taken, as a bar. */
export const Load = ({ of }) => html`<span class="load"><span>${percent(of)}</span><progress value=${of} max="1" aria-label="Load" /></span>`;

function Row({ name, engine, short }) {
  const { beat } = engine;
  const href = path("engines", name);
  return html`<tr data-row=${href}><th scope="row"><a href=${href}>${name}</a></th>
    <td><${State} ...${engine.state} /></td><td><${Load} of=${engine.load} /></td>
    <td class="num ${lagKind(beat.loopLagMs)}">${beat.loopLagMs < 1000 ? `${Math.round(beat.loopLagMs)} ms` : span(beat.loopLagMs)}</td>
    <td class="num">${engine.silentMs < 1000 ? "< 1 s" : span(engine.silentMs)} ago</td>
    <td>${beat.host}</td><td>${beat.version}</td>
    ${!short && html`<td class="num">${engine.running}<span class="muted">/${engine.concurrency}</span></td><td class="num">${bytes(beat.rssBytes)}</td>
      <td class="num" title=${Object.keys(beat.queues).join(", ")}>${Object.keys(beat.queues).length}</td>`}</tr>`;
}

/** Engines, the worst first; children stand below the table. */
export function EngineTable({ engines, order, short = false, children }) {
  const { ref, order: shown } = useCalmOrder(order);
  return html`<div class="card" ref=${ref}><div class="scroll engines ${short ? "dense" : ""}" tabindex="0" role="region" aria-label="Engines">
    <table><thead><tr><th scope="col">Engine</th><th scope="col">State</th><th scope="col">Load</th><th scope="col" class="num">Loop lag</th>
      <th scope="col" class="num">Last beat</th><th scope="col">Host</th><th scope="col">Version</th>
      ${!short && html`<th scope="col" class="num">Jobs</th><th scope="col" class="num">Memory</th><th scope="col" class="num">Queues</th>`}</tr></thead>
    <tbody>${shown.filter((name) => engines[name]).map((name) => html`<${Row} key=${name} name=${name} engine=${engines[name]} short=${short} />`)}</tbody></table></div>
    ${children && html`<p class="more-link">${children}</p>`}</div>`;
}
