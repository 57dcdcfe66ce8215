// Jobs in a table: those of one state, or of all.
import { html, useEffect, useState } from "./dom.mjs";
import { act, hindrance } from "./actions.mjs";
import { bytes, number, serverNow, span } from "./format.mjs";
import { Menu } from "./menu.mjs";
import { Ago, Count, Empty, Failed, State } from "./parts.mjs";
import { doMany, jobHref, manySteps, rowItems, step } from "./job_steps.mjs";
import { keyOf } from "./scan.mjs";

export const STATES = [
  ["waiting", "Waiting"], ["active", "Active"], ["delayed", "Delayed"], ["parked", "Parked"], ["held", "Held"],
  ["waiting-children", "For children"], ["done", "Done"], ["dead", "Dead"],
];
const KINDS = { waiting: "waiting", active: "active", delayed: "delayed", parked: "paused", held: "warn", "waiting-children": "waiting", done: "well", dead: "bad" };
const WHEN = { waiting: "Waits for", active: "Last sign", delayed: "Due", parked: "Waits for", held: "Held for", "waiting-children": "Waits for", done: "Ended", dead: "Died" };
const AGES = new Set(["waiting", "parked", "held", "waiting-children"]);

export const JobState = ({ state }) => html`<${State} kind=${KINDS[state]} word=${state === "waiting-children" ? "waits for children" : state} />`;

function Moment({ job }) {
  if (!job.atMs) return "—";
  return AGES.has(job.state) ? html`<span title=${new Date(job.atMs).toISOString()}>${span(Math.max(0, serverNow() - job.atMs))}</span>` : html`<${Ago} at=${job.atMs} />`;
}

function Row({ job, mixed, ended, selected, onSelect }) {
  const href = jobHref(job);
  return html`<tr data-row=${href} class=${ended ? "ended" : undefined} aria-selected=${selected ? "true" : undefined}
    title=${ended ? "It has left this list." : undefined}>
    <td class="pick"><input type="checkbox" data-pick="" aria-label=${`Select ${job.id}`} checked=${selected} disabled=${ended} onClick=${onSelect} /></td>
    <th scope="row"><a class="mono" href=${href} title=${job.id}>${job.id}</a></th>
    ${mixed && html`<td><${JobState} state=${job.state} /></td><td>${job.queue}</td>`}
    <td>${job.type}</td><td><span class="lane-name lane-${job.lane}">${job.lane}</span></td>
    <td class="num"><${Moment} job=${job} /></td>
    <td class="num" data-unit=${job.state === "done" ? (mixed ? undefined : "run") : `attempt${job.attempts === 1 ? "" : "s"}`}>${job.state !== "done" ? number(job.attempts) : mixed ? "" : span(job.runMs)}</td>
    <td class="num">${job.state === "done" ? "" : bytes(job.sizeBytes)}</td>
    <td class="note" title=${[job.note, job.error].filter(Boolean).join("\n")}>${job.note && html`<span class="muted">${mixed && job.state === "done" ? `ran ${span(job.runMs)} on ${job.note}` : job.note}</span>`} ${job.error && html`<span class="bad">${job.error}</span>`}</td>
    <td class="num"><${Menu} label=${`Steps for ${job.id}`} items=${rowItems(job)} /></td></tr>`;
}

function Selected({ jobs, state, clear }) {
  const [at, setAt] = useState(null);
  const verbs = state ? manySteps(state) : [];
  const press = (verb) => {
    const one = step(verb, jobs[0]);
    act({
      label: one.label.replace("…", ""), title: `${one.label.replace("…", "")}: ${jobs.length} jobs?`, kind: one.kind, reason: true,
      body: one.kind ? "This cannot be taken back." : html`<p>Each is asked for by itself; what is not possible is told.</p>`,
      verb: `${one.label.replace("…", "")} ${jobs.length}`,
      run: async (reason) => { const told = await doMany(verb, jobs, reason, setAt); clear(); return told; },
    });
  };
  return html`<div class="selected" role="group" aria-label="Selected jobs"><b>${jobs.length} selected</b>
    ${at != null && html`<progress max=${jobs.length} value=${at} aria-label="How far it is" />`}
    ${verbs.map((verb) => { const one = step(verb, jobs[0]); return html`<button type="button" key=${verb} class=${one.kind} title=${hindrance({}) || undefined}
      onClick=${() => press(verb)}>${one.label.replace("…", "")} ${jobs.length}</button>`; })}
    <button type="button" class="plain" onClick=${clear}>Clear</button></div>`;
}

/** How much of a list was looked at. */
export const Searched = ({ list, filtered }) => html`<div class="searched" role="status">
  <span>${list.total == null ? "" : filtered || !list.complete
    ? html`${number(list.jobs.length)} found; searched <${Count} value=${list.searched} /> of <${Count} value=${list.total} />${list.next && html`, next ${list.next}`}`
    : html`all <${Count} value=${list.total} />`}</span>
  ${list.busy ? html`<span class="muted">searching…</span>` : !list.complete && !list.error && html`<button type="button" onClick=${list.further}>Further</button>`}</div>`;

/**
 * Jobs with their menus and a selection. `list` is what `useScan` gives, `news` what `useNews` does;
 * `state` is left out where rows are of different ones.
 */
export function JobTable({ name, list, news, state, filtered, empty }) {
  const [picked, setPicked] = useState(new Set());
  const [last, setLast] = useState(null);
  useEffect(() => setPicked(new Set()), [list.address]);
  const rows = list.jobs.map((job) => news?.head?.get?.(keyOf(job)) || job);
  const gone = news?.gone || new Set();
  const pick = (at) => (event) => {
    const next = new Set(picked);
    const [from, to] = event.shiftKey && last != null ? [Math.min(last, at), Math.max(last, at)] : [at, at];
    for (const job of rows.slice(from, to + 1)) next[event.target.checked ? "add" : "delete"](keyOf(job));
    setPicked(next);
    setLast(at);
  };
  const chosen = rows.filter((job) => picked.has(keyOf(job)) && !gone.has(keyOf(job)));
  const states = new Set(chosen.map((job) => job.state));
  const all = rows.length > 0 && chosen.length === rows.length;
  if (list.error && !rows.length) return html`<${Failed} error=${list.error} again=${list.anew} />`;
  return html`${list.error && html`<${Failed} error=${list.error} again=${list.further} />`}
    ${chosen.length > 0 && html`<${Selected} jobs=${chosen} state=${states.size === 1 ? [...states][0] : ""} clear=${() => setPicked(new Set())} />`}
    ${news?.fresh?.length > 0 && html`<button type="button" class="news" onClick=${list.anew}>${news.fresh.length}${news.fresh.length >= 50 ? " or more" : ""} new</button>`}
    ${rows.length > 0 ? html`<div class="card scroll jobs" tabindex="0" role="region" aria-label=${name}><table class="dense"><thead><tr>
      <th scope="col" class="pick"><input type="checkbox" aria-label="Select all of these" checked=${all}
        onChange=${() => setPicked(all ? new Set() : new Set(rows.filter((job) => !gone.has(keyOf(job))).map(keyOf)))} /></th>
      <th scope="col">Job</th>${!state && html`<th scope="col">State</th><th scope="col">Queue</th>`}<th scope="col">Type</th><th scope="col">Lane</th>
      <th scope="col" class="num">${state ? WHEN[state] : "When"}</th><th scope="col" class="num">${state === "done" ? "Ran for" : "Attempts"}</th>
      <th scope="col" class="num">${state === "done" ? "" : "Size"}</th><th scope="col">${state === "done" ? "Engine" : state === "active" ? "Engine, error" : "Note, error"}</th><th scope="col"><span class="unseen">Steps</span></th></tr></thead>
      <tbody>${rows.map((job, at) => html`<${Row} key=${keyOf(job)} job=${job} mixed=${!state} ended=${gone.has(keyOf(job))}
        selected=${picked.has(keyOf(job)) && !gone.has(keyOf(job))} onSelect=${pick(at)} />`)}</tbody></table></div>`
      : list.busy ? html`<div class="card waits" aria-busy="true" />` : html`<div class="card"><${Empty}>${empty}<//></div>`}
    <${Searched} list=${list} filtered=${filtered} />`;
}
