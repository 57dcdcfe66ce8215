// The page by keyboard. Single keys can be switched off, since speech input types them by accident.
import { html, useEffect, useRef, useState } from "./dom.mjs";
import { PLACES, nextTheme, nextZone } from "./frame.mjs";
import { isPaused, setPaused } from "./live.mjs";
import { navigate } from "./router.mjs";

const KEY = "streamlane-keys";
const WAIT_MS = 1_500;
const KEYS = [
  ["?", "This help"], ["/", "Find a job, queue or error"], ...PLACES.map(([, name, key]) => [`g ${key}`, name]),
  ["j, k", "Next and previous row"], ["Enter", "Open the row"], ["x", "Select the row"], ["Shift x", "Select up to the row"], [".", "Actions of the row"],
  ["p", "Pause live values, or go on"], ["t", "Light, dark, or as the system is"], ["z", "UTC, or this browser’s zone"], ["Esc", "Close, or leave the field"],
];
const isOn = () => localStorage.getItem(KEY) !== "off";

const rows = () => [...document.querySelectorAll("main [data-row]")].filter((row) => row.offsetParent !== null || row.getClientRects().length);
const here = () => document.activeElement?.closest?.("[data-row]");

function step(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(here());
  const row = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.max(0, Math.min(all.length - 1, at + by))];
  // A row is known by its link: what Enter opens is what is in focus.
  const target = row.querySelector("a[href], button") || row;
  target.focus();
  row.scrollIntoView({ block: "nearest" });
}

const press = (selector) => here()?.querySelector(selector)?.click();

const SINGLE = {
  "/": () => (document.querySelector(".top #find")?.offsetParent ? document.getElementById("find").focus() : document.querySelector(".phone-tabs button")?.click()),
  j: () => step(1),
  k: () => step(-1),
  x: () => press("input[type=checkbox]"),
  X: () => here()?.querySelector("input[type=checkbox]")?.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true, shiftKey: true })),
  ".": () => press("[data-menu]"),
  p: () => setPaused(!isPaused()),
  t: nextTheme,
  z: nextZone,
};

/** Listens to keys, and shows the help. */
export function Keys() {
  const [help, setHelp] = useState(false);
  const box = useRef(null);
  const goes = useRef(-WAIT_MS);
  useEffect(() => {
    const typed = (event) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
      const within = event.target.closest?.("input, textarea, select, [contenteditable]");
      if (event.key === "Escape" && within && !event.target.closest("dialog")) { within.blur(); return; }
      if (within && within.type !== "checkbox" || document.querySelector("dialog[open], .menu:popover-open") || !isOn()) return;
      const place = event.timeStamp - goes.current < WAIT_MS && PLACES.find(([, , key]) => key === event.key);
      goes.current = event.key === "g" ? event.timeStamp : -WAIT_MS;
      const act = place ? () => navigate(place[0]) : event.key === "?" ? () => setHelp(true) : SINGLE[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    };
    const asked = () => setHelp(true);
    addEventListener("keydown", typed);
    addEventListener("keyhelp", asked);
    return () => {
      removeEventListener("keydown", typed);
      removeEventListener("keyhelp", asked);
    };
  }, []);
  useEffect(() => { if (help) box.current.showModal(); }, [help]);
  return help && html`<dialog ref=${box} aria-labelledby="keys" onClose=${() => setHelp(false)} onClick=${(event) => event.target === box.current && setHelp(false)}>
    <div class="inside"><h2 id="keys">Keys</h2><dl class="keys">${KEYS.map(([key, meaning]) => html`<div key=${key}><dt>${key.split(" ").map((each) => (each.endsWith(",") ? html`<kbd>${each[0]}</kbd>, ` : html`<kbd>${each}</kbd> `))}</dt><dd>${meaning}</dd></div>`)}</dl>
      <label class="check"><input type="checkbox" checked=${isOn()} onChange=${(event) => localStorage.setItem(KEY, event.target.checked ? "on" : "off")} /> Single keys are on</label>
      <div class="buttons"><button type="button" class="primary" onClick=${() => setHelp(false)}>Close</button></div></div></dialog>`;
}

/** A button that shows the keys, also where single keys are off. */
export const KeysButton = () => html`<button type="button" class="link" onClick=${() => dispatchEvent(new CustomEvent("keyhelp"))}>Keys</button>`;
