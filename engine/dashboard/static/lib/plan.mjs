// A bulk operation on dead letters, planned before it is started: what, how many, how fast.
import { html, useEffect, useRef, useState } from "./dom.mjs";
import { path, post } from "./api.mjs";
import { toast } from "./actions.mjs";
import { moment, number, span } from "./format.mjs";
import { navigate } from "./router.mjs";

/** The error of a group in one line; its class without the module that it stands in. */
export function errorLine({ kind, message, fingerprint }) {
  const short = kind.split(".").pop();
  return message ? `${short}: ${message}` : short || fingerprint;
}

const RETRY = { verb: "Retry", noun: "come back", rate: 20 };
const DISCARD = { verb: "Discard", noun: "are dropped for good", rate: 500 };

/** Ask for a plan, and go on until everything was looked at, or the person closed it. */
async function count(body, tell, signal) {
  let plan = await post("/api/operations/plan", body, { signal });
  tell(plan);
  while (!plan.complete && !signal.aborted) {
    plan = await post("/api/operations/plan", { planId: plan.id }, { signal });
    tell(plan);
  }
}

/** What is being planned: follows the count, keeps rate and canary. */
function usePlan({ queue, action, filter }, words) {
  const [state, set] = useState({ plan: null, error: null });
  const [rate, setRate] = useState(words.rate);
  const [canary, setCanary] = useState(null);
  useEffect(() => {
    const abort = new AbortController();
    const tell = (plan) => set({ plan, error: null });
    count({ queue, action, filter, rate }, tell, abort.signal)
      .catch((error) => error.name !== "AbortError" && set((known) => ({ ...known, error })));
    return () => abort.abort();
  }, []);
  const jobs = state.plan?.estimate ?? 0;
  // A few go first where there are many; of a few, all go at once.
  const first = action === "discard" ? 0 : canary ?? (jobs > 50 ? 10 : 0);
  return { ...state, jobs, rate, setRate, canary: Math.min(first, jobs), setCanary };
}

const Unable = ({ reasons }) => Object.entries(reasons).map(([why, jobs]) => html`
  <li key=${why}><b>${number(jobs)}</b> cannot: ${why}</li>`);

const Samples = ({ list }) => list.length > 0 && html`<details><summary>${list.length} of them</summary><ul class="plain-list">${list.map((job) => html`
  <li key=${job.entry}><a class="mono" target="_blank" href=${path("jobs", job.queue, job.id)}>${job.id}</a> <small>${job.type}, died ${moment(job.atMs)}</small></li>`)}</ul></details>`;

function Told({ plan, jobs, words }) {
  if (!plan) return html`<p class="muted" aria-busy="true">Counting…</p>`;
  const looked = `${plan.searched.toLocaleString("en-GB")} of ${plan.total.toLocaleString("en-GB")} dead letters looked at`;
  return html`<div><p class="plan-count"><b>${plan.complete ? "" : "≈ "}${jobs.toLocaleString("en-GB")}</b> ${jobs === 1 ? "job" : "jobs"} ${words.noun}</p>
    ${!plan.complete && html`<progress class="wide" max=${plan.total} value=${plan.searched} aria-label=${looked} />`}
    <small>${plan.complete ? "Exact: dead letters that come later are left out." : `${looked}…`}</small>
    <ul class="plain-list"><${Unable} reasons=${plan.unable} /></ul><${Samples} list=${plan.samples} /></div>`;
}

/** The dialog that plans and starts; `close` is called with the operation, or with nothing. */
export function PlanDialog({ queue, action, filter, title, close }) {
  const words = action === "discard" ? DISCARD : RETRY;
  const box = useRef(null);
  const { plan, error, jobs, rate, setRate, canary, setCanary } = usePlan({ queue, action, filter }, words);
  const [reason, setReason] = useState("");
  const [typed, setTyped] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => { box.current.showModal(); }, []);
  const able = plan?.complete && jobs > 0 && rate > 0 && !busy && (!plan.confirm || typed === queue);
  const submit = async (event) => {
    event.preventDefault();
    if (!able) return;
    setBusy(true);
    try {
      const { id } = await post("/api/operations/plan", { planId: plan.id, rate, canary });
      const many = jobs === 1 ? "1 job is" : `${number(jobs)} jobs are`;
      const made = await post("/api/operations", { planId: id, reason: reason.trim(), confirm: typed });
      toast(action === "discard" ? `${many} dropped in 10 s; until then it can be undone.` : `${many} brought back, ${rate} a second.`);
      close(made);
      navigate(path("operations", queue, made.record.id));
    } catch (failed) {
      toast(`${words.verb}: ${failed.message}`, { kind: "bad" });
      setBusy(false);
    }
  };
  const whole = jobs && rate > 0 ? span(Math.max(0, jobs - canary) * 1000 / rate) : "—";
  return html`<dialog ref=${box} class="plan" aria-labelledby="plan" onClose=${() => close()}><form onSubmit=${submit}>
    <h2 id="plan">${words.verb} ${title}</h2>
    ${error ? html`<p class="bad">${error.message}</p>` : html`<${Told} plan=${plan} jobs=${jobs} words=${words} />`}
    <div class="filters"><label>Jobs a second<input type="number" required min="0.1" max="10000" step="any" value=${rate} onInput=${(event) => setRate(Number(event.target.value))} /></label>
      ${action === "retry" && html`<label>Canary: jobs that go first<input type="number" min="0" max="10000" value=${canary} onInput=${(event) => setCanary(Number(event.target.value))} /></label>`}
      <p class="muted">${jobs && rate > 0 ? `takes about ${whole.replace(".0 ", " ")}` : whole}${canary > 0 ? ", after the canary" : ""}</p></div>
    ${action === "retry" && html`<p><small>${canary > 0 ? `The first ${canary} go at once; the others follow when these have ended, and none goes if more than one in five dies again. ` : ""}What has not started can be undone.</small></p>`}
    ${plan?.confirm && html`<label><span>Type <b class="mono">${queue}</b> to go on</span><input autocomplete="off" spellcheck="false" value=${typed} onInput=${(event) => setTyped(event.target.value)} /></label>`}
    <label>Reason, shown in the audit<input maxlength="200" value=${reason} onInput=${(event) => setReason(event.target.value)} /></label>
    <div class="buttons"><button type="button" onClick=${() => close()}>Leave it</button>
      <button class=${action === "discard" ? "danger" : "primary"} disabled=${!able}>${words.verb} ${jobs ? number(jobs) : ""}</button></div></form></dialog>`;
}

/** Buttons that open a plan; `filter` says which dead letters of the queue are meant. */
export function PlanButtons({ queue, filter, title, able, why, actions = ["retry", "discard"] }) {
  const [open, setOpen] = useState("");
  const press = (action) => (able ? setOpen(action) : toast(why, { kind: "warn" }));
  return html`${actions.map((action) => html`<button type="button" key=${action} class=${action === "discard" ? "danger" : "primary"}
    aria-disabled=${able ? undefined : "true"} title=${able ? undefined : why} onClick=${() => press(action)}>${action === "discard" ? "Discard…" : "Retry…"}</button>`)}
    ${open && html`<${PlanDialog} queue=${queue} filter=${filter} title=${title} action=${open} close=${() => setOpen("")} />`}`;
}
