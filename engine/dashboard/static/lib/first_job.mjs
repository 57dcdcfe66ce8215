// What stands on the overview until a first job was sent: one line that sends it.
import { html } from "./dom.mjs";
import { useOnce } from "./live.mjs";
import { Code, Copy } from "./parts.mjs";
import { commands } from "./send_lines.mjs";

/** Whether nothing ever happened here. */
export const isFresh = (queues) => Object.values(queues).every(({ stats }) => !stats.waiting && !stats.active && !stats.delayed && !stats.dead
  && !stats.held.length && Object.values(stats.totals).every((types) => !Object.keys(types).length));

export function FirstJob() {
  const { data } = useOnce("/api/about");
  const type = data && (data.types.find((each) => each.tried) || data.types[0]);
  if (!type) return null;
  const [, line] = commands({ type: type.type, queue: type.queue, lane: "normal", payload: JSON.stringify(type.example), address: data.url })[0];
  return html`<section class="card pad first-job" aria-label="First job"><div class="head"><h2>Send the first job</h2><${Copy} text=${line} label="Copy" kind="primary" /></div>
    <p>Producers need nothing but <code>XADD</code>. This one is for ${type.type}, and appears below within a second.</p>
    <${Code} text=${line} label="Line that sends a job" /><p class="muted"><a href=${`/about?${new URLSearchParams({ type: type.type })}`}>Other types, their fields, and the command line</a></p></section>`;
}
