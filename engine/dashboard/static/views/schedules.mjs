// Schedules: when they fire, in words; what is wrong with them; run, pause, resume.
import { html, useEffect } from "../lib/dom.mjs";
import { Action } from "../lib/actions.mjs";
import { path, post, url } from "../lib/api.mjs";
import { ago, moment, noteServerTime, number, serverNow, span } from "../lib/format.mjs";
import { useLive } from "../lib/live.mjs";
import { Age, Ago, Code, Empty, Failed, Loading, State } from "../lib/parts.mjs";
import { setQuery } from "../lib/router.mjs";

const KINDS = { on: "well", paused: "paused", ended: "waiting", broken: "bad" };
const call = (schedule, verb, body = {}) => post(`/api${path("queues", schedule.queue, "schedules", schedule.name, verb)}`, body);

const runNow = (schedule) => ({
  label: "Run now",
  run: async () => {
    const { job } = await call(schedule, "run");
    return `${schedule.name} has fired: job ${job}.`;
  },
});

const pauseOrResume = (schedule) => {
  const verb = schedule.state === "paused" ? "resume" : "pause";
  const back = verb === "pause" ? "resume" : "pause";
  return {
    label: verb === "pause" ? "Pause" : "Resume",
    run: async () => {
      const { changed } = await call(schedule, verb);
      return { text: `${schedule.name} ${verb === "pause" ? "fires no more until it is resumed" : "goes on from now"}.`, undo: changed && (() => call(schedule, back).then(() => `${schedule.name} is as before.`)) };
    },
  };
};

/** How far it is from the last tick to the next. */
function Way({ schedule }) {
  const { lastMs, nextMs } = schedule;
  if (!nextMs || schedule.state !== "on") return null;
  const from = lastMs || nextMs - (schedule.everyMs || 86_400_000);
  const share = Math.max(0, Math.min(1, (serverNow() - from) / Math.max(nextMs - from, 1)));
  return html`<progress max="1" value=${share} aria-label=${`${Math.round(share * 100)} % of the way to the next time`} />`;
}

function Card({ schedule }) {
  const kind = schedule.problem && schedule.state === "on" ? "warn" : KINDS[schedule.state];
  return html`<article class="card schedule" data-row=${url(path("queues", schedule.queue), {})}>
    <header><h2>${schedule.name}</h2><${State} kind=${kind} word=${schedule.problem && schedule.state === "on" ? "needs attention" : schedule.state} />
      <div class="buttons">${schedule.state !== "broken" && html`<${Action} ...${runNow(schedule)} />`}${["on", "paused"].includes(schedule.state) && html`<${Action} ...${pauseOrResume(schedule)} />`}</div></header>
    <p class="when">${schedule.when || "Its times cannot be read."} ${schedule.cron && html`<code>${schedule.cron}</code>`}</p>
    ${schedule.problem && html`<p class=${kind}>${schedule.problem}</p>`}
    <dl class="facts"><div><dt>Next</dt><dd>${schedule.state === "on" && schedule.nextMs ? html`<b title=${moment(schedule.nextMs, { day: true })}>${ago(schedule.nextMs)}</b> <${Way} schedule=${schedule} /> <span class="muted">${moment(schedule.nextMs)}</span>` : schedule.state === "paused" ? "when it is resumed" : "never"}</dd></div>
      <div><dt>Last</dt><dd>${schedule.lastMs ? html`<${Ago} at=${schedule.lastMs} />` : "not yet"}${schedule.ticks ? html` <span class="muted">${number(schedule.ticks)} time${schedule.ticks === 1 ? "" : "s"} so far</span>` : ""}</dd></div>
      <div><dt>Sends</dt><dd>${schedule.type || "—"} to <a href=${path("queues", schedule.queue)}>${schedule.queue}</a>${schedule.lane ? `, lane ${schedule.lane}` : ""}</dd></div>
      <div><dt>From</dt><dd>${schedule.source === "code" ? `the code of ${schedule.app || "an app"}` : "an operator"}${schedule.jitterMs ? `, up to ${span(schedule.jitterMs)} late on purpose` : ""}</dd></div></dl>
    <details><summary>Payload, next times, its jobs</summary>${schedule.data != null && html`<${Code} value=${schedule.data} label="Payload" />`}
      ${schedule.upcoming.length > 0 && html`<p class="muted">${schedule.upcoming.map((each) => moment(each, { day: true, seconds: false })).join(" · ")}</p>`}
      <p><a href=${url("/jobs", { text: `${schedule.name}:`, queue: schedule.queue })}>Find its jobs</a></p></details></article>`;
}

export default function Schedules({ query }) {
  const { data, trouble, at } = useLive(url("/api/schedules", { queue: query.queue }));
  noteServerTime(data?.nowMs);
  useEffect(() => { document.title = "Schedules – Streamlane"; }, []);
  if (!data) return trouble ? html`<${Failed} error=${{ title: "Schedules", message: trouble }} />` : html`<${Loading} />`;
  const wrong = data.schedules.filter((each) => each.problem || each.state === "broken");
  const all = [...wrong, ...data.schedules.filter((each) => !wrong.includes(each))];
  return html`<${Age} at=${at} trouble=${trouble} /><div class="title"><h1>Schedules</h1>
    <span class="muted">${all.length} in all${wrong.length ? html`, <b class="warn">${wrong.length} ${wrong.length === 1 ? "needs" : "need"} attention</b>` : ""}</span>
    ${query.queue && html`<div class="buttons"><span class="muted">of ${query.queue}</span><button type="button" onClick=${() => setQuery({ queue: "" })}>Of all queues</button></div>`}</div>
    ${all.length ? html`<div class="schedules">${all.map((schedule) => html`<${Card} key=${`${schedule.queue}/${schedule.name}`} schedule=${schedule} />`)}</div>`
      : html`<div class="card"><${Empty}><b>Nothing is scheduled.</b> Schedules send jobs by the clock. Declare one in code with <code>registry.schedule</code>, or by
        <code>python -m engine schedule add</code>.<//></div>`}`;
}
