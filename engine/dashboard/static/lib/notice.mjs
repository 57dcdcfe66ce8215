// How the page tells of trouble to those who look elsewhere: title, icon, and one polite status.
import { html, useEffect, useRef, useState } from "./dom.mjs";
import { setAway } from "./actions.mjs";
import { whoAmI } from "./api.mjs";
import { useOverview } from "./overview.mjs";
import { Age } from "./parts.mjs";

const ICON = document.querySelector("link[rel=icon]");
const PLAIN = ICON?.href;

/** The page's icon, with a spot in its corner where something is wrong. */
function icon(kind) {
  if (ICON) ICON.href = kind === "bad" || kind === "warn" ? PLAIN.replace("icon.svg", `icon-${kind}.svg`) : PLAIN;
}

/** The title says first what is wrong. */
const titleOf = (view, verdict, trouble) => {
  const place = whoAmI().place ? ` ${whoAmI().place}` : "";
  const sign = trouble || verdict?.kind === "bad" ? "✖ " : verdict?.kind === "warn" ? "▲ " : "";
  const said = trouble ? "not live" : view === "Overview" && verdict ? verdict.title : view;
  return `${sign}${said} · Streamlane${place}`;
};

/** Keeps title and icon, and announces when the verdict changes. */
export function Notice({ view }) {
  const { data, trouble: away } = useOverview();
  const [said, say] = useState("");
  const before = useRef(null);
  const trouble = away || data?.trouble;
  const verdict = data?.verdict;
  setAway(trouble);
  const kind = trouble ? "bad" : verdict?.kind;
  useEffect(() => { document.title = titleOf(view, verdict, trouble); }, [view, verdict?.title, kind, Boolean(trouble)]);
  useEffect(() => { icon(kind); }, [kind]);
  useEffect(() => {
    const now = trouble ? `Not live: ${trouble}` : verdict?.title;
    // The first verdict is on the page that was just opened; only changes are news.
    if (now && before.current && before.current !== now) say(now);
    if (now) before.current = now;
  }, [verdict?.title, trouble]);
  return html`<p class="unseen" role="status">${said}</p>`;
}

/** Above every view: what is shown is old, and why. */
export function Stale() {
  const { data, trouble, at } = useOverview();
  const why = trouble || data?.trouble;
  return why && data ? html`<${Age} at=${at} trouble=${why} ageMs=${data.ageMs} />` : null;
}
