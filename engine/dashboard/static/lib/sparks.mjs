// The numbers behind the small charts of a table, for ranges beyond the hour that the overview brings.
import { useEffect, useState } from "./dom.mjs";
import { get, url } from "./api.mjs";

const AGAIN_MS = 60_000;

/** Per queue {done, came, retried, dead}; empty for the last hour, which the overview has. */
export function useSparks(names, range) {
  const [sparks, setSparks] = useState({ range: "", found: {} });
  const key = names.slice().sort().join(" ");
  useEffect(() => {
    if (range === "1h" || !key) return undefined;
    const abort = new AbortController();
    const load = async () => {
      // One after another: a long list must not take all connections.
      for (const queue of key.split(" ")) {
        try {
          const { columns } = await get(url("/api/series", { queue, range }), { signal: abort.signal });
          setSparks((known) => ({ range, found: { ...(known.range === range ? known.found : {}), [queue]: columns } }));
        } catch {
          return;
        }
      }
    };
    load();
    const timer = setInterval(load, AGAIN_MS);
    return () => { abort.abort(); clearInterval(timer); };
  }, [key, range]);
  if (range === "1h") return {};
  // Until they are there, nothing is shown: numbers of another range would lie.
  return Object.fromEntries(names.map((name) => [name, sparks.range === range && Object.hasOwn(sparks.found, name) ? sparks.found[name] : null]));
}
