// One bulk operation: how far it is, and stop, go on or undo.
import { html, useEffect } from "../lib/dom.mjs";
import { path } from "../lib/api.mjs";
import { number, span } from "../lib/format.mjs";
import { useLive } from "../lib/live.mjs";
import { about, OperationActions, OperationBar, OperationState, remaining, shares } from "../lib/operations.mjs";
import { Age, Ago, Copy, Empty, Facts, Loading, Why } from "../lib/parts.mjs";

const SAID = {
  waiting: "Nothing is dropped yet; until then it can be undone.",
  watching: "The first jobs were sent; the others follow once these have ended well.",
  following: "All jobs were sent; those that are left run, wait in their lanes, or wait for a retry.",
  undoing: "Jobs that have not started become dead letters again, as they were.",
};

const Legend = ({ of }) => html`<ul class="operation-legend">${shares(of).filter(([name, , jobs]) => jobs || ["done", "died again", "dropped"].includes(name)).map(([name, kind, jobs]) => html`
  <li key=${name}><svg width="10" height="10" aria-hidden="true"><rect class=${`part-${kind}`} width="10" height="10" /></svg><b>${jobs.toLocaleString("en-GB")}</b> ${name}</li>`)}</ul>`;

function Unable({ of }) {
  const rows = [...Object.entries(of.unable), ...(of.gone ? [["somebody else had taken them", of.gone]] : [])];
  return rows.length > 0 && html`<p class="muted">${rows.map(([why, jobs]) => `${number(jobs)} left out: ${why}`).join("; ")}.</p>`;
}

export default function OperationView({ queue, id }) {
  const { data: of, trouble, status, at } = useLive(`/api${path("operations", queue, id)}`);
  useEffect(() => { document.title = `${of ? (of.record.action === "retry" ? "Retry" : "Discard") : "Operation"} of ${queue} – Streamlane`; }, [queue, !of]);
  if (!of) {
    if (status === 404) return html`<div class="card"><${Empty}><b>There is no such operation any more.</b> <a href="/operations">All operations</a><//></div>`;
    return trouble ? html`<${Age} trouble=${trouble} />` : html`<${Loading} />`;
  }
  const { record } = of;
  const { filter } = record;
  const verb = record.action === "retry" ? "Retry" : "Discard";
  return html`<${Age} at=${at} trouble=${trouble} /><p><a href="/operations">Operations</a> / <a href=${path("queues", queue)}>${queue}</a></p>
    <div class="title"><h1>${verb} ${record.exact ? "" : "≈ "}${record.planned.toLocaleString("en-GB")} ${record.planned === 1 ? "job" : "jobs"} of ${queue}</h1><${OperationState} of=${of} /><${OperationActions} of=${of} /></div>
    <${Why} text=${record.why} kind=${record.why.startsWith("the canary") ? "bad" : ""} />
    <section class="card pad operation" aria-label="How far it is"><${OperationBar} of=${of} height=${20} /><${Legend} of=${of} />
      <p class="muted" role="status">${remaining(of) || SAID[record.state] || ""}</p><${Unable} of=${of} /></section>
    <div class="card pad"><${Facts} rows=${[
      ["Which", filter.fingerprint ? html`<a href=${path("dead", queue, filter.fingerprint)}>${about(of)}</a>` : about(of)],
      ["Rate", `${record.rate} a second`], ["Canary", record.canary > 0 ? `${record.canary} first, stops over ${Math.round(record.canaryDeadMax * 100)} % dead` : ""],
      ["Started", html`<${Ago} at=${record.startedMs} /> by ${record.who}`], ["Reason", record.reason],
      ["Took", ["finished", "undone", "stopped"].includes(record.state) ? span(record.sinceMs - record.startedMs) : ""],
      ["Name", html`<span class="mono">${record.id}</span> <${Copy} text=${`python -m engine operations show ${queue} ${record.id} --watch`} label="Copy command" />`]]} /></div>`;
}
