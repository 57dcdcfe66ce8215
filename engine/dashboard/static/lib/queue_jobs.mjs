// The jobs of one queue by state, with filters that live in the address.
import { html, useEffect } from "./dom.mjs";
import { path, url } from "./api.mjs";
import { serverNow, zone } from "./format.mjs";
import { Tabs } from "./parts.mjs";
import { setQuery } from "./router.mjs";
import { JobTable, STATES } from "./job_table.mjs";
import { LANES } from "./job_steps.mjs";
import { useNews, useScan } from "./scan.mjs";

const SPANS = [["300000", "5 minutes"], ["3600000", "hour"], ["86400000", "day"]];
const OLDEST_LAST = new Set(["done", "dead"]);

// The states that a list is shown for even when it is empty.
const ALWAYS = new Set(["waiting", "active", "delayed", "done", "dead"]);

const EMPTY = {
  waiting: html`<b>Nothing waits.</b> Every job that was sent is running, waits for its time, or has ended.`,
  active: html`<b>Nothing runs.</b> Jobs appear here while an engine has them.`,
  delayed: html`<b>Nothing is delayed.</b> Here stand jobs that were sent with a delay, and failed ones that wait for their retry.`,
  parked: html`<b>Nothing is parked.</b> Here stand jobs behind another of their key, or behind a limit.`,
  held: html`<b>No type is held.</b> Jobs of a held type are set aside here until somebody releases it.`,
  "waiting-children": html`<b>No job waits for others.</b> Parents stand here until their children have ended.`,
  done: html`<b>No finished job is kept.</b> Finished jobs can be looked at for a while, as the settings of the engines say.`,
  dead: html`<b>Nothing is dead.</b> Jobs that gave up come here, and stay until somebody retries or discards them.`,
};

const toInput = (ms) => {
  if (!ms) return "";
  const offset = zone() === "UTC" ? 0 : new Date(Number(ms)).getTimezoneOffset() * 60_000;
  return new Date(Number(ms) - offset).toISOString().slice(0, 16);
};
const fromInput = (text) => (text ? Date.parse(zone() === "UTC" ? `${text}Z` : text) : "");

function Times({ state, query }) {
  const ahead = state === "delayed";
  const custom = query.from || query.to || query.times;
  const pick = (event) => {
    const ms = Number(event.target.value);
    if (event.target.value === "custom") setQuery({ times: 1 });
    else if (!ms) setQuery({ from: "", to: "", times: "" });
    else if (ahead) setQuery({ from: "", to: Math.round(serverNow() + ms), times: "" });
    else setQuery({ from: Math.round(serverNow() - ms), to: "", times: "" });
  };
  return html`<label>${ahead ? "Due" : "Time"}<select value=${custom ? "custom" : ""} onChange=${pick}><option value="">any time</option>
    ${SPANS.map(([ms, name]) => html`<option key=${ms} value=${ms}>${ahead ? `within the ${name === "hour" || name === "day" ? "next " : "next "}${name}` : `the last ${name}`}</option>`)}<option value="custom">from … to …</option></select></label>
    ${custom && html`<label>From<input type="datetime-local" value=${toInput(query.from)} onChange=${(event) => setQuery({ from: fromInput(event.target.value), times: 1 })} /></label>
    <label>To<input type="datetime-local" value=${toInput(query.to)} onChange=${(event) => setQuery({ to: fromInput(event.target.value), times: 1 })} /></label>`}`;
}

function Filters({ state, query, types }) {
  const submit = (event) => {
    event.preventDefault();
    const given = new FormData(event.target);
    setQuery({ id: given.get("id").trim(), text: given.get("text").trim() });
  };
  const any = ["type", "id", "text", "lane", "from", "to"].some((name) => query[name]);
  return html`<form class="filters" role="search" aria-label="Filter these jobs" onSubmit=${submit}>
    <label>Type<select value=${query.type || ""} onChange=${(event) => setQuery({ type: event.target.value })}><option value="">all</option>
      ${types.map((type) => html`<option key=${type}>${type}</option>`)}</select></label>
    <label>Lane<select value=${query.lane || ""} onChange=${(event) => setQuery({ lane: event.target.value })}><option value="">all</option>
      ${LANES.map((lane) => html`<option key=${lane}>${lane}</option>`)}</select></label>
    <label>Id<input name="id" defaultValue=${query.id || ""} key=${`id ${query.id}`} autocomplete="off" spellcheck="false" placeholder="whole id" /></label>
    <label class="grow">Text<input name="text" maxlength="200" defaultValue=${query.text || ""} key=${`text ${query.text}`} autocomplete="off" spellcheck="false" placeholder="in the payload, its fields or the error" /></label>
    <${Times} state=${state} query=${query} />
    <div class="buttons"><button>Filter</button>${any && html`<button type="button" class="plain" onClick=${() => setQuery({ type: "", id: "", text: "", lane: "", from: "", to: "", times: "" })}>Clear</button>`}</div></form>`;
}

/** Tabs by state, filters, and the jobs. */
export function QueueJobs({ queue, query, look }) {
  const found = STATES.find(([name]) => name === query.state);
  const state = found ? found[0] : "waiting";
  const { type, id, text, lane, from, to } = query;
  const address = url(`/api${path("queues", queue, "jobs")}`, { state, type, id, text, lane, from, to, limit: 50 });
  const list = useScan(address);
  const filtered = Boolean(type || id || text || lane || from || to);
  const news = useNews(address, list.jobs, { on: !list.busy && list.requests === 1 && !text && !id, headFirst: !OLDEST_LAST.has(state) });
  useEffect(() => {
    // On a phone the tabs scroll; the one that is looked at is brought into sight.
    const tab = document.querySelector(".queue-jobs .tabs [aria-pressed=true]");
    if (tab) tab.parentElement.scrollLeft = tab.offsetLeft - tab.parentElement.offsetLeft - 48;
  }, [state]);
  const tabs = STATES.filter(([name]) => ALWAYS.has(name) || look.states[name] || name === state)
    .map(([key, label]) => ({ key, label, count: look.states[key] }));
  return html`<section aria-labelledby="jobs" class="queue-jobs"><div class="head"><h2 id="jobs">Jobs</h2></div>
    <${Tabs} name="Jobs by state" of=${tabs} value=${state} onPick=${(key) => setQuery({ state: key === "waiting" ? "" : key })} />
    <${Filters} state=${state} query=${query} types=${look.types.map((each) => each.type)} />
    <${JobTable} name=${`Jobs: ${state}`} list=${list} news=${news} state=${state} filtered=${filtered}
      empty=${filtered ? html`<b>No ${state} job fits this filter</b> among the ${list.searched.toLocaleString("en-GB")} that were looked at.` : EMPTY[state]} /></section>`;
}
