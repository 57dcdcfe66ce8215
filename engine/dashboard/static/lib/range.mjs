// How far back charts look; kept in the address.
import { html } from "./dom.mjs";
import { setQuery, useAddress } from "./router.mjs";

export const RANGES = ["1h", "24h", "7d"];
const WORDS = { "1h": ["1 h", "the last hour"], "24h": ["24 h", "the last day"], "7d": ["7 d", "the last week"] };

/** The range that the address names. */
export function useRange() {
  const { range } = useAddress().query;
  return RANGES.includes(range) ? range : "1h";
}

/** Picks a range; without `onPick` it goes into the address. */
export const Range = ({ value, onPick = (range) => setQuery({ range: range === "1h" ? "" : range }) }) => html`
  <div class="segments" role="group" aria-label="How far back">${RANGES.map((range) => html`
    <button type="button" key=${range} aria-pressed=${range === value} aria-label=${WORDS[range][1]}
      onClick=${() => onPick(range)}>${WORDS[range][0]}</button>`)}</div>`;
