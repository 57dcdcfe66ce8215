// The frame: who looks, where they are, and the view of the present address.
import { html, render, useEffect, useState } from "./lib/dom.mjs";
import { get, setMe } from "./lib/api.mjs";
import { match, useAddress } from "./lib/router.mjs";
import { Failed, Loading } from "./lib/parts.mjs";

// Views are loaded when they are looked at.
const VIEWS = [
  ["/", "Overview", () => import("./views/overview.mjs")],
];
const PLACES = [["/", "Overview"]];

function View() {
  const { path, query } = useAddress();
  const [view, setView] = useState(null);
  const found = VIEWS.map(([pattern, title, load]) => ({ title, load, params: match(pattern, path) }))
    .find(({ params }) => params);
  useEffect(() => {
    let gone = false;
    found?.load().then((module) => !gone && setView(() => module.default));
    return () => { gone = true; };
  }, [found?.load]);
  if (!found) return html`<p class="empty">There is nothing at ${path}. <a href="/">Overview</a></p>`;
  return view ? html`<${view} ...${found.params} query=${query} />` : html`<${Loading} />`;
}

function App() {
  const [error, setError] = useState(null);
  const [ready, setReady] = useState(false);
  const start = () => get("/api/me").then((me) => { setMe(me); setReady(true); setError(null); }, setError);
  useEffect(() => { start(); }, []);
  return html`<header><a class="brand" href="/">Streamlane</a>
    <nav aria-label="Places">${PLACES.map(([href, name]) => html`<a href=${href}>${name}</a>`)}</nav></header>
    <main>${error ? html`<${Failed} error=${error} again=${start} />` : ready ? html`<${View} />` : html`<${Loading} />`}</main>`;
}

render(html`<${App} />`, document.getElementById("page"));
