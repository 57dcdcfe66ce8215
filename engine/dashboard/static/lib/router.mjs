// Which view an address means. Filters, ranges and open panels live in the address.
import { useEffect, useState } from "./dom.mjs";

const listeners = new Set();
const tell = () => listeners.forEach((listener) => listener());
addEventListener("popstate", tell);

/** Go to an address of the page; `replace` keeps the present one out of the history. */
export function navigate(target, { replace = false } = {}) {
  if (target === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", target);
  tell();
}

/** The present address as {path, query}; views are drawn again when it changes. */
export function useAddress() {
  const read = () => location.pathname + location.search;
  const [address, setAddress] = useState(read());
  useEffect(() => {
    const listener = () => setAddress(read());
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
  const at = new URL(address, location.origin);
  return { path: at.pathname, query: Object.fromEntries(at.searchParams) };
}

/** Change some parts of the query; empty values leave it. */
export function setQuery(changes, { replace = true } = {}) {
  const at = new URL(location.href);
  for (const [name, value] of Object.entries(changes)) {
    if (value === "" || value == null) at.searchParams.delete(name);
    else at.searchParams.set(name, value);
  }
  navigate(at.pathname + at.search, { replace });
}

/** Match a path such as "/queues/:queue"; returns its variables, or null. */
export function match(pattern, path) {
  const wanted = pattern.split("/");
  const given = path.split("/");
  if (wanted.length !== given.length) return null;
  const found = {};
  for (const [at, part] of wanted.entries()) {
    if (part.startsWith(":")) {
      try {
        found[part.slice(1)] = decodeURIComponent(given[at]);
      } catch {
        return null;
      }
      if (!given[at]) return null;
    } else if (part !== given[at]) return null;
  }
  return found;
}

// Links within the page need no new page.
addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey
    || event.shiftKey || event.altKey || link.target || link.hasAttribute("download")) return;
  const at = new URL(link.href);
  if (at.origin !== location.origin || /^\/(api|metrics|schemas|live|ready|sd|static|openapi)\b/.test(at.pathname)) return;
  if (at.pathname === location.pathname && at.search === location.search && at.hash) return;
  event.preventDefault();
  navigate(at.pathname + at.search);
  scrollTo(0, 0);
});
