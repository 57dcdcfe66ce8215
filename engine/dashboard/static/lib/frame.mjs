// What stands around every view: the top bar, on a phone the tabs below, and the foot.
import { toast } from "./actions.mjs";
import { html, useEffect, useState } from "./dom.mjs";
import { path, post, whoAmI } from "./api.mjs";
import { setZone, zone } from "./format.mjs";
import { Mark, Picture } from "./icons.mjs";
import { setPaused, usePaused } from "./live.mjs";
import { useOverview } from "./overview.mjs";
import { Count } from "./parts.mjs";
import { navigate, useAddress } from "./router.mjs";

/** The places of the page: address, name, key after `g`, what is counted there, and for how many digits there is room. */
export const PLACES = [
  ["/", "Overview", "o"],
  ["/queues", "Queues", "q", (told) => Object.keys(told.queues || {}).length, "two"],
  ["/jobs", "Jobs", "j"],
  ["/dead", "Dead letters", "d", (told) => told.totals?.dead, "five"],
  ["/schedules", "Schedules", "s"],
  ["/engines", "Engines", "e", (told) => told.totals?.engines, "two"],
  ["/audit", "Audit", "a"],
];
const PHONE = [["/", "Overview", "overview"], ["/queues", "Queues", "queues"], ["/jobs", "Jobs", "jobs"], ["/dead", "Dead", "dead"]];
const MORE = ["/schedules", "/engines", "/audit", "/operations", "/about"];

const isAt = (href, at) => (href === "/" ? at === "/" : at === href || at.startsWith(`${href}/`));

// Settings of this browser, which every part that is drawn reads anew.
const watchers = new Set();
const change = () => watchers.forEach((watcher) => watcher({}));
const THEMES = ["auto", "light", "dark"];
const theme = () => document.documentElement.dataset.theme || "auto";

/** Draw the page again when zone or theme change. */
export function useSettings() {
  const [, set] = useState(null);
  useEffect(() => {
    watchers.add(set);
    return () => watchers.delete(set);
  }, []);
}

export function nextTheme() {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  if (next === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  localStorage.setItem("streamlane-theme", next);
  dispatchEvent(new CustomEvent("themechange"));
  change();
}

export function nextZone() {
  setZone(zone() === "UTC" ? "local" : "UTC");
  change();
}

/** The name of the zone in which moments are written. */
const zoneName = () => (zone() === "UTC" ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone.split("/").pop().replace("_", " "));

function Find({ id }) {
  const { query, path: at } = useAddress();
  const [text, setText] = useState("");
  useEffect(() => { setText(at === "/jobs" ? query.text || "" : ""); }, [at, query.text]);
  const go = (event) => {
    event.preventDefault();
    if (text.trim()) navigate(`/jobs?${new URLSearchParams({ text: text.trim() })}`);
  };
  return html`<form class="find" role="search" onSubmit=${go}><input id=${id} type="search" enterkeyhint="search" value=${text}
    placeholder="Find a job, queue or error" aria-label="Find a job, queue or error" onInput=${(event) => setText(event.target.value)} />
    ${!text && html`<kbd aria-hidden="true">/</kbd>`}</form>`;
}

function LiveSwitch() {
  const paused = usePaused();
  const { data, trouble: away } = useOverview();
  const trouble = away || data?.trouble;
  const word = paused ? "Paused" : trouble ? "Not live" : "Live";
  return html`<button type="button" aria-pressed=${!paused} title=${paused ? "Go on with live values (p)" : trouble || "Pause live values (p)"}
    onClick=${() => setPaused(!paused)}><span class="dot ${paused ? "paused" : trouble ? "bad" : ""}" /> ${word}</button>`;
}

const ZoneSwitch = ({ kind }) => html`<button type="button" class=${kind} title="Times are written in this zone; change it (z)"
  onClick=${nextZone}>${zoneName()}</button>`;
const ThemeSwitch = ({ kind }) => html`<button type="button" class=${kind} title=${`Theme: ${theme()} (t)`} aria-label=${`Theme: ${theme()}`}
  onClick=${nextTheme}><${Picture} of=${{ auto: "auto", light: "sun", dark: "moon" }[theme()]} /></button>`;

export const Place = () => whoAmI().place && html`<span class="pill ${/^prod/i.test(whoAmI().place) ? "bad" : "delayed"}">${whoAmI().place}</span>`;

/** The bar above every view; `bare` before somebody has logged in, who can go nowhere yet. */
export function Top({ bare }) {
  useSettings();
  const { path: at } = useAddress();
  const { data } = useOverview();
  return html`<header class="top"><a class="brand" href="/"><${Mark} /> Streamlane</a><${Place} />
    ${!bare && html`<nav aria-label="Places">${PLACES.map(([href, name, , counted, room]) => html`<a key=${href} href=${href}
      aria-current=${isAt(href, at) ? "page" : undefined}>${name}${!counted ? "" : !data ? html` <span class="badge ${room}" />` : counted(data) != null
        ? html` <${Count} kind=${`badge ${room}`} value=${counted(data)} />` : ""}</a>`)}</nav>`}
    <div class="tools">${!bare && html`<${Find} id="find" /><${LiveSwitch} /><${ZoneSwitch} kind="wide" />`}<${ThemeSwitch} kind="wide" /></div></header>`;
}

function More({ close }) {
  return html`<div class="card more" role="dialog" aria-label="More places"><${Find} />
    ${PLACES.slice(4).concat([["/operations", "Operations"], ["/about", "About"]]).map(([href, name]) => html`<a key=${href} href=${href} onClick=${close}>${name}</a>`)}
    <div class="buttons"><${ZoneSwitch} /><${ThemeSwitch} /></div></div>`;
}

/** On a phone, the places within reach of a thumb. */
export function PhoneTabs() {
  useSettings();
  const { path: at } = useAddress();
  const [more, setMore] = useState(false);
  useEffect(() => setMore(false), [at]);
  return html`<nav class="phone-tabs" aria-label="Places, below">${PHONE.map(([href, name, picture]) => html`<a key=${href} href=${href}
      aria-current=${isAt(href, at) ? "page" : undefined}><${Picture} of=${picture} />${name}</a>`)}
    <button type="button" aria-expanded=${more} aria-current=${MORE.some((href) => isAt(href, at)) ? "page" : undefined}
      onClick=${() => setMore(!more)}><${Picture} of="more" />More</button>${more && html`<${More} close=${() => setMore(false)} />`}</nav>`;
}

/** Ends the session; without a token, and where a program's is used, there is none. */
const LogOut = () => whoAmI().csrf && html`<button type="button" class="link" onClick=${() => post("/api/session", {}, { method: "DELETE" })
  .then(() => dispatchEvent(new CustomEvent("unauthorized")), (error) => toast(error.message, { kind: "bad" }))}>Log out</button>`;

/** What stands below every view. */
export const Foot = ({ children }) => html`<footer class="foot"><span>${`Streamlane ${whoAmI().version}, answered by `}
  <a href=${path("engines", whoAmI().engine)}>${whoAmI().engine}</a> for ${whoAmI().name} (${whoAmI().scope})</span>
  <a href="/about">About and first job</a><a href="/operations">Operations</a><a href="/openapi.json">API</a><${LogOut} />${children}</footer>`;
