// One engine: how it is, what it serves, what it runs, how it is set.
import { html } from "../lib/dom.mjs";
import { path, url, whoAmI } from "../lib/api.mjs";
import { Load, lagKind } from "../lib/engine_table.mjs";
import { ago, bytes, number, serverNow, span } from "../lib/format.mjs";
import { useLive } from "../lib/live.mjs";
import { Ago, Count, Empty, Facts, Failed, Loading, State, Table } from "../lib/parts.mjs";

const lag = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : span(ms));

const Served = ({ beat }) => html`<${Table} name="Queues of this engine" kind="dense" columns=${[
  { name: "Queue" }, { name: "Load" }, { name: "Running", num: true }, { name: "Taken ahead", num: true }, { name: "Types" }]}>
  ${Object.entries(beat.queues).sort().map(([name, load]) => html`<tr key=${name} data-row=${path("queues", name)}><th scope="row"><a href=${path("queues", name)}>${name}</a></th>
    <td><${Load} of=${load.concurrency ? load.running / load.concurrency : 0} /></td>
    <td class="num">${number(load.running)}<span class="muted">/${number(load.concurrency)}</span></td>
    <td class="num">${load.buffered ? number(load.buffered) : html`<span class="muted">0</span>`}</td><td class="wrap muted">${load.types.join(", ")}</td></tr>`)}<//>`;

const Jobs = ({ inFlight, live }) => (inFlight.jobs.length ? html`<${Table} name="Jobs that this engine has" kind="dense" columns=${[
  { name: "Job" }, { name: "Type" }, { name: "Queue" }, { name: "Lane" }, { name: "Came", num: true }, { name: "Sign of life", num: true }, { name: "Attempt", num: true }, { name: "Size", num: true }]}>
  ${inFlight.jobs.map((job) => html`<tr key=${`${job.queue} ${job.entry}`} data-row=${path("jobs", job.queue, job.id)}>
    <th scope="row" class="mono"><a href=${url(path("jobs", job.queue, job.id), { at: job.hint })}>${job.id}</a></th><td>${job.type}</td><td><a href=${path("queues", job.queue)}>${job.queue}</a></td>
    <td>${job.lane}</td><td class="num"><${Ago} at=${job.enqueuedMs} /></td><td class="num ${serverNow() - job.atMs > 30_000 ? "bad strong" : ""}">${ago(job.atMs)}</td>
    <td class="num">${job.attempts + 1}</td><td class="num">${bytes(job.sizeBytes)}</td></tr>`)}<//>`
  : html`<div class="card"><${Empty}>${live ? "It has no job now." : "It has no job any more; what it had went to others, or waits for one."}<//></div>`);

function Settings({ settings, name, http }) {
  if (!settings.length) {
    const mine = name === whoAmI().engine;
    return html`<p class="muted">${mine ? "Settings are shown to callers with the scope “operate”."
      : html`Each engine tells its own settings alone${http ? html`: on its page at <code>${http}</code>, or by <code>python -m engine settings</code> beside it` : ""}.`}</p>`;
  }
  return html`<${Table} name="Settings" kind="dense" columns=${[{ name: "Variable" }, { name: "Value" }, { name: "Meaning" }]}>
    ${settings.map((each) => html`<tr key=${each.name}><th scope="row" class="mono">${each.name}</th><td class="mono wrap">${each.value || html`<span class="muted">—</span>`}</td><td class="wrap muted">${each.meaning}</td></tr>`)}<//>`;
}

export default function Engine({ name }) {
  const { data, trouble, status } = useLive(`/api${path("engines", name)}`);
  if (!data && trouble) {
    return html`<div class="title"><h1>${name}</h1></div>${status === 404 ? html`<div class="card"><${Empty}><b>This engine has been silent for more than a minute.</b><br />
      Others have taken over its jobs. <a href="/engines">All engines</a><//></div>` : html`<${Failed} error=${{ title: "Engine", message: trouble }} />`}`;
  }
  if (!data) return html`<${Loading} />`;
  const { engine, inFlight, settings } = data;
  const { beat } = engine;
  return html`<div class="title"><h1>${name}</h1><${State} ...${engine.state} /></div>
    <div class="card pad"><${Facts} rows=${[
      ["Load", html`<${Load} of=${engine.load} /> <span class="muted">${engine.running} of ${engine.concurrency}</span>`],
      ["Loop lag", html`<span class=${lagKind(beat.loopLagMs)}>${lag(beat.loopLagMs)}</span>`],
      ["Memory", bytes(beat.rssBytes)], ["Last beat", engine.silentMs < 1000 ? "< 1 s ago" : `${span(engine.silentMs)} ago`],
      ["Started", html`<${Ago} at=${beat.startedMs} />`], ["Host", beat.host], ["Process", beat.pid], ["Version", beat.version],
      ["Page and metrics", beat.http && html`<span class="mono">${beat.http}</span>`], ["State", beat.state],
      ["Weights of lanes", Object.entries(beat.weights).map(([lane, weight]) => `${lane} ${weight}`).join(", ")],
    ]} /></div>
    <div class="head"><h2>Jobs that it has</h2><small class="muted"><${Count} value=${inFlight.total} />${inFlight.jobs.length < inFlight.total ? `, ${inFlight.jobs.length} shown` : ""}</small></div>
    <${Jobs} inFlight=${inFlight} live=${engine.live} />
    <div class="head"><h2>Queues that it serves</h2></div><${Served} beat=${beat} />
    <details class="after"><summary>Settings</summary><${Settings} settings=${settings} name=${name} http=${beat.http} /></details>`;
}
