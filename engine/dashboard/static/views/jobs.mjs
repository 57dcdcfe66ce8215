// Jobs of all queues: a search by id or text, and the way to every list.
import { html, useEffect, useState } from "../lib/dom.mjs";
import { path, url } from "../lib/api.mjs";
import { JobTable, STATES } from "../lib/job_table.mjs";
import { useOverview } from "../lib/overview.mjs";
import { Count, Empty, Loading } from "../lib/parts.mjs";
import { setQuery } from "../lib/router.mjs";
import { useScan } from "../lib/scan.mjs";

const statsOf = (overview) => Object.values(overview?.queues || {}).map((each) => each.stats || each)
  .sort((a, b) => (a.queue < b.queue ? -1 : 1));

const counted = (stats) => {
  const parked = stats.gates?.parked || 0;
  return { waiting: stats.waiting - parked, parked, active: stats.active, delayed: stats.delayed, held: stats.held.reduce((sum, each) => sum + each.jobs, 0),
    "waiting-children": stats.flows, done: stats.doneKept, dead: stats.dead };
};

function Everywhere({ queues }) {
  const rows = queues.map((stats) => [stats.queue, counted(stats)]);
  const shown = STATES.filter(([state]) => ["waiting", "active", "delayed", "done", "dead"].includes(state) || rows.some(([, counts]) => counts[state]));
  return html`<div class="head"><h2>By queue and state</h2></div><div class="card scroll" tabindex="0" role="region" aria-label="Jobs by queue and state"><table><thead><tr><th scope="col">Queue</th>
    ${shown.map(([state, name]) => html`<th key=${state} scope="col" class="num">${name}</th>`)}</tr></thead><tbody>
    ${rows.map(([queue, counts]) => html`<tr key=${queue} data-row=${path("queues", queue)}><th scope="row"><a href=${path("queues", queue)}>${queue}</a></th>
      ${shown.map(([state]) => html`<td key=${state} class="num">${counts[state] ? html`<a class="count" aria-label=${`${state} jobs of ${queue}`} href=${url(path("queues", queue), { state: state === "waiting" ? "" : state })}><${Count} value=${counts[state]} /></a>` : html`<span class="muted">0</span>`}</td>`)}</tr>`)}</tbody></table></div>`;
}

export default function Jobs({ query }) {
  const { data } = useOverview();
  const text = query.text || "";
  const list = useScan(text ? url("/api/search", { text, queue: query.queue, limit: 50 }) : "");
  const [typed, setTyped] = useState(text);
  useEffect(() => setTyped(text), [text]);
  useEffect(() => { document.title = `${text ? `${text} · ` : ""}Jobs – Streamlane`; }, [text]);
  const queues = statsOf(data);
  const submit = (event) => {
    event.preventDefault();
    setQuery({ text: typed.trim() });
  };
  return html`<div class="title"><h1>Jobs</h1></div><form class="filters" role="search" aria-label="Search all jobs" onSubmit=${submit}>
    <label class="grow">Id, or text in a payload, a field or an error<input type="search" name="text" maxlength="200" value=${typed} autocomplete="off" spellcheck="false" onInput=${(event) => setTyped(event.target.value)} /></label>
    <label>Queue<select value=${query.queue || ""} onChange=${(event) => setQuery({ queue: event.target.value })}><option value="">all</option>
      ${[...new Set([...queues.map((stats) => stats.queue), ...(query.queue ? [query.queue] : [])])].map((name) => html`<option key=${name}>${name}</option>`)}</select></label>
    <div class="buttons"><button class="primary">Search</button>${(text || query.queue) && html`<button type="button" class="plain" onClick=${() => setQuery({ text: "", queue: "" })}>Clear</button>`}</div></form>
    ${text ? html`<${JobTable} name=${`Jobs with ${text}`} list=${list} filtered=${true}
      empty=${html`<b>No job has “${text}”</b> ${list.complete ? "in any state." : `among the first ${list.searched.toLocaleString("en-GB")}.`} Finished jobs are kept for a limited time, and their payloads are not.`} />`
      : !data ? html`<${Loading} />` : queues.length ? html`<${Everywhere} queues=${queues} />` : html`<div class="card"><${Empty}><b>There is no queue yet.</b> <a href="/about">Send a first job</a>.<//></div>`}`;
}
