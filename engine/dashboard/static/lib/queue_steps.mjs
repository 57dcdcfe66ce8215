// What can be set for one queue beside pause and concurrency: types, bounds, order, limits.
import { html } from "./dom.mjs";
import { path, post } from "./api.mjs";

const set = (queue, verb, body) => post(`/api${path("queues", queue, ...verb.split("/"))}`, body);

export const hold = (queue, type) => ({
  label: "Hold",
  title: `Hold type ${type}?`,
  body: "Its jobs are set aside until it is released; nothing is lost. Use it when what they need is broken.",
  reason: "required",
  verb: "Hold it",
  run: async (reason) => {
    const { changed } = await set(queue, "hold", { type, reason });
    return { text: `${type} is held.`, undo: changed && (() => release(queue, type).run()) };
  },
});

export const release = (queue, type) => ({
  label: "Release",
  run: () => set(queue, "release", { type }).then(() => `${type} is released; engines move its jobs back to their lanes.`),
});

/** The name of a type that is to be held, where no table names it. */
export const holdSome = (queue) => ({
  label: "Hold a type…",
  title: `Hold a type of ${queue}`,
  field: { label: "Type", pattern: "[a-z0-9][a-z0-9._\\-]*", autocomplete: "off" },
  reason: "required",
  verb: "Hold it",
  run: (reason, type) => hold(queue, type).run(reason),
});

export const bounds = (queue, fullness) => ({
  label: "Bounds…",
  title: `How much may ${queue} hold?`,
  body: html`<p>Producers wait or are refused beyond that; what is there stays. Empty gives it back to the settings of the engines, 0 is no bound.</p>`,
  field: { label: "Jobs", type: "number", min: 0, required: false, value: fullness?.jobsMax || "", inputmode: "numeric" },
  reason: true,
  verb: "Set",
  run: async (reason, value) => {
    await set(queue, "bounds", value === "" ? { clear: true, reason } : { jobs: Number(value), reason });
    return value === "" ? `${queue} goes by the settings of the engines.` : `${queue} may hold ${Number(value) || "any number of"} jobs.`;
  },
});

export const onDead = (queue, now) => {
  const next = now === "block" ? "continue" : "block";
  return {
    label: next === "block" ? "Let dead jobs block their key…" : "Let keys go on past dead jobs…",
    title: next === "block" ? "Let a dead job block its key?" : "Let keys go on past their dead jobs?",
    body: next === "block" ? "Other jobs of its key then wait until it is retried or discarded." : "Keys that dead jobs keep are let go at once.",
    reason: true,
    verb: next === "block" ? "Block" : "Let go",
    run: async (reason) => {
      const { changed } = await set(queue, "order", { onDead: next, reason });
      return { text: `A dead job ${next === "block" ? "blocks its key" : "lets its key go on"} from now on.`, undo: changed && (() => set(queue, "order", { onDead: now }).then(() => "It is as before.")) };
    },
  };
};

export const newLimit = (queue, name = "") => ({
  label: name ? "Change…" : "Set a limit…",
  title: name ? `Limit ${name} of ${queue}` : `A limit of ${queue}`,
  body: html`<p class="muted">As <b class="mono">name rate</b> or <b class="mono">name concurrency</b>, such as <b class="mono">queue 50/s</b>,
    <b class="mono">type:send-message 600/m</b>, <b class="mono">provider 8 at a time</b>.</p>`,
  field: { label: "Limit", value: name ? `${name} ` : "", placeholder: "queue 50/s", autocomplete: "off" },
  reason: true,
  verb: "Set",
  run: async (reason, value) => {
    const body = readLimit(value);
    const { before } = await set(queue, "limits", { ...body, reason });
    return { text: `Limit ${body.name} is set.`, undo: before ? undefined : () => clearLimit(queue, body.name).run("") };
  },
});

/** Read "name 50/s" or "name 8 at a time". */
export function readLimit(text) {
  const found = /^(\S+)\s+(\d+(?:\.\d+)?)\s*(?:\/\s*(s|m|min|h)|at a time)$/.exec(text.trim());
  if (!found) throw new Error(`“${text}” is no limit. Write a name, then 50/s, 600/m, 100/h, or 8 at a time.`);
  const [, name, count, per] = found;
  return per ? { name, rate: Number(count), perMs: { s: 1e3, m: 6e4, min: 6e4, h: 36e5 }[per] } : { name, concurrency: Number(count) };
}

export const clearLimit = (queue, name) => ({
  label: "Clear…",
  kind: "danger",
  title: `Take limit ${name} away?`,
  body: "It bounds nothing until an engine that declares it starts.",
  reason: true,
  verb: "Take it away",
  run: (reason) => set(queue, "limits/clear", { name, reason }).then(() => `Limit ${name} is gone.`),
});

export const shutLimit = (queue, name) => ({
  label: "Shut for…",
  title: `Let nobody through limit ${name}`,
  field: { label: "Minutes", type: "number", min: 1, max: 525_600, value: 5, inputmode: "numeric" },
  reason: true,
  verb: "Shut it",
  run: async (reason, value) => {
    await set(queue, "limits/shut", { name, forMs: Number(value) * 60_000, reason });
    return { text: `Limit ${name} is shut for ${value} minutes.`, undo: () => openLimit(queue, name).run() };
  },
});

export const openLimit = (queue, name) => ({
  label: "Open",
  run: () => set(queue, "limits/open", { name }).then(() => `Limit ${name} is open.`),
});
