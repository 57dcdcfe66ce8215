// For newcomers: what this is, how a first job is sent, what each type takes, what the words mean.
import { html, useState } from "../lib/dom.mjs";
import { path } from "../lib/api.mjs";
import { commands, problemOf } from "../lib/send_lines.mjs";
import { useOnce } from "../lib/live.mjs";
import { Code, Copy, Facts, Failed, Loading, Table } from "../lib/parts.mjs";
import { setQuery } from "../lib/router.mjs";

const WORDS = [
  ["Job", "A piece of work: a type and a payload, sent once by a producer."],
  ["Type", "What kind of work; the engine has one handler for each."],
  ["Queue", "Where jobs of some types wait. Its jobs can be paused and bounded together."],
  ["Lane", "Jobs of a queue wait in four lanes: critical goes before all others; high, normal and low share by weight."],
  ["Engine", "A process that takes jobs and runs them. Any number may serve the same queues."],
  ["Attempt", "One run of a job. A failed one is tried again after a growing delay, as often as its type allows."],
  ["Delayed", "Jobs that wait for a moment: an own delay, a retry, a schedule."],
  ["Dead letter", "A job that was given up. It stays until somebody retries or discards it; alike ones make a group."],
  ["Held type", "A type whose jobs are set aside, since all of them would fail now; they come back by themselves on release."],
  ["Paused", "Somebody stopped starting jobs of a queue. Jobs wait, and none is lost."],
];

function Fields({ schema }) {
  const defs = schema.$defs || {};
  const root = schema.$ref ? defs[schema.$ref.split("/").pop()] : schema;
  const kindOf = (each) => (each.$ref ? kindOf(defs[each.$ref.split("/").pop()] || {}) : each.enum ? each.enum.map((one) => JSON.stringify(one)).join(" | ")
    : each.anyOf ? each.anyOf.map(kindOf).join(" or ") : each.type === "array" ? `${kindOf(each.items || {})}[]` : [each.format || each.type || each.title || "anything"].flat().join(" or "));
  const bounds = (each) => Object.entries({ minLength: "≥ ? characters", maxLength: "≤ ? characters", minimum: "≥ ?", maximum: "≤ ?", exclusiveMinimum: "> ?", exclusiveMaximum: "< ?", minItems: "≥ ? of them", maxItems: "≤ ? of them", pattern: "?" })
    .filter(([name]) => each[name] != null).map(([name, said]) => said.replace("?", each[name])).join(", ");
  const rows = Object.entries(root?.properties || {});
  if (!rows.length) return html`<p class="muted">Any JSON object; this type names no fields.</p>`;
  const required = new Set(root.required || []);
  return html`<${Table} name="Fields of the payload" kind="dense" columns=${[{ name: "Field" }, { name: "What" }, { name: "Bounds" }]}>
    ${rows.map(([name, each]) => html`<tr key=${name}><th scope="row" class="mono">${name}</th><td class="wrap">${kindOf(each)} ${!required.has(name) && html`<span class="muted">optional${each.default != null && typeof each.default !== "object" ? `, else ${JSON.stringify(each.default)}` : ""}</span>`}</td>
      <td class="wrap muted">${[bounds(each), each.description].filter(Boolean).join("; ")}</td></tr>`)}<//>`;
}

/** Writes the lines that send one job. */
function Builder({ about, picked }) {
  const [lane, setLane] = useState("normal");
  const [texts, setTexts] = useState({});
  const text = Object.hasOwn(texts, picked.type) ? texts[picked.type] : JSON.stringify(picked.example, null, 2);
  const problem = problemOf(text);
  const lines = problem ? [] : commands({ type: picked.type, queue: picked.queue, lane, payload: JSON.stringify(JSON.parse(text)), address: about.url });
  return html`<div class="filters"><label>Type<br /><select value=${picked.type} onChange=${(event) => setQuery({ type: event.target.value })}>
      ${about.types.map((each) => html`<option key=${each.type} value=${each.type}>${each.type}</option>`)}</select></label>
    <label>Queue<br /><a class="button" href=${path("queues", picked.queue)}>${picked.queue}</a></label>
    <label>Lane<br /><select value=${lane} onChange=${(event) => setLane(event.target.value)}>${about.lanes.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select></label></div>
    <label>Payload<textarea spellcheck="false" aria-invalid=${Boolean(problem)} rows=${Math.min(14, text.split("\n").length + 1)} value=${text}
      onInput=${(event) => setTexts({ ...texts, [picked.type]: event.target.value })} /></label>
    ${problem && html`<p class="bad" role="alert">${problem}</p>`}
    ${lines.map(([name, line]) => html`<div class="line" key=${name}><div class="head"><h3>${name}</h3><${Copy} text=${line} label="Copy" /></div><${Code} text=${line} label=${name} /></div>`)}`;
}

export default function About({ query }) {
  const { data, error, again } = useOnce("/api/about");
  if (error && !data) return html`<${Failed} error=${error} again=${again} />`;
  if (!data) return html`<${Loading} />`;
  const picked = data.types.find(({ type }) => type === query.type) || data.types.find(({ tried }) => tried) || data.types[0];
  return html`<div class="title"><h1>About, and a first job</h1></div>
    <div class="columns about"><section><p>Producers write jobs into Redis streams with one <code>XADD</code>, in any language. Engines take them lane by lane, run your handlers,
      try again what fails, and keep what they give up. This page is served by each engine.</p>
      <div class="head"><h2>Send a job</h2></div>${picked ? html`<${Builder} about=${data} picked=${picked} />` : html`<p class="muted">This engine has no handlers, so it names no types. Start it with an app: <code>python -m engine run --app your.module:build</code></p>`}
      <p class="muted after">Then look at <a href=${picked ? path("queues", picked.queue) : "/queues"}>its queue</a>: it is there within a second, and done soon after.</p></section>
    <section>${picked && html`<div class="head first"><h2>What ${picked.type} takes</h2><small class="muted">version ${picked.version}</small></div><${Fields} schema=${picked.schema} />
        <details><summary>JSON Schema</summary><${Code} value=${picked.schema} label="JSON Schema" /></details>`}
      <div class="head"><h2>Words</h2></div><dl class="card pad words">${WORDS.map(([word, meaning]) => html`<div key=${word}><dt>${word}</dt><dd>${meaning}</dd></div>`)}</dl>
      <div class="head"><h2>What runs here</h2></div><div class="card pad"><${Facts} rows=${[["Answers", html`<a href=${path("engines", data.engine)}>${data.engine}</a>`], ["Its version", data.version],
        ["Engines by version", Object.entries(data.versions).map(([version, count]) => `${version} × ${count}`).join(", ")], ["Queues are on", data.server], ["API", html`<a href="/openapi.json">openapi.json</a>`], ["Metrics", html`<a href="/metrics">/metrics</a>`]]} /></div></section></div>`;
}
