// What can be done with a queue from wherever it is listed.
import { html } from "./dom.mjs";
import { path, post } from "./api.mjs";

const at = (queue, verb) => `/api${path("queues", queue, verb)}`;

/** Stop starting jobs of a queue, or go on; at once, and it can be taken back. */
export const pauseOrResume = ({ queue, paused }) => {
  const verb = paused ? "resume" : "pause";
  const back = paused ? "pause" : "resume";
  return {
    label: paused ? "Resume" : "Pause",
    run: async () => {
      const { changed } = await post(at(queue, verb), {});
      // What somebody else did before is not taken back by the way.
      return { text: `${queue} ${paused ? "goes on" : "is paused; jobs that run end in peace"}.`, undo: changed && (() => post(at(queue, back), {}).then(() => `${queue} is as before.`)) };
    },
  };
};

const told = (jobs) => (jobs ? `at ${jobs} jobs per engine` : "as each engine is set");

/** Set how many jobs of a queue each engine may run at a time. */
export const concurrency = ({ queue, concurrency: now }) => ({
  label: "Concurrency…",
  title: `Concurrency of ${queue}`,
  body: html`<p>Jobs of this queue that each engine may run at a time; now ${told(now)}. Empty gives it back to the settings of the engines.</p>`,
  field: { label: "Jobs at a time, per engine", type: "number", min: 1, max: 100_000, required: false, value: now ?? "", inputmode: "numeric" },
  reason: true,
  verb: "Set",
  run: async (reason, value) => {
    const jobs = value === "" ? null : Number(value);
    const { changed, before } = await post(at(queue, "concurrency"), { jobs, reason });
    const back = before ? Number(before) : null;
    return { text: `${queue} runs ${told(jobs)}.`, undo: changed && (() => post(at(queue, "concurrency"), { jobs: back }).then(() => `${queue} is as before.`)) };
  },
});
