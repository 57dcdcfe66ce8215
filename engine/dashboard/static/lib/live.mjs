// Values that change: one stream of events for each address that a view looks at.
import { useEffect, useRef, useState } from "./dom.mjs";
import { get, url } from "./api.mjs";

/** Apply a JSON Merge Patch (RFC 7396); what did not change stays the same object. */
export function merge(target, patch) {
  if (patch === null || typeof patch !== "object" || Array.isArray(patch)) return patch;
  const merged = target && typeof target === "object" && !Array.isArray(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete merged[name];
    else merged[name] = merge(merged[name], value);
  }
  return merged;
}

let paused = false;
const waiting = new Set();

/** Pause or go on with all live values. */
export function setPaused(on) {
  paused = on;
  for (const tell of waiting) tell();
}
export const isPaused = () => paused;

/** Let a view be told when live values are paused or go on. */
export function usePaused() {
  const [on, setOn] = useState(paused);
  useEffect(() => {
    const tell = () => setOn(paused);
    waiting.add(tell);
    return () => waiting.delete(tell);
  }, []);
  return on;
}

/**
 * Follow an address of the API that is marked live.
 *
 * Returns {data, trouble, at}: the latest value, why there is no newer one, and when it came (ms by
 * this browser). Old data stays while the server is away.
 */
export function useLive(address) {
  const [state, setState] = useState({ data: null, trouble: "", at: 0 });
  const on = !usePaused();
  useEffect(() => {
    if (!address) return undefined;
    setState({ data: null, trouble: "", at: 0 });
    return undefined;
  }, [address]);
  useEffect(() => {
    if (!address || !on) return undefined;
    let source = null;
    let last = null;
    const take = (data) => {
      last = data;
      setState({ data, trouble: "", at: Date.now() });
    };
    const open = () => {
      source = new EventSource(url("/api/live", { of: address }));
      source.addEventListener("snapshot", (event) => take(JSON.parse(event.data)));
      source.addEventListener("patch", (event) => take(merge(last, JSON.parse(event.data))));
      source.addEventListener("same", () => setState((known) => ({ ...known, trouble: "", at: Date.now() })));
      source.addEventListener("trouble", (event) => {
        const { detail, status } = JSON.parse(event.data);
        setState((known) => ({ ...known, trouble: detail, status }));
      });
      source.onerror = () => setState((known) => ({ ...known, trouble: "This engine does not answer." }));
    };
    const close = () => { source?.close(); source = null; };
    // Browsers allow six connections to a host, so tabs that nobody sees give theirs back.
    const look = () => { if (document.hidden) close(); else if (!source) open(); };
    look();
    document.addEventListener("visibilitychange", look);
    return () => {
      document.removeEventListener("visibilitychange", look);
      close();
    };
  }, [address, on]);
  return state;
}

/** Ask once for an address, and again when it changes. Returns {data, error, busy, again}. */
export function useOnce(address) {
  const [state, setState] = useState({ data: null, error: null, busy: true });
  const count = useRef(0);
  const load = (signal) => {
    if (!address) return;
    const mine = ++count.current;
    setState((known) => ({ ...known, busy: true }));
    get(address, { signal }).then(
      (data) => mine === count.current && setState({ data, error: null, busy: false }),
      (error) => mine === count.current && error.name !== "AbortError"
        && setState((known) => ({ ...known, error, busy: false })),
    );
  };
  useEffect(() => {
    const abort = new AbortController();
    load(abort.signal);
    return () => abort.abort();
  }, [address]);
  return { ...state, again: () => load() };
}
