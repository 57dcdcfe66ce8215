// Dead letters of all queues, by what they died of.
import { html, useEffect, useRef, useState } from "../lib/dom.mjs";
import { may, path, url } from "../lib/api.mjs";
import { useCalmOrder } from "../lib/calm.mjs";
import { exact, number } from "../lib/format.mjs";
import { useLive } from "../lib/live.mjs";
import { Age, Ago, Count, Empty, Loading, Spark } from "../lib/parts.mjs";
import { errorLine, PlanButtons } from "../lib/plan.mjs";
import { setQuery } from "../lib/router.mjs";

const TIMES = { "": "any time", "1h": "last hour", "24h": "last day", "7d": "last week" };
const AGES = { "1h": 3_600_000, "24h": 86_400_000, "7d": 604_800_000 };
const MINUTE = 60_000;

/** From when on, kept still for a minute, so that one stream is followed. */
function useFrom(since) {
  const [from, set] = useState(0);
  useEffect(() => set(AGES[since] ? Math.floor((Date.now() - AGES[since]) / MINUTE) * MINUTE : 0), [since]);
  return from;
}

const Pick = ({ name, label, value, of }) => html`<label>${label}<select name=${name} value=${value} onChange=${(event) => setQuery({ [name]: event.target.value })}>
  ${of.map(([key, word]) => html`<option key=${key} value=${key}>${word}</option>`)}</select></label>`;

const options = (list, chosen) => [["", "all"], ...[...new Set([...list, ...(chosen ? [chosen] : [])])].map((name) => [name, name])];

function Filters({ data, query }) {
  const [typed, setTyped] = useState(query.text || "");
  const timer = useRef(0);
  useEffect(() => setTyped(query.text || ""), [query.text]);
  const type = (text) => {
    setTyped(text);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setQuery({ text: text.trim() }), 300);
  };
  return html`<form class="filters" role="search" aria-label="Filter groups" onSubmit=${(event) => event.preventDefault()}>
    <label class="grow">Text in the error<input type="search" value=${typed} maxlength="200" autocomplete="off" spellcheck="false" onInput=${(event) => type(event.target.value)} /></label>
    <${Pick} name="queue" label="Queue" value=${query.queue || ""} of=${options(Object.keys(data?.queues || {}), query.queue)} />
    <${Pick} name="type" label="Type" value=${query.type || ""} of=${options(data?.types || [], query.type)} />
    <${Pick} name="reason" label="Reason" value=${query.reason || ""} of=${options(data?.reasons || [], query.reason)} />
    <${Pick} name="since" label="Last death" value=${query.since || ""} of=${Object.entries(TIMES)} /></form>`;
}

function Row({ row }) {
  const { group, queue } = row;
  const href = path("dead", queue, group.fingerprint);
  const error = errorLine(group);
  const day = row.deaths?.reduce((sum, each) => sum + each, 0);
  return html`<tr role="row" class="d" data-row=${href}><th role="rowheader" scope="row" class="d-error"><a href=${href} title=${`${group.kind}: ${group.message}`}>${error}</a></th>
    <td role="cell" class="d-queue">${queue}</td><td role="cell" class="d-type">${group.type}</td><td role="cell" class="d-reason"><span class="muted">${group.reason}</span></td>
    <td role="cell" class="num d-jobs"><${Count} value=${group.jobs} kind="strong" /></td>
    <td role="cell" class="two d-rate"><span class=${row.hour ? "bad" : "muted"}>${row.hour == null ? "—" : row.hour ? `${number(row.hour)}/h` : "0/h"}</span>
      ${row.deaths && html`<${Spark} bars=${[{ kind: "dead", values: row.deaths }]} title=${`${number(day)} deaths within a day`} />`}</td>
    <td role="cell" class="num d-first"><span class="label">first </span><${Ago} at=${group.firstMs} /></td><td role="cell" class="num d-last"><span class="label">last </span><${Ago} at=${group.lastMs} /></td></tr>`;
}

const COLUMNS = [["Error"], ["Queue"], ["Type"], ["Reason"], ["Jobs", "num"], ["Last hour, and day", "two"], ["First", "num"], ["Last", "num"]];

function Groups({ data }) {
  const { ref, order } = useCalmOrder(data.order);
  return html`<div ref=${ref} class="card scroll dead" tabindex="0" role="region" aria-label="Groups of dead letters"><table role="table">
    <thead role="rowgroup"><tr role="row">${COLUMNS.map(([name, kind]) => html`<th key=${name} role="columnheader" scope="col" class=${kind}>${name}</th>`)}</tr></thead>
    <tbody role="rowgroup">${order.filter((key) => data.rows[key]).map((key) => html`<${Row} key=${key} row=${data.rows[key]} />`)}</tbody></table></div>
    ${data.more > 0 && html`<p class="muted">${number(data.more)} smaller groups are not shown; filter to find them.</p>`}`;
}

export default function Dead({ query }) {
  const from = useFrom(query.since || "");
  const { queue = "", type = "", reason = "", text = "" } = query;
  const { data, trouble, at } = useLive(url("/api/dead", { queue, type, reason, text, from: from || "" }));
  useEffect(() => { document.title = "Dead letters – Streamlane"; }, []);
  const filtered = type || reason || text || query.since;
  const able = queue && !text && !query.since && data?.matched > 0;
  const why = data?.matched === 0 ? "No dead letter fits." : !queue ? "Choose a queue: an operation works on one." : "Filters by text or time choose groups; open one of them.";
  return html`<${Age} at=${at} trouble=${trouble} />
    <div class="title"><h1>Dead letters</h1>${data && html`<span class="muted">${exact(data.matched)} in ${number(data.order.length + data.more)} ${data.order.length + data.more === 1 ? "group" : "groups"}${data.dead !== data.matched ? ` of ${exact(data.dead)}` : ""}</span>`}
      <div class="buttons"><${PlanButtons} queue=${queue} filter=${{ type, reason }} title=${`${[type, reason].filter(Boolean).join(", ") || "all dead letters"} of ${queue}`} able=${may("operate") && able} why=${may("operate") ? why : "This needs the scope “operate”."} />
      <a class="button" href="/operations">Operations</a></div></div>
    <${Filters} data=${data} query=${query} />
    ${!data ? !trouble && html`<${Loading} />` : data.order.length ? html`<${Groups} data=${data} />`
    : html`<div class="card"><${Empty}>${filtered || queue ? html`<b>No group fits.</b> <button type="button" class="link" onClick=${() => setQuery({ queue: "", type: "", reason: "", text: "", since: "" })}>Show all</button>`
      : html`<b>No job is dead.</b><br />Jobs come here when their attempts are used up, when they cannot be read, or when they are cancelled; they stay until somebody retries or discards them.`}<//></div>`}`;
}
