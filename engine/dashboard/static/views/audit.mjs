// Who changed what, when and why. The filters live in the address.
import { html, useEffect, useState } from "../lib/dom.mjs";
import { get, path, url } from "../lib/api.mjs";
import { useLive } from "../lib/live.mjs";
import { Age, Ago, Empty, Failed, Loading, Table } from "../lib/parts.mjs";
import { setQuery } from "../lib/router.mjs";

const LIMIT = 50;
const COLUMNS = [{ name: "When" }, { name: "Who" }, { name: "What" }, { name: "Queue" }, { name: "About" }, { name: "Reason" }];

const shown = (value) => (value && typeof value === "object" ? JSON.stringify(value) : String(value));
const without = new Set(["id", "entry", "operation"]);
const plain = new Set(["pause", "resume"]);
const twice = new Set(["hold", "release"]);

/** What a change was about: links to the job or the operation, then whatever else is told. */
function About({ entry: { queue, detail, what } }) {
  // Of what is switched, before and after say no more than the word itself.
  const rest = plain.has(what) ? [] : Object.entries(detail).filter(([name, value]) => !without.has(name) && !(twice.has(what) && ["before", "after"].includes(name)) && value !== "" && value != null);
  return html`${detail.id && queue && html`<a class="mono" href=${path("jobs", queue, String(detail.id))}>${detail.id}</a> `}
    ${detail.operation && queue && html`<a href=${path("operations", queue, String(detail.operation))}>operation ${detail.operation}</a> `}
    ${rest.map(([name, value]) => html`<span class="about" key=${name}><span class="muted">${name}</span> <span class="mono">${shown(value)}</span></span>`)}`;
}

const Row = ({ entry }) => html`<tr><td><${Ago} at=${entry.at} /></td>
  <td><button type="button" class="link" title="Only by this one" onClick=${() => setQuery({ who: entry.who })}>${entry.who}</button></td>
  <th scope="row">${entry.what}</th>
  <td>${entry.queue && html`<a href=${path("queues", entry.queue)}>${entry.queue}</a>`}</td>
  <td class="wrap"><${About} entry=${entry} /></td><td class="wrap">${entry.reason || html`<span class="muted">none given</span>`}</td></tr>`;

function Filters({ queue, who }) {
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    setQuery({ queue: form.get("queue").trim(), who: form.get("who").trim() });
  };
  return html`<form class="filters" key=${`${queue} ${who}`} onSubmit=${submit}>
    <label>Queue <input name="queue" defaultValue=${queue} placeholder="all" maxlength="64" /></label>
    <label>Who <input name="who" defaultValue=${who} placeholder="everybody" maxlength="200" /></label>
    <button>Show</button>
    ${(queue || who) && html`<button type="button" class="plain" onClick=${() => setQuery({ queue: "", who: "" })}>Show all</button>`}</form>`;
}

/** Further pages below the live one; forgotten when the filters change. */
function useOlder(filter, first) {
  const [state, setState] = useState({ entries: [], cursor: null, busy: false, error: null });
  useEffect(() => setState({ entries: [], cursor: null, busy: false, error: null }), [filter.queue, filter.who]);
  const cursor = state.cursor ?? first?.cursor;
  const more = async () => {
    setState((known) => ({ ...known, busy: true, error: null }));
    try {
      const page = await get(url("/api/audit", { ...filter, limit: LIMIT, cursor }));
      setState((known) => ({ ...known, busy: false, cursor: page.cursor, entries: [...known.entries, ...page.entries] }));
    } catch (error) {
      setState((known) => ({ ...known, busy: false, error }));
    }
  };
  return { ...state, cursor, more };
}

export default function Audit({ query: { queue = "", who = "" } }) {
  const filter = { queue, who };
  const { data, trouble, status, at } = useLive(url("/api/audit", { ...filter, limit: LIMIT }));
  const older = useOlder(filter, data);
  useEffect(() => { document.title = "Audit – Streamlane"; }, []);
  const known = new Set((data?.entries || []).map(({ id }) => id));
  const entries = [...(data?.entries || []), ...older.entries.filter(({ id }) => !known.has(id))];
  return html`<div class="title"><h1>Audit</h1><span class="muted">What people changed, the last 10,000 changes</span></div>
    <${Filters} ...${filter} />
    ${!data ? (trouble ? html`<${Failed} error=${{ title: "not shown", message: trouble, status }} />` : html`<${Loading} />`) : html`
      <${Age} at=${at} trouble=${trouble} />
      ${entries.length ? html`<${Table} name="Changes" columns=${COLUMNS} kind="audit">
        ${entries.map((entry) => html`<${Row} key=${entry.id} entry=${entry} />`)}<//>`
        : html`<${Empty}>${queue || who ? "Nothing was changed that fits the filter" : "Nobody has changed anything yet"}${older.cursor ? " so far" : ""}.
          Every pause, retry, cancel and setting will stand here, with who did it and why.<//>`}
      ${older.error && html`<${Failed} error=${older.error} again=${older.more} />`}
      ${older.cursor && html`<p class="more-of"><button type="button" disabled=${older.busy} onClick=${older.more}>${older.busy ? "Looking…" : "Show older"}</button></p>`}`}`;
}
