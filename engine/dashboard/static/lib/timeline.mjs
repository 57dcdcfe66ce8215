// What happened to a job, from its XADD to now: waits, attempts, and what came between them.
import { html } from "./dom.mjs";
import { path } from "./api.mjs";
import { moment, serverNow, span } from "./format.mjs";
import { Sign } from "./icons.mjs";
import { Ago, Code } from "./parts.mjs";

const FAILED = new Set(["failed", "timeout", "lost"]);
const BETWEEN = { retry: "asked to retry", snooze: "put off", hold: "held", failed: "backoff", timeout: "backoff", lost: "taken over" };
const ENDS = {
  waiting: ["waiting", "waits in its lane"], parked: ["paused", "parked"], active: ["active", "runs"], delayed: ["delayed", "waits for its time"],
  held: ["paused", "set aside"], "waiting-children": ["waiting", "waits for its children"], done: ["well", "done"], dead: ["bad", "dead"],
};

const run = (each, at) => ({ key: `run ${at}`, kind: FAILED.has(each.outcome) ? "bad" : "delayed", title: `run ${each.number}`, ran: each.runMs ? span(each.runMs) : "<1 ms",
  told: each.error?.kind.split(".").pop() || each.outcome, engine: each.engine, atMs: each.atMs, gap: "" });

/** The steps of a story as {key, kind, title, told, atMs, gap}; `gap` is what lay before it. */
export function stepsOf(story, nowMs = serverNow()) {
  const { job, history } = story;
  // Attempts before the job was brought back from the dead are told first.
  const steps = history.filter((each) => each.atMs < job.enqueuedMs).map(run);
  let before = job.enqueuedMs;
  let waited = "waited";
  if (before) steps.push({ key: "sent", kind: "waiting", title: story.redrives ? "brought back" : story.schedule ? "fired" : "enqueued", atMs: before });
  history.filter((each) => each.atMs >= job.enqueuedMs).forEach((each, at) => {
    const began = each.atMs - each.runMs;
    steps.push({ ...run(each, at + history.length), gap: before && began >= before ? `${waited} ${span(began - before)}` : "" });
    before = each.atMs;
    waited = BETWEEN[each.outcome] || "waited";
  });
  return [...steps, present(story, before, nowMs)];
}

/** Where it is now, or how it ended. */
function present({ job, dead }, before, nowMs) {
  const [kind, title] = ENDS[job.state];
  const step = { key: "now", kind, title, now: true, atMs: 0, gap: "" };
  switch (job.state) {
    case "done":
      return { ...step, atMs: job.atMs, ran: span(job.runMs), engine: job.note };
    case "dead":
      return { ...step, atMs: job.atMs, told: dead?.reason || "" };
    case "delayed":
      return { ...step, atMs: job.atMs };
    case "active":
      return { ...step, title: `run ${job.attempts + 1}`, told: "runs now", engine: job.note };
    default:
      return { ...step, gap: before ? span(Math.max(0, nowMs - Math.max(before, job.atMs))) : "" };
  }
}

/** The time line; across on a wide screen, down on a phone. Finished jobs keep no attempts. */
export const Timeline = ({ story }) => html`<ol class="timeline" aria-label="What happened to this job">${stepsOf(story).map((step) => html`
  <li key=${step.key} class="${step.kind}${step.now ? " now" : ""}">${step.gap && html`<span class="gap">${step.gap}</span>`}
    <span class="knot"><${Sign} kind=${step.kind} /></span><span class="what"><b>${step.title}</b>${step.ran && html` <span>${step.ran}</span>`}
    ${step.told && html`<span class=${step.kind}>${step.told}</span>`}${step.atMs ? html`<small title=${moment(step.atMs, { day: true })}><${Ago} at=${step.atMs} /></small>` : ""}
    ${step.engine && html`<small class="mono">${step.engine}</small>`}</span></li>`)}</ol>`;

/** Every attempt that failed, with its error and where that came from; the last one is open. */
export function Attempts({ story }) {
  const failed = story.history.filter((each) => each.error);
  const last = story.dead && (!failed.length || failed.at(-1).error.message !== story.dead.error.message) ? story.dead.error : null;
  if (!failed.length && !last) return null;
  return html`<section aria-labelledby="errors"><div class="head"><h2 id="errors">Errors</h2><small>${story.job.attempts > story.history.length ? `the last ${story.history.length} of ${story.job.attempts} attempts are kept` : ""}</small></div>
    <div class="attempts">${last && html`<${Fault} key="end" title="Its end" error=${last} open=${true} />`}
    ${failed.map((each, at) => html`<${Fault} key=${`${each.number} ${each.atMs}`} engine=${each.engine} open=${!last && at === failed.length - 1} error=${each.error}
      title=${html`Attempt ${each.number} <small>${each.outcome} after ${each.runMs ? span(each.runMs) : "less than 1 ms"} on ${each.engine}, <${Ago} at=${each.atMs} /></small>`} />`).reverse()}</div></section>`;
}

const Fault = ({ title, error, open, engine }) => html`<details class="card" open=${open}><summary><span><b>${title}</b></span><span class="bad wrap">${error.kind}${error.message ? `: ${error.message.split("\n")[0]}` : ""}</span></summary>
  <div class="pad">${error.message?.includes("\n") && html`<${Code} text=${error.message} label="Message" />`}${error.traceback ? html`<${Code} text=${error.traceback} label="Traceback" />`
    : html`<p class="muted">The engine ended this attempt itself, so there is no traceback.</p>`}${engine && html`<p><a href=${path("engines", engine)}>Look at engine ${engine}</a></p>`}</div></details>`;
