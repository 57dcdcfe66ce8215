// The parts that views are made of.
import { html, useEffect, useState } from "./dom.mjs";
import { ago, iso, moment, number, span } from "./format.mjs";

const SIGNS = { bad: "✖", warn: "▲", well: "✔", paused: "‖", active: "●", delayed: "◷" };

/** A sign with its word; colour never speaks alone. */
export const State = ({ kind, word }) => html`<span class="state ${kind}">
  <span class="sign" aria-hidden="true">${SIGNS[kind] || "●"}</span> ${word}</span>`;

/** A count, exact in its title. */
export const Count = ({ value, kind = "" }) => html`<span class=${kind}
  title=${value > 9999 ? value.toLocaleString("en-GB") : undefined}>${number(value)}</span>`;

/** How long ago something was; exact in its title. */
export const Ago = ({ at }) => html`<time datetime=${iso(at)} title=${`${moment(at, { day: true })} · ${iso(at)}`}>${ago(at)}</time>`;

export const Span = ({ ms, kind = "" }) => html`<span class=${kind}>${span(ms)}</span>`;

/** Waiting jobs by lane, highest first; segments keep their order. */
export function LaneBar({ lanes, width = 96 }) {
  const rows = Object.entries(lanes);
  const total = rows.reduce((sum, [, lane]) => sum + lane.waiting, 0);
  if (!total) return html`<span class="muted">—</span>`;
  const told = rows.filter(([, lane]) => lane.waiting).map(([name, lane]) => `${name} ${lane.waiting}`).join(", ");
  let at = 0;
  const parts = rows.map(([name, lane]) => {
    const size = lane.waiting / total * width;
    const x = at;
    at += size;
    return size ? html`<rect x=${x} y="0" width=${Math.max(size - 1.5, 1)} height="10" class=${`lane-${name}`} />` : null;
  });
  return html`<svg viewBox=${`0 0 ${width} 10`} width=${width} height="10" role="img" aria-label=${told}><title>${told}</title>${parts}</svg>`;
}

/** What a list shows when it has nothing: what that means, and the next step. */
export const Empty = ({ children }) => html`<div class="empty">${children}</div>`;

/** Something that failed, with a way to try again; old data stays beside it. */
export const Failed = ({ error, again }) => html`<div class="banner bad" role="alert">
  <b>${error.title || "failed"}:</b> ${error.message}
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

/** A table with real headers. `columns` are {name, num}; a row is keyed by `row.key`. */
export const Table = ({ name, columns, children }) => html`<div class="card scroll" tabindex="0" role="region" aria-label=${name}>
  <table><thead><tr>${columns.map((column) => html`<th scope="col" class=${column.num ? "num" : undefined}
    aria-sort=${column.sort}>${column.head ?? column.name}</th>`)}</tr></thead><tbody>${children}</tbody></table></div>`;
