// Values that change: one stream of events for each address that a view looks at.
import { useEffect, useRef, useState } from "./dom.mjs";
import { get, url } from "./api.mjs";

const AGAIN_MS = 3_000;
const NOTHING = { data: null, trouble: "", status: 0, at: 0 };

/** Apply a JSON Merge Patch (RFC 7396); what did not change stays the same object. */
export function merge(target, patch) {
  if (patch === null || typeof patch !== "object" || Array.isArray(patch)) return patch;
  // By a map, since strangers may call things `__proto__` or `constructor`.
  const merged = new Map(target && typeof target === "object" && !Array.isArray(target) ? Object.entries(target) : []);
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) merged.delete(name);
    else merged.set(name, merge(merged.get(name), value));
  }
  return Object.fromEntries(merged);
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

/** One address, followed until `close`; `tell` takes changes of {data, trouble, status, at}. */
class Stream {
  constructor(address, tell) {
    this.address = address;
    this.tell = tell;
    this.data = null;
    this.open();
  }

  open() {
    const source = new EventSource(url("/api/live", { of: this.address }));
    this.source = source;
    source.addEventListener("snapshot", (event) => this.take(JSON.parse(event.data)));
    source.addEventListener("patch", (event) => this.take(merge(this.data, JSON.parse(event.data))));
    source.addEventListener("same", () => this.tell({ trouble: "", status: 0, at: Date.now() }));
    source.addEventListener("trouble", (event) => {
      const { detail, status } = JSON.parse(event.data);
      this.tell({ trouble: detail, status });
    });
    // The browser tries again by itself where a connection broke, not where it was refused.
    source.onerror = () => (source.readyState === EventSource.CLOSED ? this.refused()
      : this.tell({ trouble: "This engine does not answer.", status: 0 }));
  }

  take(data) {
    this.data = data;
    this.tell({ data, trouble: "", status: 0, at: Date.now() });
  }

  /** Ask plainly, which says why, and then follow again. */
  async refused() {
    let wait = AGAIN_MS;
    try {
      this.take(await get(this.address));
    } catch (error) {
      this.tell({ trouble: error.message, status: error.status });
      if ([400, 401, 403].includes(error.status)) wait = 10 * AGAIN_MS;
    }
    if (!this.closed) this.timer = setTimeout(() => this.open(), wait);
  }

  close() {
    this.closed = true;
    this.tell = () => {};
    clearTimeout(this.timer);
    this.source.close();
  }
}

/**
 * Follow an address of the API that is marked live.
 *
 * Returns {data, trouble, status, at}: the latest value, why there is no newer one, and when it came
 * (ms by this browser). Old data stays while the server is away, and while live is paused.
 */
export function useLive(address) {
  const [state, setState] = useState({ ...NOTHING, address });
  const on = !usePaused();
  const asked = useRef(false);
  useEffect(() => {
    // While paused, a new address is still asked for once.
    asked.current = false;
  }, [address]);
  useEffect(() => {
    if (!address) return undefined;
    const tell = (change) => setState((known) => ({ ...(known.address === address ? known : NOTHING), ...change, address }));
    if (!on && asked.current) return undefined;
    asked.current = true;
    if (!on) {
      get(address).then((data) => tell({ data, at: Date.now() }), (error) => tell({ trouble: error.message, status: error.status }));
      return undefined;
    }
    let stream = null;
    // Browsers allow six connections to a host, so tabs that nobody sees give theirs back.
    const look = () => {
      if (document.hidden) { stream?.close(); stream = null; } else if (!stream) stream = new Stream(address, tell);
    };
    look();
    document.addEventListener("visibilitychange", look);
    return () => {
      document.removeEventListener("visibilitychange", look);
      stream?.close();
    };
  }, [address, on]);
  return state.address === address ? state : NOTHING;
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
