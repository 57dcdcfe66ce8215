// What can be done with one job, wherever it is shown.
import { html } from "./dom.mjs";
import { path, post, url } from "./api.mjs";
import { moment } from "./format.mjs";
import { copy } from "./parts.mjs";

export const LANES = ["critical", "high", "normal", "low"];
const UNITS = { s: 1e3, m: 6e4, h: 36e5, d: 864e5 };

/** The page of a job; its hint leads there without a search. */
export const jobHref = (job) => url(path("jobs", job.queue, job.id), { at: job.hint });

const order = (job, verb, body = {}) => post(`/api${path("queues", job.queue, "jobs", job.id, verb)}`, { at: job.hint, ...body });
const told = (job) => ({ told: text }) => `${job.id} ${text}.`;

/** Read "90s", "5 m", "2h", "1d" or a moment; returns what the API takes. */
export function readTime(text) {
  const found = /^(\d+(?:\.\d+)?)\s*([smhd])$/.exec(text.trim());
  if (found) return { inMs: Math.round(Number(found[1]) * UNITS[found[2]]) };
  const at = Date.parse(text);
  if (Number.isNaN(at)) throw new Error(`“${text}” is no time. Write 90s, 5m, 2h, 1d, or a moment such as 2030-01-31T09:00Z.`);
  return { atMs: at };
}

const steps = {
  "run-now": (job) => ({
    label: "Run now",
    run: async () => {
      const done = await order(job, "run-now");
      const back = done.changed && job.state === "delayed"
        && (() => order({ ...job, hint: "" }, "reschedule", { atMs: job.atMs }).then(() => `${job.id} waits until ${moment(job.atMs)} again.`));
      return { text: told(job)(done), undo: back || undefined };
    },
  }),
  retry: (job) => ({
    label: "Retry",
    run: () => order(job, "retry").then(told(job)),
  }),
  reschedule: (job) => ({
    label: "Reschedule…",
    title: `When should ${job.id} run?`,
    field: { label: "In (90s, 5m, 2h, 1d), or at a moment", placeholder: "5m", value: "", autocomplete: "off" },
    reason: true,
    verb: "Reschedule",
    run: async (reason, value) => {
      const done = await order(job, "reschedule", { ...readTime(value), reason });
      const back = job.state === "delayed" && (() => order({ ...job, hint: "" }, "reschedule", { atMs: job.atMs }).then(told(job)));
      return { text: told(job)(done), undo: back || undefined };
    },
  }),
  priority: (job) => {
    let lane = LANES.find((each) => each !== job.lane);
    return {
      label: "Change lane…",
      title: `Which lane should ${job.id} go to?`,
      body: html`<label>Lane, now ${job.lane}<select onChange=${(event) => { lane = event.target.value; }}>
        ${LANES.filter((each) => each !== job.lane).map((each) => html`<option key=${each}>${each}</option>`)}</select></label>`,
      reason: true,
      verb: "Move",
      run: async (reason) => {
        const done = await order(job, "priority", { lane, reason });
        return { text: told(job)(done), undo: () => order({ ...job, hint: "" }, "priority", { lane: job.lane }).then(told(job)) };
      },
    };
  },
  cancel: (job) => ({
    label: "Cancel…",
    kind: "danger",
    title: `Cancel ${job.id}?`,
    body: job.state === "active" ? "Its handler is stopped, and the job ends as dead with the reason “cancelled”." : "It never runs, and ends as dead with the reason “cancelled”.",
    reason: true,
    verb: "Cancel the job",
    run: (reason) => order(job, "cancel", { reason }).then(told(job)),
  }),
  discard: (job) => ({
    label: "Discard…",
    kind: "danger",
    title: `Discard ${job.id} for good?`,
    body: "Its payload and story are gone afterwards. The audit keeps its id.",
    reason: true,
    verb: "Discard the job",
    run: (reason) => order(job, "discard", { reason }).then(told(job)),
  }),
};

/** One step as an action; `able` and `why` are what the server says of it, where it was asked. */
export const step = (verb, job, said) => ({ ...steps[verb](job), ...(said && { disabled: !said.able, why: said.why }) });

const BY_STATE = {
  waiting: ["priority", "reschedule", "cancel"],
  parked: ["priority", "reschedule", "cancel"],
  held: ["priority", "reschedule", "cancel"],
  delayed: ["run-now", "reschedule", "priority", "cancel"],
  active: ["cancel"],
  "waiting-children": ["cancel"],
  dead: ["retry", "discard"],
  done: [],
};

/** The menu of a row: what its state allows, and its page. */
export const rowItems = (job) => [
  { label: "Open", href: jobHref(job) },
  ...BY_STATE[job.state].map((verb) => step(verb, job)),
  job.state === "dead" && { label: "Edit and retry…", href: url(path("jobs", job.queue, job.id), { at: job.hint, edit: 1 }) },
  copied("Copy id", () => job.id),
];

/** Steps that many selected jobs of a state have in common. */
export const manySteps = (state) => ({ delayed: ["run-now", "cancel"], dead: ["retry", "discard"], done: [] }[state] || ["cancel"]);

/** Do a step with several jobs, one after another; tells how many it was done with. */
export async function doMany(verb, jobs, reason, progress) {
  let done = 0;
  const failed = new Map();
  for (const [at, job] of jobs.entries()) {
    progress(at);
    try {
      await order(job, verb, { reason });
      done += 1;
    } catch (error) {
      failed.set(error.message, (failed.get(error.message) || 0) + 1);
    }
  }
  progress(null);
  const [why] = failed.keys();
  return `${done} of ${jobs.length} jobs: done.${why ? ` ${jobs.length - done} not: ${why}` : ""}`;
}

/** An action that copies a text. */
export const copied = (label, text) => ({
  label,
  scope: "read",
  run: async () => (await copy(text()) ? `${label.replace("Copy", "Copied")}.` : "This browser does not allow copying here."),
});

const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** The commands that show a job to somebody without the page. */
export function commands(job) {
  const key = `mq:{${job.queue}}`;
  const [kind, ...parts] = (job.hint || "").split("/");
  const rest = parts.join("/");
  return { ...readers(job, key, kind, rest), curl: `curl -H "Authorization: Bearer $TOKEN" ${quoted(location.origin + url(`/api${path("queues", job.queue, "jobs", job.id)}`, { at: job.hint }))}`,
    cli: `python -m engine job --queue ${quoted(job.queue)} -- ${quoted(job.id)}`, link: location.origin + jobHref(job) };
}

function readers(job, key, kind, rest) {
  const cut = rest.lastIndexOf("/");
  const [place, entry] = [rest.slice(0, Math.max(cut, 0)), rest.slice(cut + 1)];
  const read = {
    lane: () => `XRANGE ${quoted(`${key}:${place}`)} ${entry} ${entry}`,
    dead: () => `XRANGE ${quoted(`${key}:dead`)} ${entry} ${entry}`,
    done: () => `XRANGE ${quoted(`${key}:done`)} ${entry} ${entry}`,
    held: () => `XRANGE ${quoted(`${key}:held:${place}`)} ${entry} ${entry}`,
    delayed: () => `ZRANGEBYSCORE ${quoted(`${key}:delayed`)} ${entry} ${entry}`,
    parked: () => `ZRANGE ${quoted(`${key}:${place}:parked`)} 0 9`,
  }[kind];
  return { redis: read ? `redis-cli ${read()}` : `redis-cli ZRANGEBYLEX ${quoted(`${key}:flows`)} ${quoted(`[${job.id}/`)} ${quoted(`(${job.id}0`)}` };
}
