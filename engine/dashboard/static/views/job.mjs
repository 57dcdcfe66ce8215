// One job: where it is and why, what happened to it, and what it carries.
import { html, useEffect, useRef, useState } from "../lib/dom.mjs";
import { Action, hindrance } from "../lib/actions.mjs";
import { may, path, url } from "../lib/api.mjs";
import { EditRetry } from "../lib/edit_retry.mjs";
import { bytes, noteServerTime, number } from "../lib/format.mjs";
import { commands, copied, jobHref, step } from "../lib/job_steps.mjs";
import { JobState, JobTable } from "../lib/job_table.mjs";
import { useLive } from "../lib/live.mjs";
import { Menu } from "../lib/menu.mjs";
import { Age, Ago, Code, Copy, Facts, Failed, Loading, State, Why } from "../lib/parts.mjs";
import { navigate, setQuery } from "../lib/router.mjs";
import { useScan } from "../lib/scan.mjs";
import { Attempts, Timeline } from "../lib/timeline.mjs";

const CHILD_KINDS = { "to be sent": "waiting", sent: "active", done: "well", failed: "bad", ignored: "warn", cancelled: "paused" };
const BUTTONS = ["run-now", "retry", "cancel"];
const LOST_MS = 5_000;
const REST = ["reschedule", "priority", "discard"];

const field = (story, name) => story.fields.find((each) => each.name === name)?.value;

function traceOf(story) {
  const found = /^[\da-f]{2}-([\da-f]{32})-/.exec(field(story, "traceparent") || "");
  return found && html`<span class="mono">${found[1]}</span> <${Copy} text=${found[1]} kind="plain" />`;
}

function About({ story }) {
  const { job } = story;
  const [parentQueue, ...parentId] = (story.parent || "").split("/");
  return html`<section class="card pad"><${Facts} rows=${[
    ["Queue", html`<a href=${path("queues", job.queue)}>${job.queue}</a>, lane ${job.lane}`],
    ["Enqueued", job.enqueuedMs ? html`<${Ago} at=${job.enqueuedMs} />` : null],
    job.state !== "done" && ["Attempts", `${number(job.attempts)} spent${story.lost ? `, ${number(story.lost)} deliveries lost with their engines` : ""}${story.snoozes ? `, put off ${number(story.snoozes)} times` : ""}`],
    ["Brought back", story.redrives ? `${number(story.redrives)} time${story.redrives === 1 ? "" : "s"}` : null],
    ["Key", field(story, "key")],
    ["Unique value", field(story, "unique")],
    ["Expires", Number(field(story, "expires")) ? html`<${Ago} at=${Number(field(story, "expires"))} />` : null],
    ["Trace", traceOf(story)],
    ["Schedule", story.schedule ? html`<a href=${url("/schedules", { queue: job.queue })}>${story.schedule}</a>` : null],
    ["Parent", story.parent ? html`<a class="mono" href=${path("jobs", parentQueue, parentId.join("/"))}>${parentId.join("/")}</a> in ${parentQueue}` : null],
    ["Dead letters like it", story.dead ? html`<a class="mono" href=${path("dead", job.queue, story.dead.fingerprint)}>${story.dead.fingerprint}</a>` : null],
    ["Entry", job.entry ? html`<span class="mono">${job.entry}</span>` : null],
    job.state !== "done" && ["Size", bytes(job.sizeBytes)],
  ]} /></section>`;
}

function Progress({ progress }) {
  if (!progress || typeof progress !== "object") return null;
  const percent = Math.max(0, Math.min(100, Number(progress.percent) || 0));
  return html`<section class="card pad progress" aria-label="Progress"><progress max="100" value=${percent} aria-label="Progress" /><b>${Math.round(percent)} %</b>
    <span>${String(progress.message || "")}</span><small>${progress.atMs ? html`reported <${Ago} at=${progress.atMs} />` : ""}</small></section>`;
}

function Payload({ story, payload }) {
  const raw = field(story, "data");
  const told = html`<small>${bytes(payload.sizeBytes)}${payload.sha256 ? html`, <span class="mono" title=${payload.sha256}>sha256 ${payload.sha256.slice(0, 12)}…</span>` : ""}</small>`;
  const body = payload.cut ? html`<div class="card pad muted">It is too large to be shown here. What “Copy as redis-cli” and “Copy as command” copy reads it.</div>`
    : !payload.shown ? html`<div class="card pad muted">Payloads of this type are not shown to you. ${may("operate") ? "" : "A token of a higher scope may see them."}</div>`
    : story.payload != null || raw === "null" ? html`<${Code} value=${story.payload} label="Payload" />`
      : raw != null ? html`<${Code} text=${raw} label="Payload, which is no JSON" />`
        : html`<div class="card pad muted">${story.job.state === "done" ? "The payload of a finished job is not kept." : story.dead?.cut ? "It was too large to be kept; its hash was." : "This job has no payload."}</div>`;
  return html`<section aria-labelledby="payload"><div class="head"><h2 id="payload">Payload</h2>${(raw != null || payload.sizeBytes > 0) && told}
    ${payload.shown && raw != null && html`<${Copy} text=${raw} label="Copy payload" />`}</div>${payload.redacted?.length > 0 && html`<p class="muted left-out">Left out for you: ${payload.redacted.map((each) => html`<code key=${each}>${each}</code> `)}</p>`}${body}</section>`;
}

const Child = ({ child }) => html`<li><span class="row"><${State} kind=${CHILD_KINDS[child.state] || "waiting"} word=${child.state} />
  <a class="mono" href=${path("jobs", child.queue, child.id)}>${child.id}</a><span class="muted">${child.type} in ${child.queue}</span></span>
  ${child.children?.length > 0 && html`<ul>${child.children.map((each) => html`<${Child} key=${`${each.queue}/${each.id}/${each.number}`} child=${each} />`)}</ul>`}</li>`;

function Family({ story }) {
  if (!story.children.length) return null;
  const ended = story.children.filter((child) => !["sent", "to be sent"].includes(child.state)).length;
  return html`<section aria-labelledby="children"><div class="head"><h2 id="children">Children</h2><small>${ended} of ${story.children.length} have ended</small></div>
    <div class="card pad"><ul class="tree">${story.children.map((child) => html`<${Child} key=${child.number} child=${child} />`)}</ul></div></section>`;
}

const Raw = ({ fields }) => fields.length > 0 && html`<details class="card raw"><summary><b>All fields as they were written</b> <small>${fields.length}</small></summary>
  <div class="scroll" tabindex="0" role="region" aria-label="Fields"><table class="dense"><tbody>${fields.map((each, at) => html`<tr key=${`${at} ${each.name}`}><th scope="row" class="mono">${each.name}</th>
  <td class="mono wrap">${each.cut ? html`<small>${bytes(each.cut)}, too large to be shown here</small>` : html`${each.encoding === "base64" ? html`<small>base64</small> ` : ""}${each.value}`}</td></tr>`)}</tbody></table></div></details>`;

function copies(story) {
  const { curl, redis, cli, link } = commands(story.job);
  const raw = field(story, "data");
  return [copied("Copy id", () => story.job.id), copied("Copy link", () => link), copied("Copy as curl", () => curl), copied("Copy as redis-cli", () => redis),
    copied("Copy as command", () => cli), raw && copied("Copy payload", () => raw)];
}

function Steps({ data, edit }) {
  const { story, actions } = data;
  const said = Object.fromEntries(actions.map((each) => [each.verb, each]));
  const shown = BUTTONS.filter((verb) => said[verb].able || (verb === "run-now" && story.job.state !== "dead" && story.job.state !== "done"));
  const unable = said["edit-retry"].why || (!data.payload.shown && "Its payload is not shown to you.") || hindrance({});
  return html`<div class="buttons">${shown.map((verb) => html`<${Action} key=${verb} ...${step(verb, story.job, said[verb])} kind=${verb === "retry" || (verb === "run-now" && said[verb].able) ? "primary" : verb === "cancel" ? "danger" : ""} />`)}
    ${story.job.state === "dead" && html`<button type="button" disabled=${Boolean(unable)} title=${unable || undefined} onClick=${edit}>Edit and retry…</button>`}
    <${Menu} label="Copy" kind="" items=${copies(story)}>Copy<//><${Menu} label="More steps" kind="" items=${REST.map((verb) => step(verb, story.job, said[verb]))} /></div>`;
}

/** It is searched for in its whole queue at once, since links outlive places. */
function Nowhere({ queue, id }) {
  const list = useScan(url("/api/search", { text: id, queue, limit: 50 }));
  return html`<div class="title job-title"><h1><span class="mono">${id}</span></h1></div><div class="banner warn" role="status"><span><b>It is not where this link says.</b> Queue ${queue} is searched for it.</span>
    <a href=${url("/jobs", { text: id })}>Search all queues</a></div>
    <${JobTable} name=${`Jobs with ${id}`} list=${list} filtered=${true} empty=${html`<b>No job of ${queue} has this id or holds it.</b> Finished jobs are kept for a limited time.`} />`;
}

export default function Job({ queue, id, query }) {
  const [lost, setLost] = useState(false);
  const { data: fresh, trouble, status, at } = useLive(lost ? "" : url(`/api${path("queues", queue, "jobs", id)}`, { at: query.at }));
  const last = useRef(null);
  const [editing, setEditing] = useState(false);
  if (fresh) last.current = fresh;
  const data = last.current;
  const story = data?.story;
  noteServerTime(data?.nowMs);
  useEffect(() => {
    // Its place in the address follows it, so that links and reloads stay cheap.
    if (fresh && (fresh.story.job.hint || "") !== (query.at || "")) setQuery({ at: fresh.story.job.hint });
  }, [fresh?.story.job.hint]);
  useEffect(() => {
    if (!story) return;
    document.title = `${story.job.state} · ${story.job.id} – Streamlane`;
    if (query.edit && story.job.state === "dead") setEditing(true);
  }, [story?.job.state]);
  useEffect(() => {
    // A job on its way from place to place is missed for a moment; one that is gone is looked for no more.
    const timer = status === 404 ? setTimeout(() => setLost(true), LOST_MS) : 0;
    return () => clearTimeout(timer);
  }, [status]);
  useEffect(() => setLost(false), [query.at]);
  if (!data) {
    if (status === 404 || lost) return html`<${Nowhere} queue=${queue} id=${id} />`;
    return trouble ? html`<${Failed} error=${{ title: id, message: trouble }} />` : html`<${Loading} />`;
  }
  const left = () => { setEditing(false); if (query.edit) setQuery({ edit: "" }); };
  const { job } = story;
  const gone = lost || status === 404;
  return html`${gone ? html`<div class="banner warn" role="status"><span>This job is not there any more; what you see is the last that was known.</span> <a href=${url("/jobs", { text: id, queue })}>Search for it</a></div>` : html`<${Age} at=${at} trouble=${trouble} />`}
    <div class="title job-title"><h1><span class="muted">${job.type}</span> <span class="mono">${job.id}</span></h1><${JobState} state=${job.state} />
    ${story.cancelled && html`<${State} kind="paused" word="cancelled" />`}<${Steps} data=${data} edit=${() => setEditing(true)} /></div>
    <${Why} text=${story.why} /><section class="card"><${Timeline} story=${story} /></section><${Progress} progress=${story.progress} /><${Attempts} story=${story} />
    <div class="columns job-columns"><div><${Payload} story=${story} payload=${data.payload} />${story.result != null && html`<section aria-labelledby="result"><div class="head"><h2 id="result">Result</h2></div><${Code} value=${story.result} label="Result" /></section>`}</div>
    <div><div class="head"><h2>About it</h2></div><${About} story=${story} /><${Family} story=${story} /></div></div><${Raw} fields=${story.fields} />
    ${editing && html`<${EditRetry} story=${story} close=${left} done=${() => { left(); navigate(jobHref({ ...job, hint: "" }), { replace: true }); }} />`}`;
}
