// How bulk operations look: their state, how far they are, what can be done with them.
import { html } from "./dom.mjs";
import { Action } from "./actions.mjs";
import { path, post } from "./api.mjs";
import { number, span } from "./format.mjs";
import { State } from "./parts.mjs";

const STATES = {
  waiting: ["delayed", "starts soon"], discarding: ["active", "discarding"], canary: ["active", "sending the canary"],
  watching: ["delayed", "watching the canary"], releasing: ["active", "releasing"], following: ["active", "waiting for ends"],
  stopped: ["paused", "stopped"], undoing: ["active", "undoing"], finished: ["well", "finished"], undone: ["paused", "undone"],
};

/** The state of an operation in its sign and words. */
export function OperationState({ of }) {
  const { state, why } = of.record;
  const [kind, word] = STATES[state] || ["unknown", state];
  return html`<${State} kind=${state === "stopped" && why.startsWith("the canary") ? "bad" : kind} word=${word} />`;
}

export const isLive = ({ record }) => !["stopped", "finished", "undone"].includes(record.state);

/** What an operation is about, in words. */
export function about({ record }) {
  const { filter } = record;
  const parts = [filter.type && `type ${filter.type}`, filter.reason && `reason ${filter.reason}`, filter.fingerprint && `group ${filter.fingerprint}`,
    filter.text && `“${filter.text}”`, filter.ids?.length && `${filter.ids.length} chosen jobs`, (filter.afterMs || filter.beforeMs) && "of a time"];
  return parts.filter(Boolean).join(", ") || "all dead letters";
}

/** The parts of an operation's jobs, in the order in which they go through it. */
export function shares(of) {
  if (of.record.action === "discard") return [["dropped", "dead", of.moved], ["left", "left", of.left]];
  const under = Math.max(0, of.released - of.done - of.diedAgain);
  return [["done", "done", of.done], ["died again", "dead", of.diedAgain], ["released", "active", under],
    ["waiting for their time", "delayed", of.waiting], ["undone", "undone", of.undone], ["still dead", "left", of.left]];
}

const WIDTH = 1000;

/** One bar of all its jobs; each part keeps its place. */
export function OperationBar({ of, height = 12 }) {
  const parts = shares(of).filter(([, , jobs]) => jobs > 0);
  const total = parts.reduce((sum, [, , jobs]) => sum + jobs, 0);
  const told = parts.map(([name, , jobs]) => `${jobs.toLocaleString("en-GB")} ${name}`).join(", ") || "nothing yet";
  let at = 0;
  return html`<svg class="operation-bar" viewBox=${`0 0 ${WIDTH} ${height}`} preserveAspectRatio="none" role="img" aria-label=${told}><title>${told}</title>
    <rect class="part-left" width=${WIDTH} height=${height} />${parts.map(([name, kind, jobs]) => {
    const x = at;
    at += jobs / total * WIDTH;
    return html`<rect key=${name} class=${`part-${kind}`} x=${x.toFixed(1)} width=${Math.max(at - x - 2, 1).toFixed(1)} height=${height} />`;
  })}</svg>`;
}

/** How long it will go on, as far as its pace tells. */
export function remaining(of) {
  const { state, rate, commitMs } = of.record;
  if (state === "waiting") return `begins in ${span(Math.max(0, commitMs - of.nowMs))}`;
  const ahead = of.left + of.waiting;
  if (!["releasing", "discarding"].includes(state) || !ahead) return "";
  return `about ${span(Math.max(1, Math.round(ahead / rate)) * 1000)} to go`;
}

const turn = (of, verb, text) => async (reason) => {
  const told = await post(`/api${path("operations", of.record.queue, of.record.id, verb)}`, { reason: reason || "" });
  return text(told);
};

/** Stop, go on, undo: what is possible now. */
export function OperationActions({ of }) {
  const { record, can } = of;
  const overruled = record.why.startsWith("the canary");
  return html`<div class="buttons">
    ${can.includes("stop") && html`<${Action} key="stop" label="Stop" run=${turn(of, "stop", () => "Stopped; no further job is moved.")} />`}
    ${can.includes("resume") && html`<${Action} key="resume" label=${overruled ? "Go on all the same…" : "Go on"} verb="Go on" reason=${overruled}
      body=${overruled && html`<p>${record.why}. The other jobs follow without a canary.</p>`} run=${turn(of, "resume", () => "It goes on.")} />`}
    ${can.includes("undo") && html`<${Action} key="undo" kind="danger" label=${record.action === "discard" ? "Undo" : `Undo, up to ${number(of.undoable)}`}
      run=${turn(of, "undo", () => (record.action === "discard" ? "Nothing is dropped." : "Jobs that have not started become dead letters again."))} />`}</div>`;
}
