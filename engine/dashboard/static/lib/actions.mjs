// What changes something: buttons that know their scope, questions, and what came of it.
import { html, useEffect, useRef, useState } from "./dom.mjs";
import { may, whoAmI } from "./api.mjs";

const UNDO_MS = 10_000;
const TELL_MS = 6_000;

// Toasts and questions stand in one place of the page, whoever asks for them.
let toasts = [];
let question = null;
let count = 0;
const watchers = new Set();
const tell = () => watchers.forEach((watcher) => watcher({}));

function useNews() {
  const [, set] = useState(null);
  useEffect(() => {
    watchers.add(set);
    return () => watchers.delete(set);
  }, []);
}

/**
 * Say what came of something. With `undo` it can be taken back for ten seconds; returns what ends it.
 */
export function toast(text, { undo, kind = "well" } = {}) {
  const each = { key: ++count, text, undo, kind };
  toasts = [...toasts.slice(-3), each];
  const end = () => {
    toasts = toasts.filter((other) => other !== each);
    tell();
  };
  each.end = end;
  // Errors stay until they are closed.
  if (kind !== "bad") setTimeout(end, undo ? UNDO_MS : TELL_MS);
  tell();
  return end;
}

/**
 * Ask before something is done. Resolves to {reason, value}, or to null where the person says no.
 *
 * `confirm` is a name to be typed; `reason` is true for a field, "required" for one that must be filled;
 * `field` is one more input as {label, value, ...attributes}, such as a number.
 */
export const ask = ({ title, body, confirm = "", reason = false, field, verb = "Do it", kind = "" }) =>
  new Promise((resolve) => {
    question?.answer(null);
    const answer = (told) => {
      question = null;
      tell();
      resolve(told);
    };
    question = { key: ++count, title, body, confirm, reason, field, verb, kind, answer };
    tell();
  });

async function carryOut({ label, run, undo }, reason, value) {
  try {
    const told = await run(reason, value);
    const text = typeof told === "string" ? told : told?.text || `${label}: done.`;
    const back = told?.undo || (undo && (() => undo(told)));
    toast(text, { undo: back && (() => carryOut({ label: "Undo", run: back }, "")) });
    return told;
  } catch (error) {
    toast(`${label}: ${error.message}`, { kind: "bad" });
    return undefined;
  }
}

/** Do what an action says: check the scope, ask what must be asked, run, tell. */
export async function act(action) {
  const { label, scope = "operate", confirm, reason, field, body, verb, kind } = action;
  if (!may(scope)) {
    toast(missing(scope), { kind: "warn" });
    return undefined;
  }
  if (!confirm && !reason && !body && !field) return carryOut(action, "");
  const answer = await ask({ title: action.title || label, body, confirm, reason, field, verb: verb || label.replace(/…$/, ""), kind });
  return answer ? carryOut(action, answer.reason, answer.value) : undefined;
}

const missing = (scope) => `This needs the scope “${scope}”; ${whoAmI().name || "you"} may only ${whoAmI().scope}.`;

// While the server of the queues is away, nothing can be changed.
let away = "";
export const setAway = (trouble) => { away = trouble || ""; };

/** Why an action cannot be taken now, or an empty string. */
export function hindrance({ scope = "operate", disabled, why }) {
  if (!may(scope)) return missing(scope);
  if (disabled) return why || "Not possible now.";
  return away && `Nothing can be changed now: ${away}`;
}

/**
 * A button that changes something.
 *
 * `run(reason)` does it and may return the text to tell, or {text, undo}. A button that cannot be used
 * says why in its title and when pressed, so that it stays in the reach of keyboards.
 */
export function Action(action) {
  const { label, kind = "", children } = action;
  const [busy, setBusy] = useState(false);
  const why = hindrance(action);
  const press = async () => {
    if (busy) return;
    if (why) {
      toast(why, { kind: "warn" });
      return;
    }
    setBusy(true);
    await act(action);
    setBusy(false);
  };
  return html`<button type="button" class=${kind} aria-disabled=${why || busy ? "true" : undefined} aria-busy=${busy || undefined}
    title=${why || undefined} onClick=${press}>${children || label}</button>`;
}

function Question({ asked }) {
  const box = useRef(null);
  const [typed, setTyped] = useState("");
  const [reason, setReason] = useState("");
  const { label: fieldLabel, value: initial, ...field } = asked.field || {};
  const [value, setValue] = useState(initial ?? "");
  useEffect(() => { box.current.showModal(); }, []);
  const able = (!asked.confirm || typed === asked.confirm) && (asked.reason !== "required" || reason.trim());
  const submit = (event) => {
    event.preventDefault();
    if (able) asked.answer({ reason: reason.trim(), value });
  };
  return html`<dialog ref=${box} aria-labelledby="question" onClose=${() => asked.answer(null)}
    onClick=${(event) => event.target === box.current && asked.answer(null)}><form onSubmit=${submit}>
    <h2 id="question">${asked.title}</h2>${asked.body && html`<div class="body">${asked.body}</div>`}
    ${asked.confirm && html`<label><span>Type <b class="mono">${asked.confirm}</b> to go on</span>
      <input autocomplete="off" spellcheck="false" value=${typed} onInput=${(event) => setTyped(event.target.value)} /></label>`}
    ${asked.field && html`<label>${fieldLabel}<input required ...${field} value=${value} onInput=${(event) => setValue(event.target.value)} /></label>`}
    ${asked.reason && html`<label>Reason${asked.reason === "required" ? "" : ", shown in the audit"}
      <input maxlength="200" value=${reason} onInput=${(event) => setReason(event.target.value)} /></label>`}
    <div class="buttons"><button type="button" onClick=${() => asked.answer(null)}>Leave it</button>
      <button class=${asked.kind || "primary"} disabled=${!able}>${asked.verb}</button></div></form></dialog>`;
}

/** Where toasts and questions appear; stands once in the page. */
export function Announcements() {
  useNews();
  return html`<div class="toasts" role="log" aria-live="polite" aria-label="What came of it">${toasts.map((each) => html`
    <div class="toast ${each.kind}" key=${each.key}><span>${each.text}</span>
      ${each.undo && html`<button type="button" onClick=${() => { each.end(); each.undo(); }}>Undo</button>`}
      <button type="button" class="plain" aria-label="Close" onClick=${each.end}>✕</button></div>`)}</div>
    ${question && html`<${Question} key=${question.key} asked=${question} />`}`;
}
