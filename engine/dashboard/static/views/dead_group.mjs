// One group of dead letters: its error, how fast it grows, some of its jobs, and what to do.
import { html, useEffect } from "../lib/dom.mjs";
import { may, path } from "../lib/api.mjs";
import { number, span } from "../lib/format.mjs";
import { useLive } from "../lib/live.mjs";
import { OperationBar, OperationState } from "../lib/operations.mjs";
import { Age, Ago, Code, Copy, Empty, Facts, Loading, Sign, Spark, Table } from "../lib/parts.mjs";
import { errorLine, PlanButtons } from "../lib/plan.mjs";

function Sample({ job, queue }) {
  const { error } = job;
  return html`<details class="sample"><summary><span class="mono">${job.id}</span>
    <span class="grow">${job.rule ? `broke the rule ${job.rule}${job.path ? ` at ${job.path}` : ""}` : error.message || error.kind}</span>
    <span class="muted">${job.attempts} ${job.attempts === 1 ? "attempt" : "attempts"}${job.redrives ? `, brought back ${job.redrives} ×` : ""}</span><${Ago} at=${job.atMs} /></summary>
    <div class="pad"><p><a href=${`${path("jobs", queue, job.id)}?${new URLSearchParams({ at: `dead/${job.entry}` })}`}>The whole job: payload, attempts, what can be done</a></p>${job.unable && html`<p class="warn">Cannot be brought back: ${job.unable}.</p>`}
      ${error.traceback ? html`<${Code} text=${error.traceback} label=${`Traceback of ${job.id}`} />` : html`<p class="muted">No traceback was kept.</p>`}</div></details>`;
}

const Past = ({ list, queue }) => html`<div class="head"><h2>Operations on it</h2></div>
  <${Table} name="Operations on this group" columns=${[{ name: "Operation" }, { name: "State" }, { name: "How far" }, { name: "Started", num: true }, { name: "By" }]}>${list.map((of) => html`
    <tr key=${of.record.id}><th scope="row"><a href=${path("operations", queue, of.record.id)}>${of.record.action} ${number(of.record.planned)}</a></th><td><${OperationState} of=${of} /></td>
    <td class="bar-cell"><${OperationBar} of=${of} /></td><td class="num"><${Ago} at=${of.record.startedMs} /></td><td>${of.record.who}</td></tr>`)}<//>`;

export default function DeadGroup({ queue, fingerprint }) {
  const { data, trouble, status, at } = useLive(`/api${path("dead", queue, fingerprint)}`);
  useEffect(() => { document.title = `Dead letters of ${queue} – Streamlane`; }, [queue]);
  if (!data) {
    if (status === 404) return html`<div class="card"><${Empty}><b>No job of this group is dead.</b><br />They were retried or discarded. <a href="/dead">All dead letters</a><//></div>`;
    return trouble ? html`<${Age} trouble=${trouble} />` : html`<${Loading} />`;
  }
  const { row, samples, operations } = data;
  const { group } = row;
  const many = `${group.jobs.toLocaleString("en-GB")} ${group.jobs === 1 ? "job" : "jobs"}`;
  const able = may("operate") && group.jobs > 0;
  const why = group.jobs ? "This needs the scope “operate”." : "No job of it is dead any more.";
  return html`<${Age} at=${at} trouble=${trouble} /><p><a href="/dead">Dead letters</a> / <a href=${`/dead?${new URLSearchParams({ queue })}`}>${queue}</a></p>
    <div class="title"><h1><${Sign} kind=${group.jobs ? "bad" : "well"} /> ${errorLine(group)}</h1>
      <div class="buttons"><${PlanButtons} queue=${queue} filter=${{ fingerprint }} title=${`${many} of this group`} able=${able} why=${why} /></div></div>
    <div class="card pad group-facts"><${Facts} rows=${[
      ["Jobs", html`<b>${group.jobs.toLocaleString("en-GB")}</b>`], ["Error", html`<span class="mono">${group.kind}</span>`], ["Type", group.type], ["Reason", group.reason],
      ["First", group.firstMs && html`<${Ago} at=${group.firstMs} />`], ["Last", group.lastMs && html`<${Ago} at=${group.lastMs} />`],
      ["Over", group.lastMs > group.firstMs ? span(group.lastMs - group.firstMs) : ""],
      ["Last hour", row.hour == null ? "" : `${number(row.hour)} ${row.hour === 1 ? "death" : "deaths"}`],
      ["Last day", row.deaths && html`<${Spark} bars=${[{ kind: "dead", values: row.deaths }]} width=${200} title="Deaths by the quarter of an hour over the last day" />`],
      ["Group", html`<span class="mono">${fingerprint}</span> <${Copy} text=${`python -m engine dead retry ${queue} --fingerprint ${fingerprint} --dry-run`} label="Copy command" />`]]} /></div>
    ${operations.length > 0 && html`<${Past} list=${operations} queue=${queue} />`}
    <div class="head"><h2>Samples</h2><small>the latest ${samples.length} of ${group.jobs.toLocaleString("en-GB")}</small></div>
    <div class="card samples">${samples.length ? samples.map((job) => html`<${Sample} key=${job.entry} job=${job} queue=${queue} />`)
    : html`<${Empty}>${group.jobs ? `None among the latest ${number(data.searched)} dead letters.` : "All were taken away."}<//>`}</div>`;
}
