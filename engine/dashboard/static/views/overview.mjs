// Everything at a glance: what is wrong, the queues, the engines, what happened.
import { html, useState } from "../lib/dom.mjs";
import { Action } from "../lib/actions.mjs";
import { path } from "../lib/api.mjs";
import { ChartPlace } from "../lib/chart_place.mjs";
import { EngineTable } from "../lib/engine_table.mjs";
import { moment, number, rate, span } from "../lib/format.mjs";
import { FirstJob, isFresh } from "../lib/first_job.mjs";
import { Happenings } from "../lib/happened.mjs";
import { useOverview } from "../lib/overview.mjs";
import { Age, Empty, Loading, Sign } from "../lib/parts.mjs";
import { concurrency } from "../lib/queue_actions.mjs";
import { Legend, QueueTable } from "../lib/queue_table.mjs";
import { Range, useRange } from "../lib/range.mjs";
import { useSparks } from "../lib/sparks.mjs";

const SHOWN = 6;

function Remedy({ trouble, queues }) {
  const stats = queues[trouble.queue]?.stats;
  if (trouble.button === "Raise concurrency" && stats) {
    const action = concurrency({ ...stats, concurrency: stats.concurrency });
    return html`<${Action} ...${action} label="Raise concurrency" title=${action.title} />`;
  }
  return trouble.href ? html`<a class="button" href=${trouble.href}>${trouble.button}</a>` : null;
}

function TroubleRow({ trouble, queues }) {
  const of = trouble.queue ? html`<a href=${path("queues", trouble.queue)}>${trouble.queue}</a>`
    : trouble.schedule ? html`<a href=${trouble.href}>${trouble.schedule}</a>` : trouble.engine ? html`<a href=${path("engines", trouble.engine)}>${trouble.engine}</a>` : trouble.check === "served" ? "engines" : "server";
  return html`<li><${Sign} kind=${trouble.kind} /><b class="of">${of}</b>
    <p><b>${trouble.what}</b> ${trouble.evidence}${" "}<span class="muted">Since ${moment(trouble.sinceMs, { seconds: false })}.${trouble.href ? "" : ` To do: ${trouble.action}.`}</span></p>
    <${Remedy} trouble=${trouble} queues=${queues} /></li>`;
}

function Verdict({ data }) {
  const [all, showAll] = useState(false);
  const { verdict, troubles } = data;
  const shown = all ? troubles : troubles.slice(0, SHOWN);
  return html`<section class="card verdict ${verdict.kind}" aria-label="Verdict"><h1>${verdict.title}${troubles.length > 0 && verdict.note && html`<small>${verdict.note}</small>`}</h1>
    <ul>${shown.map((trouble) => html`<${TroubleRow} key=${trouble.key} trouble=${trouble} queues=${data.queues} />`)}
      ${!troubles.length && html`<li><${Sign} kind="well" /><p>${verdict.note}</p></li>`}
      ${troubles.length > SHOWN && html`<li><button type="button" class="link" onClick=${() => showAll(!all)}>${all ? "Show fewer" : `Show ${troubles.length - SHOWN} more`}</button></li>`}</ul></section>`;
}

const Figure = ({ name, kind = "", value, unit = "", children }) => html`<div><dt>${name}</dt><dd class=${kind}><b>${value}</b>${unit}${" "}${children}</dd></div>`;

function Totals({ data }) {
  const { totals, queues } = data;
  const late = queues[totals.oldestQueue]?.state.kind;
  const [done, per] = rate(totals.doneS).split("/");
  const growth = totals.waitingGrowthS;
  const apart = totals.engines - totals.enginesLive;
  return html`<dl class="card figures">
    <${Figure} name="Oldest waiting" kind=${late === "bad" || late === "warn" ? "bad" : ""} value=${totals.oldestQueue ? span(totals.oldestMs) : "—"}><span class="muted">${totals.oldestQueue || (totals.waiting ? "only in paused queues" : "nothing waits")}</span><//>
    <${Figure} name="Waiting" value=${number(totals.waiting)}>${growth ? `${growth > 0 ? "+" : "−"}${rate(Math.abs(growth))}` : ""}<//>
    <${Figure} name="Done" value=${done} unit=${per ? `/${per}` : ""} />
    ${totals.deadHour == null ? html`<${Figure} name="Dead letters" value=${number(totals.dead)}>kept<//>`
    : html`<${Figure} name="Dead, last hour" value=${number(totals.deadHour)}>of ${number(totals.dead)}<//>`}
    <${Figure} name="Engines" kind=${apart ? "bad" : ""} value=${number(totals.enginesLive)}>of ${number(totals.engines)} beating${totals.slow ? `, ${totals.slow} slow` : ""}<//></dl>`;
}

const loadCharts = () => import("./overview_charts.mjs");

const Nothing = () => html`<${Empty}><b>No queue is known yet.</b><br />Start an engine with your handlers: <code>python -m engine dev</code>, then send a first job: <a href="/about">it takes one line</a>.<//>`;

export default function Overview() {
  const { data, trouble } = useOverview();
  const range = useRange();
  const sparks = useSparks(data ? data.order : [], range);
  if (!data) return trouble ? html`<${Age} trouble=${trouble} />` : html`<${Loading} />`;
  const versions = Object.keys(data.totals.versions).length;
  return html`<${Verdict} data=${data} />${data.order.length > 0 && isFresh(data.queues) && html`<${FirstJob} />`}<${Totals} data=${data} />
    <div class="head"><h2>Queues</h2><small class="muted">worst first</small><div class="buttons"><${Legend} /><${Range} value=${range} /></div></div>
    ${data.order.length ? html`<${QueueTable} queues=${data.queues} order=${data.order} sparks=${sparks} />` : html`<div class="card"><${Nothing} /></div>`}
    <div class="head"><h2>All queues together</h2></div><${ChartPlace} load=${loadCharts} range=${range} />
    <div class="columns wide-left"><section><div class="head"><h2>Engines</h2>${data.engineOrder.length < data.totals.engines && html`<small class="muted">worst ${data.engineOrder.length} of ${data.totals.engines}</small>`}</div>
      <${EngineTable} engines=${data.engines} order=${data.engineOrder} short=${true}><a href="/engines">${data.totals.engines > 1 ? `All ${data.totals.engines} engines` : "All engines"}</a>${versions > 1 ? ` · ${versions} versions run` : ""}<//></section>
    <section><div class="head"><h2>What happened</h2></div><div class="card">${data.happened.length ? html`<${Happenings} list=${data.happened} />` : html`<${Empty}>Nobody changed anything yet.<//>`}
      <p class="more-link"><a href="/audit">The whole audit</a></p></div></section></div>`;
}
