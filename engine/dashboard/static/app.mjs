// The frame: who looks, where they are, and the view of the present address.
import { html, render, useEffect, useState } from "./lib/dom.mjs";
import { get, setMe } from "./lib/api.mjs";
import { Announcements } from "./lib/actions.mjs";
import { noteServerTime } from "./lib/format.mjs";
import { Foot, PhoneTabs, Top, useSettings } from "./lib/frame.mjs";
import { Keys, KeysButton } from "./lib/keys.mjs";
import { Notice, Stale } from "./lib/notice.mjs";
import { FollowOverview } from "./lib/overview.mjs";
import { Failed, Loading } from "./lib/parts.mjs";
import { match, useAddress } from "./lib/router.mjs";

// Views are loaded when they are looked at; `name` is their module.
const VIEWS = [
  ["/", "overview", "Overview"],
  ["/queues", "queues", "Queues"],
  ["/queues/:queue", "queue", "Queue"],
  ["/jobs", "jobs", "Jobs"],
  ["/jobs/:queue/:id", "job", "Job"],
  ["/dead", "dead", "Dead letters"],
  ["/dead/:queue/:fingerprint", "dead_group", "Dead letters"],
  ["/operations", "operations", "Operations"],
  ["/operations/:queue/:id", "operation", "Operation"],
  ["/schedules", "schedules", "Schedules"],
  ["/engines", "engines", "Engines"],
  ["/engines/:name", "engine", "Engine"],
  ["/audit", "audit", "Audit"],
  ["/about", "about", "About"],
  ["/login", "login", "Log in"],
];
const loaded = new Map();

/** The module of a view; kept, so that going back shows at once. */
function useView(name) {
  const [view, setView] = useState({ name: "" });
  useEffect(() => {
    if (!name || loaded.has(name)) return undefined;
    let gone = false;
    import(`./views/${name}.mjs`).then(
      (module) => { loaded.set(name, module.default); if (!gone) setView({ name }); },
      (error) => !gone && setView({ name, error }),
    );
    return () => { gone = true; };
  }, [name]);
  return { view: loaded.get(name), error: view.name === name ? view.error : null };
}

const viewAt = (path) => VIEWS.map(([pattern, name, title]) => ({ name, title, params: match(pattern, path) })).find(({ params }) => params);

/** What the title says: the place, and the thing that is looked at. */
const nameOf = (path) => {
  const found = viewAt(path);
  return found ? Object.values(found.params).reverse()[0] || found.title : "Nothing here";
};

function View() {
  const { path, query } = useAddress();
  const found = viewAt(path);
  const { view, error } = useView(found?.name);
  useEffect(() => {
    document.querySelector("main")?.focus({ preventScroll: true });
  }, [path]);
  if (!found) return html`<div class="empty">There is nothing at <b class="mono">${path}</b>. <a href="/">Go to the overview</a></div>`;
  if (error) return html`<${Failed} error=${{ title: found.title, message: "this part of the page is not there." }} again=${() => location.reload()} />`;
  return view ? html`<${view} key=${path} ...${found.params} query=${query} />` : html`<${Loading} />`;
}

function Login({ again }) {
  const { view, error } = useView("login");
  if (error) return html`<${Failed} error=${{ title: "not allowed", message: "A token is needed." }} again=${again} />`;
  return view ? html`<${view} again=${again} />` : html`<${Loading} />`;
}

function App() {
  useSettings();
  const { path } = useAddress();
  const [state, setState] = useState({ ready: false, error: null });
  const start = () => get("/api/me").then((me) => {
    setMe(me);
    noteServerTime(me.nowMs);
    setState({ ready: true, error: null });
  }, (error) => setState({ ready: false, error }));
  useEffect(() => {
    start();
    const out = () => setState({ ready: false, error: { status: 401 } });
    addEventListener("unauthorized", out);
    return () => removeEventListener("unauthorized", out);
  }, []);
  const { ready, error } = state;
  const body = ready ? html`<${View} />` : !error ? html`<${Loading} />`
    : error.status === 401 ? html`<${Login} again=${start} />` : html`<${Failed} error=${error} again=${start} />`;
  return html`<${FollowOverview} on=${ready}><a class="skip" href="#main">Skip to the content</a><${Top} bare=${error?.status === 401} />
    <main id="main" tabindex="-1">${ready && html`<${Stale} />`}${body}</main>
    ${ready && html`<${Foot}><${KeysButton} /><//><${PhoneTabs} /><${Notice} view=${nameOf(path)} /><${Keys} />`}<${Announcements} /><//>`;
}

render(html`<${App} />`, document.getElementById("page"));
