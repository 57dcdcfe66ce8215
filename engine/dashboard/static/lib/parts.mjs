// The parts that views are made of.
import { html, useEffect, useRef, useState } from "./dom.mjs";
import { ago, exact, iso, moment, number, serverNow, span } from "./format.mjs";
import { Sign } from "./icons.mjs";

export { Sign };

/** A sign with its word; colour never speaks alone. */
export const State = ({ kind, word }) => html`<span class="state ${kind}"><${Sign} kind=${kind} /> ${word}</span>`;

/** A count, exact in its title. */
export const Count = ({ value, kind = "" }) => html`<span class=${kind}
  title=${value > 9999 ? exact(value) : undefined}>${number(value)}</span>`;

/** How long ago something was; exact in its title. */
export const Ago = ({ at }) => (at ? html`<time datetime=${iso(at)} title=${`${moment(at, { day: true })} · ${iso(at)}`}>${ago(at)}</time>` : "—");

export const Span = ({ ms, kind = "" }) => html`<span class=${kind}>${span(ms)}</span>`;

/** Waiting jobs by lane, highest first; segments keep their order. */
export function LaneBar({ lanes, width = 94 }) {
  const rows = Object.entries(lanes);
  const total = rows.reduce((sum, [, lane]) => sum + lane.waiting, 0);
  const told = rows.filter(([, lane]) => lane.waiting).map(([name, lane]) => `${name} ${exact(lane.waiting)}`).join(", ") || "nothing waits";
  let at = 0;
  const parts = rows.map(([name, lane]) => {
    const size = total && lane.waiting / total * width;
    const x = at;
    at += size;
    return size ? html`<rect key=${name} x=${x} y="0" width=${Math.max(size - 1.5, 1)} height="9" class=${`lane-${name}`} />` : null;
  });
  return html`<svg class="lanes" viewBox=${`0 0 ${width} 9`} width=${width} height="9" preserveAspectRatio="none" role="img" aria-label=${told}>
    <title>${told}</title>${total ? parts : html`<rect class="track" width=${width} height="1" y="8" />`}</svg>`;
}

/** Points joined where they stand beside each other; what is missing is a gap. */
function lines(values, top, width, height) {
  const step = width / Math.max(values.length - 1, 1);
  let path = "";
  let joined = false;
  values.forEach((value, at) => {
    if (value == null) { joined = false; return; }
    const y = height - 1 - value / top * (height - 3);
    path += `${joined ? "L" : "M"}${(at * step).toFixed(1)} ${y.toFixed(1)}`;
    joined = true;
  });
  return path;
}

/** Bars that stand on each other, from zero. */
function stacks(series, top, width, height) {
  const step = width / Math.max(series[0].values.length, 1);
  return series[0].values.map((_, at) => {
    let y = height;
    return series.map(({ values, kind }) => {
      const value = values[at];
      if (!value) return null;
      const size = Math.max(value / top * (height - 2), 1);
      y -= size;
      return html`<rect class=${`bar-${kind}`} x=${(at * step).toFixed(1)} y=${y.toFixed(1)} width=${Math.max(step - 1, 0.8).toFixed(1)} height=${size.toFixed(1)} />`;
    });
  });
}

/**
 * A small chart from zero: `values` as a line, `dashed` as a dashed one, or `bars` as
 * [{kind, values}], stacked. Nulls are gaps; `title` says it in words.
 */
export function Spark({ values = [], dashed, bars, kind = "active", title = "", width = 104, height = 24 }) {
  const series = bars?.length ? bars.map((each) => each.values) : [values, dashed || []];
  const sums = bars?.length ? series[0].map((_, at) => series.reduce((sum, each) => sum + (each[at] || 0), 0)) : series.flat();
  const top = Math.max(...sums.filter((value) => value != null), bars ? 1 : 1e-9);
  return html`<svg class="spark" viewBox=${`0 0 ${width} ${height}`} width=${width} height=${height} preserveAspectRatio="none"
    role="img" aria-label=${title}>${title && html`<title>${title}</title>`}
    ${bars?.length ? html`<path class="base" d=${`M0 ${height - 0.5}H${width}`} />${stacks(bars, top, width, height)}` : html`
      ${dashed && html`<path class="line dashed" d=${lines(dashed, top, width, height)} />`}
      <path class="line ${kind}" d=${lines(values, top, width, height)} />`}</svg>`;
}

/** Put text where it can be pasted from; also without a secure context. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "unseen";
    (document.querySelector("dialog[open]") || document.body).append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}

/** A button that copies `text`. */
export function Copy({ text, label = "Copy", kind = "" }) {
  const [told, tell] = useState("");
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  const press = async () => {
    tell(await copy(text) ? "Copied" : "Not allowed");
    clearTimeout(timer.current);
    timer.current = setTimeout(() => tell(""), 1500);
  };
  return html`<button type="button" class="copy ${kind}" onClick=${press}><span aria-live="polite">${told || label}</span></button>`;
}

/** Views beside each other; `of` are {key, label, count?}. */
export const Tabs = ({ name, of, value, onPick }) => html`<div class="tabs" role="group" aria-label=${name}>
  ${of.map(({ key, label, count }) => html`<button type="button" key=${key} aria-pressed=${key === value}
    onClick=${() => onPick(key)}>${label}${count == null ? "" : html` <${Count} kind="badge" value=${count} />`}</button>`)}</div>`;

/** Names with their values; rows without a value are left out. */
export const Facts = ({ rows }) => html`<dl class="facts">${rows.filter((row) => row && row[1] != null && row[1] !== "").map(([name, value]) => html`
  <div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;

const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/g;
const COLOURED_MAX = 60_000;

/** JSON as text with its names, texts and numbers told apart. */
function coloured(text) {
  if (text.length > COLOURED_MAX) return text;
  const parts = [];
  let at = 0;
  for (const found of text.matchAll(TOKEN)) {
    parts.push(text.slice(at, found.index));
    const [all, string, colon, word, digits] = found;
    parts.push(html`<span class=${colon ? "name" : string ? "string" : word ? "word" : digits ? "digits" : ""}>${string || all}</span>`);
    if (colon) parts.push(colon);
    at = found.index + all.length;
  }
  return [...parts, text.slice(at)];
}

/** Text as it is, or a value as JSON; long ones scroll. `kind` is "json" or "text". */
export function Code({ text, value, kind = text === undefined ? "json" : "text", label = "" }) {
  const shown = text === undefined ? JSON.stringify(value, null, 2) ?? "" : text;
  return html`<pre class="code" tabindex="0" aria-label=${label || undefined} role=${label ? "region" : undefined}>${kind === "json" ? coloured(shown) : shown}</pre>`;
}

/** Says that what is shown is old: `at` is when it came (ms by this browser), `trouble` why. */
export const Age = ({ at, trouble, ageMs = 0 }) => trouble && html`<div class="banner bad" role="alert"><span><b>Not live:</b> ${`${trouble.replace(/\.$/, "")}. `}${at ? `What you see is ${span(Math.round((Date.now() - at + ageMs) / 1000) * 1000 || 1000)} old.` : ""}</span></div>`;

/** In one sentence why something is as it is. */
export const Why = ({ text, kind = "" }) => text && html`<p class="why ${kind}"><b>Why:</b> ${text}</p>`;

/** What a list shows when it has nothing: what that means, and the next step. */
export const Empty = ({ children }) => html`<div class="empty">${children}</div>`;

/** Something that failed, with a way to try again; old data stays beside it. */
export const Failed = ({ error, again }) => html`<div class="banner bad" role="alert">
  <span><b>${error.title || "failed"}:</b> ${error.message}</span>
  ${again && html` <button type="button" onClick=${again}>Try again</button>`}</div>`;

/** Placeholder of a view that loads: nothing at first, then grey lines. */
export function Loading() {
  const [shown, show] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => show(true), 150);
    return () => clearTimeout(timer);
  }, []);
  return html`<div class="loading" aria-busy="true">${shown && html`<i /><i /><i />`}</div>`;
}

/** A table with real headers. `columns` are {name, head?, num?, sort?}; a row is keyed by `row.key`. */
export const Table = ({ name, columns, children, kind = "" }) => html`<div class="card scroll ${kind}" tabindex="0" role="region" aria-label=${name}>
  <table><thead><tr>${columns.map((column) => html`<th scope="col" class=${column.num ? "num" : undefined}
    aria-sort=${column.sort}>${column.head ?? column.name}</th>`)}</tr></thead><tbody>${children}</tbody></table></div>`;

/** An age that goes on, from a moment by the server's clock. */
export const Since = ({ at, kind = "" }) => html`<span class=${kind} title=${at ? `since ${moment(at, { day: true })}` : undefined}>${at ? span(Math.max(0, serverNow() - at)) : "—"}</span>`;
