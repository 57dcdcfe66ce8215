// Lists that may be long: asked for part by part, for two seconds at most, then on demand.
import { useEffect, useRef, useState } from "./dom.mjs";
import { get } from "./api.mjs";
import { usePaused } from "./live.mjs";

const ASK_ON_MS = 2_000;
const AGAIN_MS = 3_000;
const ROWS = 50;

export const keyOf = (job) => `${job.queue}|${job.hint}|${job.id}`;
const NONE = { jobs: [], searched: 0, total: null, cursor: "", complete: false, busy: true, error: null, requests: 0, next: "" };

/** Put jobs behind those that are there; one that is there already is not put twice. */
function joined(jobs, more) {
  const known = new Set(jobs.map(keyOf));
  return [...jobs, ...more.filter((job) => !known.has(keyOf(job)))];
}

/**
 * Ask for a list of the API, such as jobs of a state, until a page is full or two seconds are over.
 *
 * Returns {jobs, searched, total, complete, busy, error, further, anew}.
 */
export function useScan(address) {
  const [state, setState] = useState({ ...NONE, address });
  const running = useRef(null);
  const scan = async (from) => {
    running.current?.abort();
    const abort = running.current = new AbortController();
    let now = { ...from, busy: true, error: null, address };
    const want = now.jobs.length + ROWS;
    const began = Date.now();
    setState(now);
    try {
      do {
        const page = await get(`${address}${address.includes("?") ? "&" : "?"}cursor=${encodeURIComponent(now.cursor)}`, { signal: abort.signal });
        now = { ...now, jobs: joined(now.jobs, page.jobs), searched: now.searched + page.searched, total: page.total,
          cursor: page.cursor, complete: page.complete, requests: now.requests + 1, next: page.at || "" };
        setState(now);
      } while (!now.complete && now.jobs.length < want && Date.now() - began < ASK_ON_MS);
      setState({ ...now, busy: false });
    } catch (error) {
      if (error.name !== "AbortError") setState({ ...now, busy: false, error });
    }
  };
  useEffect(() => {
    if (address) scan(NONE);
    return () => running.current?.abort();
  }, [address]);
  const shown = state.address === address ? state : NONE;
  return { ...shown, further: () => scan(shown), anew: () => scan(NONE) };
}

/**
 * Look at the head of a list now and then, without moving what is shown.
 *
 * Returns {fresh, gone}: rows that came, and the keys of those that left.
 */
export function useNews(address, shown, { on, headFirst }) {
  const [news, setNews] = useState({ address, head: null, complete: false });
  const live = !usePaused() && on;
  useEffect(() => {
    if (!live) return undefined;
    const abort = new AbortController();
    const look = async () => {
      if (document.hidden) return;
      try {
        const { jobs, complete } = await get(address, { signal: abort.signal });
        setNews({ address, head: jobs, complete });
      } catch { /* The list itself says what fails. */ }
    };
    const timer = setInterval(look, AGAIN_MS);
    return () => { abort.abort(); clearInterval(timer); };
  }, [address, live]);
  if (news.address !== address || !news.head) return { head: [], fresh: [], gone: new Set() };
  const head = new Map(news.head.map((job) => [keyOf(job), job]));
  const known = new Set(shown.map(keyOf));
  const last = shown.findLastIndex((job) => head.has(keyOf(job)));
  // What stands before a row that is still there, and is not there itself, has left. In a list that
  // grows at its head, rows may also have been pushed out of sight.
  const left = shown.filter((job, at) => !head.has(keyOf(job)) && (news.complete || at < last || (headFirst && last < 0)));
  return { head, fresh: news.head.filter((job) => !known.has(keyOf(job))), gone: new Set(left.map(keyOf)) };
}
