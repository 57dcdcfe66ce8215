// The table of queues: a row each on a desk, a card each on a phone.
import { html } from "./dom.mjs";
import { path } from "./api.mjs";
import { useCalmOrder } from "./calm.mjs";
import { number, percent, rate, span } from "./format.mjs";
import { Menu } from "./menu.mjs";
import { Count, LaneBar, Spark, State } from "./parts.mjs";
import { concurrency, pauseOrResume } from "./queue_actions.mjs";

const COLUMNS = [
  ["Queue"], ["State"], ["Oldest", "num"], ["Waiting by lane", "two"], ["Done, and come in (dashed)", "two"],
  ["Failing attempts", "two"], ["Active", "num"], ["Delayed", "num"], ["Dead", "num"], ["Empty in", "num"],
];
const GREY = new Set(["empty", "paused", "—"]);

/** What the numbers of a range look like: a minute, a quarter or an hour each. */
function Trend({ spark, doneS, queue }) {
  const word = doneS == null ? "unknown" : rate(doneS);
  if (!spark) return null;
  return html`<${Spark} values=${spark.done} dashed=${spark.came} title=${`${queue}: ${word} done now; the line is what was done, dashed what came in`} />`;
}

function Failures({ spark, queue }) {
  if (!spark) return null;
  const retried = spark.retried.reduce((sum, each) => sum + (each || 0), 0);
  const dead = spark.dead.reduce((sum, each) => sum + (each || 0), 0);
  return html`<${Spark} bars=${[{ kind: "dead", values: spark.dead }, { kind: "retried", values: spark.retried }]}
    title=${`${queue}: ${number(retried)} retried, ${number(dead)} dead`} />`;
}

const cell = (label, kind, value) => html`<td role="cell" class="q-${label.replace(" ", "-")} ${kind}"><span class="label">${label}</span>${value}</td>`;

function Row({ name, seen, spark }) {
  const { stats, state, slots, rate: pace } = seen;
  const href = path("queues", name);
  const late = stats.oldestMs && (state.kind === "bad" || state.kind === "warn") && !stats.paused;
  const failing = pace.failing;
  const items = [
    { label: "Open", href }, pauseOrResume(stats), concurrency(stats),
    { label: "Dead letters", href: `/dead?${new URLSearchParams({ queue: name })}` },
  ];
  return html`<tr role="row" class="q" data-kind=${state.kind} data-row=${href}>
    <th role="rowheader" scope="row" class="q-name"><a href=${href}>${name}</a></th>
    <td role="cell" class="q-state"><${State} ...${state} /></td>
    ${cell("oldest", `num ${late ? "bad strong" : stats.oldestMs ? "" : "muted"}`, stats.oldestMs ? span(stats.oldestMs) : "—")}
    ${cell("waiting", "two", html`<${Count} value=${stats.waiting} /><${LaneBar} lanes=${stats.lanes} />`)}
    ${cell("rate", "two", html`<span>${rate(pace.doneS)}</span><${Trend} spark=${spark} doneS=${pace.doneS} queue=${name} />`)}
    ${cell("failing", "two", html`<span class=${failing >= 0.01 ? "bad strong" : failing ? "" : "muted"}>${percent(failing)}</span><${Failures} spark=${spark} queue=${name} />`)}
    ${cell("active", "num", html`<span title=${`${number(stats.active)} with engines, ${number(slots.busy)} of ${number(slots.all)} places taken`}>${number(slots.all ? slots.busy : stats.active)}<span class="muted">/${number(slots.all)}</span></span>`)}
    ${cell("delayed", "num", html`<${Count} value=${stats.delayed} kind=${stats.delayed ? "" : "muted"} />`)}
    ${cell("dead", "num", stats.dead ? html`<a href=${`/dead?${new URLSearchParams({ queue: name })}`}><${Count} value=${stats.dead} /></a>` : html`<span class="muted">0</span>`)}
    ${cell("empty in", `num ${GREY.has(seen.empty) ? "muted" : ""}`, seen.empty)}
    <td role="cell" class="q-menu"><${Menu} label=${`Actions of ${name}`} items=${items} /></td></tr>`;
}

/** All queues, the worst first; `sparks` gives each one's numbers of the chosen range. */
export function QueueTable({ queues, order, sparks = {} }) {
  const { ref, order: shown } = useCalmOrder(order);
  return html`<div ref=${ref} class="card scroll queues" tabindex="0" role="region" aria-label="Queues">
    <table role="table"><thead role="rowgroup"><tr role="row">${COLUMNS.map(([name, kind]) => html`<th role="columnheader" scope="col" class=${kind}>${name}</th>`)}
      <th role="columnheader" scope="col"><span class="unseen">Actions</span></th></tr></thead>
    <tbody role="rowgroup">${shown.filter((name) => queues[name]).map((name) => html`<${Row} key=${name} name=${name} seen=${queues[name]}
      spark=${Object.hasOwn(sparks, name) ? sparks[name] : queues[name].spark} />`)}</tbody></table></div>`;
}

/** What the colours of the table mean. */
export const Legend = () => html`<div class="legend" aria-hidden="true">${["critical", "high", "normal", "low"].map((lane) => html`
  <span key=${lane}><i class=${`lane-${lane}`} />${lane}</span>`)}<span><i class="warn" />retried</span><span><i class="bad" />dead</span></div>`;
