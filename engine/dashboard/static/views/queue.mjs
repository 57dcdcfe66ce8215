// One queue: how it is and why, its lanes and types, what bounds it, and its jobs.
import { html, useEffect, useRef } from "../lib/dom.mjs";
import { Action } from "../lib/actions.mjs";
import { path } from "../lib/api.mjs";
import { ChartPlace } from "../lib/chart_place.mjs";
import { bytes, exact, moment, noteServerTime, number, percent, rate, span } from "../lib/format.mjs";
import { useLive } from "../lib/live.mjs";
import { Menu } from "../lib/menu.mjs";
import { Age, Count, Empty, Failed, LaneBar, Loading, Span, State, Why } from "../lib/parts.mjs";
import { concurrency, pauseOrResume } from "../lib/queue_actions.mjs";
import { bounds, clearLimit, hold, holdSome, newLimit, onDead, openLimit, release, shutLimit } from "../lib/queue_steps.mjs";
import { QueueJobs } from "../lib/queue_jobs.mjs";
import { Range, useRange } from "../lib/range.mjs";

const loadCharts = () => import("./queue_charts.mjs");

function Figures({ look }) {
  const { stats } = look;
  const sum = (of) => Object.values(stats.totals[of] || {}).reduce((all, each) => all + each, 0);
  const held = look.states.held;
  return html`<dl class="card figures six"><div class=${look.state.word === "behind" ? "bad" : ""}><dt>Oldest waits for</dt><dd><b>${stats.oldestMs ? span(stats.oldestMs) : "—"}</b>${!stats.waiting || look.emptyInMs == null ? "" : `empty in ≈ ${look.empty}`}${stats.waiting && look.empty === "never" ? "never empties at this pace" : stats.waiting ? "" : "nothing waits"}</dd></div>
    <div><dt>Waiting</dt><dd><b><${Count} value=${stats.waiting} /></b>${look.states.parked ? `${number(look.states.parked)} parked of these` : ""}</dd></div>
    <div><dt>Active</dt><dd><b><${Count} value=${stats.active} /></b>${look.slots ? `${number(look.running)} of ${number(look.slots)} slots busy, ${look.engines.length} engine${look.engines.length === 1 ? "" : "s"}` : "no engine"}</dd></div>
    <div><dt>Done</dt><dd><b>${rate(look.rate.doneS)}</b>${look.rate.inS == null ? "" : html`<span title="Jobs that come in">${rate(look.rate.inS)} in</span>`}${look.rate.failing ? html`${look.rate.inS == null ? "" : ", "}<span class="warn">${percent(look.rate.failing)} failing</span>` : look.rate.inS == null ? `${number(sum("done"))} ever` : ""}</dd></div>
    <div><dt>Later</dt><dd><b><${Count} value=${stats.delayed} /></b>delayed${held ? `, ${number(held)} held` : ""}${stats.flows ? `, ${number(stats.flows)} for children` : ""}</dd></div>
    <div class=${stats.dead ? "bad" : ""}><dt>Dead</dt><dd><b><${Count} value=${stats.dead} /></b>${stats.dead ? html`<a href=${`/dead?queue=${encodeURIComponent(stats.queue)}`}>in groups</a>` : "none is kept"}</dd></div></dl>`;
}

function Lanes({ look }) {
  const top = Math.max(...look.lanes.map((lane) => lane.waiting), 1);
  const weights = look.lanes.reduce((sum, lane) => sum + (lane.weight || 0), 0);
  return html`<section aria-labelledby="lanes"><div class="head"><h2 id="lanes">Lanes</h2><${LaneBar} lanes=${look.stats.lanes} width="160" /></div>
    <div class="card scroll" tabindex="0" role="region" aria-label="Lanes"><table class="dense lanes-table"><thead><tr><th scope="col">Lane</th><th scope="col" class="num">Waiting</th><th scope="col" class="bar"><span class="unseen">Beside the others</span></th>
    <th scope="col" class="num">Active</th><th scope="col" class="num">Oldest</th><th scope="col" class="num" title="Time from entry to start, in the last hour">Wait p50</th><th scope="col" class="num extra">p95</th><th scope="col" class="num extra">p99</th><th scope="col" class="num extra">Turns</th></tr></thead><tbody>
    ${look.lanes.map((lane) => html`<tr key=${lane.name}><th scope="row"><span class="lane-name lane-${lane.name}">${lane.name}</span></th>
      <td class="num"><${Count} value=${lane.waiting} kind=${lane.waiting ? "" : "muted"} />${lane.parked ? html` <small>${number(lane.parked)} parked</small>` : ""}</td>
      <td class="bar"><svg width="100%" height="9" aria-hidden="true"><rect class="track" width="100%" height="1" y="8" /><rect class="lane-${lane.name}" width=${`${lane.waiting / top * 100}%`} height="9" /></svg></td>
      <td class="num"><${Count} value=${lane.active} kind=${lane.active ? "" : "muted"} /></td><td class="num">${lane.oldestMs ? html`<${Span} ms=${lane.oldestMs} />` : html`<span class="muted">—</span>`}</td>${spread(lane.wait)}
      <td class="num extra" title="How often engines turn to this lane while others have jobs, too">${lane.name === "critical" ? "first" : lane.weight ? `${lane.weight} of ${weights}` : "—"}</td></tr>`)}</tbody></table></div></section>`;
}

const spread = (each) => ["p50Ms", "p95Ms", "p99Ms"].map((name, at) => html`<td class=${at ? "num extra" : "num"} key=${name}>${each ? span(each[name]) : html`<span class="muted">—</span>`}</td>`);

function Type({ type, queue }) {
  return html`<tr><th scope="row">${type.type}</th>${spread(type.run)}
    <td class="num" title=${`${exact(type.done)} ever`}><${Count} value=${type.doneHour} kind=${type.doneHour ? "" : "muted"} /></td>
    <td class="num ${type.failing ? "warn" : ""}" title=${`${exact(type.retried)} attempts were tried again, ever`}>${percent(type.failing)}</td>
    <td class="num" title=${`${exact(type.dead)} ever`}><${Count} value=${type.deadHour} kind=${type.deadHour ? "bad" : "muted"} /></td>
    <td class="num"><div class=${type.held ? "buttons end" : "buttons end calm"}>${type.held ? html`<${State} kind="warn" word=${`held, ${number(type.heldJobs)} aside`} /><${Action} ...${release(queue, type.type)} />`
      : html`${type.heldJobs > 0 && html`<small>${number(type.heldJobs)} move back</small>`}<${Action} ...${hold(queue, type.type)} />`}</div></td></tr>
    ${type.held && html`<tr class="under"><td colspan="8" class="wrap muted">${type.heldReason || "No reason was given"}${type.heldBy ? ` — ${type.heldBy}` : ""}${type.heldSinceMs > 1 ? `, since ${moment(type.heldSinceMs)}` : ""}</td></tr>`}`;
}

const Types = ({ look }) => html`<section aria-labelledby="types"><div class="head"><h2 id="types">Types</h2><small>the last hour</small></div>
  ${look.types.length ? html`<div class="card scroll" tabindex="0" role="region" aria-label="Types"><table class="dense types"><thead><tr><th scope="col">Type</th>
  <th scope="col" class="num">Run p50</th><th scope="col" class="num extra">p95</th><th scope="col" class="num extra">p99</th>
  <th scope="col" class="num">Done</th><th scope="col" class="num" title="Of all attempts that ended">Failing</th><th scope="col" class="num">Dead</th><th scope="col"><span class="unseen">Held or not</span></th></tr></thead>
  <tbody>${look.types.map((type) => html`<${Type} key=${type.type} type=${type} queue=${look.stats.queue} />`)}</tbody></table></div>`
    : html`<div class="card"><${Empty}>No job type is known here yet: none was enqueued, and no engine takes any.<//></div>`}</section>`;

function Limits({ queue, gates, nowMs }) {
  return html`<div class="card scroll" tabindex="0" role="region" aria-label="Limits"><table class="dense"><thead><tr><th scope="col">Limit</th><th scope="col">Allows</th>
    <th scope="col" class="num">Taken</th><th scope="col" class="num">Wait</th><th scope="col">State</th><th scope="col"><span class="unseen">Steps</span></th></tr></thead><tbody>
    ${gates.limits.map((limit) => html`<tr key=${limit.name}><th scope="row" class="mono">${limit.name}</th><td>${limit.rule || "—"}${limit.declared ? html` <small>by code</small>` : ""}</td>
      <td class="num">${limit.places ? html`${number(limit.used)} of ${number(limit.places)} <meter min="0" max=${limit.places} value=${limit.used} aria-label="places taken" />` : limit.tokens != null ? `${Math.floor(limit.tokens)} of ${number(limit.burst)} left` : "—"}</td>
      <td class="num"><${Count} value=${limit.parked} kind=${limit.parked ? "" : "muted"} /></td>
      <td>${limit.shutUntilMs > nowMs ? html`<${State} kind="paused" word=${`shut, opens in ${span(limit.shutUntilMs - nowMs)}`} />` : html`<span class="muted">open</span>`}</td>
      <td class="num"><${Menu} label=${`Steps for limit ${limit.name}`} items=${[limit.shutUntilMs > nowMs ? openLimit(queue, limit.name) : shutLimit(queue, limit.name), !limit.name.includes("=") && newLimit(queue, limit.name), limit.rule && clearLimit(queue, limit.name)]} /></td></tr>`)}</tbody></table></div>`;
}

/** How much the queue may hold, and how much of that it does. */
const fullnessOf = ({ jobsMax, bytesMax, ratio }) => (jobsMax || bytesMax
  ? `may hold ${[jobsMax && `${number(jobsMax)} jobs`, bytesMax && bytes(bytesMax)].filter(Boolean).join(" and ")}, ${percent(ratio)} full` : "may hold any number of jobs");

function Gates({ look }) {
  const { gates, queue, fullness } = look.stats;
  if (!gates && !fullness) return null;
  return html`<section aria-labelledby="bounds"><div class="head"><h2 id="bounds">What bounds it</h2>
    <small>${[gates && (gates.parked ? [gates.byKey && `${number(gates.byKey)} parked behind their key`, gates.byLimit && `${number(gates.byLimit)} parked behind a limit`].filter(Boolean).join(", ") : "nothing is parked"),
      gates && (gates.onDead === "block" ? `a dead job blocks its key (${number(gates.blockedKeys)}${gates.blockedKeysMore ? " or more" : ""} blocked)` : "keys go on past dead jobs"),
      fullness && fullnessOf(fullness)].filter(Boolean).join("; ")}</small>
    <${Action} ...${newLimit(queue)} /></div>
    ${gates?.limits.length ? html`<${Limits} queue=${queue} gates=${gates} nowMs=${look.nowMs} />` : ""}</section>`;
}

export default function Queue({ queue, query }) {
  const { data, trouble, status, at } = useLive(`/api${path("queues", queue)}`);
  const range = useRange();
  const last = useRef(null);
  if (data) last.current = data;
  const look = last.current;
  noteServerTime(look?.nowMs);
  useEffect(() => { if (look) document.title = `${queue} ${look.state.word === "well" ? "" : `· ${look.state.word} `}– Streamlane`; }, [look?.state.word]);
  if (!look) {
    if (status === 404) {
      return html`<h1>${queue}</h1><div class="card"><${Empty}><b>No queue has this name yet.</b> A queue begins with its first job, or when an engine serves it.
        <p><a href="/about">Send a first job</a> or <a href="/queues">see all queues</a>.</p><//></div>`;
    }
    return trouble ? html`<${Failed} error=${{ title: queue, message: trouble }} />` : html`<${Loading} />`;
  }
  const { stats, state } = look;
  return html`<${Age} at=${at} trouble=${trouble} /><div class="title"><h1>${queue}</h1><${State} ...${state} />
    <div class="buttons"><${Action} ...${pauseOrResume(stats)} kind=${stats.paused ? "primary" : ""} /><${Action} ...${concurrency(stats)} label=${stats.concurrency ? `Concurrency ${stats.concurrency}` : "Concurrency…"} />
    <${Menu} label=${`More for ${queue}`} kind="" items=${[bounds(queue, stats.fullness), holdSome(queue), newLimit(queue), onDead(queue, stats.gates?.onDead || "continue"),
      { label: "Dead letters", href: `/dead?queue=${encodeURIComponent(queue)}` }, { label: "Audit of this queue", href: `/audit?queue=${encodeURIComponent(queue)}` }]} /></div></div>
    <${Why} text=${look.why} /><div class="queue-view"><${Figures} look=${look} />
    <section aria-labelledby="lately" class="lately"><div class="head"><h2 id="lately">Over time</h2><${Range} value=${range} /></div><${ChartPlace} key=${queue} load=${loadCharts} queue=${queue} range=${range} /></section>
    <div class="columns"><${Lanes} look=${look} /><${Types} look=${look} /></div><${Gates} look=${look} />
    <${QueueJobs} queue=${queue} query=${query} look=${look} /></div>`;
}
