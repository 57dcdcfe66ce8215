// What people changed, in sentences.
import { html } from "./dom.mjs";
import { path } from "./api.mjs";
import { moment, iso } from "./format.mjs";

const SAID = {
  pause: "paused", resume: "resumed", concurrency: "set the concurrency of", bounds: "set the bounds of", hold: "held", release: "released",
  order: "set the order of", "limit-set": "set limit", "limit-clear": "cleared limit", "limit-shut": "shut limit", "limit-open": "opened limit",
  "schedule-add": "added schedule", "schedule-change": "changed schedule", "schedule-pause": "paused schedule", "schedule-resume": "resumed schedule",
  "schedule-delete": "deleted schedule", "schedule-run": "ran schedule", "dead-retry": "retried dead letters of", "dead-discard": "discarded dead letters of",
  "retry-start": "began to retry dead letters of", "retry-stop": "stopped a retry in", "retry-resume": "let a retry go on in", "retry-undo": "undid a retry in", "retry-undone": "has undone a retry in", "retry-end": "finished a retry in",
  "discard-start": "began to discard dead letters of", "discard-stop": "stopped a discard in", "discard-resume": "let a discard go on in", "discard-undo": "took back a discard in", "discard-end": "finished a discard in",
  cancel: "cancelled", reschedule: "rescheduled", "run-now": "ran now", priority: "moved to another lane",
  retry: "retried", "edit-retry": "edited and retried", discard: "discarded",
};

/** The words of one change: who, what they did, and to what. */
export function Happening({ of }) {
  const { detail } = of;
  const thing = detail.schedule || detail.limit || (detail.type && typeof detail.type === "string" ? detail.type : "") || detail.job || "";
  const link = of.queue && html`<a href=${path("queues", of.queue)}>${of.queue}</a>`;
  const after = of.what === "concurrency" ? ` to ${detail.after || "what engines are set to"}` : "";
  const jobs = detail.jobs ? `, ${detail.jobs} jobs` : "";
  return html`<span class="happening"><b>${of.who}</b> ${SAID[of.what] || of.what} ${thing && html`<code>${thing}</code> `}${thing && link ? "of " : ""}${link}${after}${jobs}${of.reason && `, “${of.reason}”`}</span>`;
}

/** Changes, the newest first. */
export const Happenings = ({ list }) => html`<ol class="happened">${list.map((each) => html`
  <li key=${`${each.at} ${each.what} ${each.queue}`}><time class="muted" datetime=${iso(each.at)} title=${iso(each.at)}>${moment(each.at)}</time><${Happening} of=${each} /></li>`)}</ol>`;
