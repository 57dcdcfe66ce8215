// Bring a dead job back with another payload; nothing moves before the payload is found good.
import { html, useEffect, useRef, useState } from "./dom.mjs";
import { path, post } from "./api.mjs";
import { toast } from "./actions.mjs";

/** The payload as it was written, laid out for people where it is JSON. */
export function dataOf(story) {
  const raw = story.fields.find((field) => field.name === "data");
  if (!raw || raw.encoding !== "utf-8") return "";
  try {
    // Numbers that JavaScript cannot hold stay as they were written.
    const laid = JSON.stringify(JSON.parse(raw.value), null, 2);
    return /\d{16}/.test(raw.value) ? raw.value : laid;
  } catch {
    return raw.value;
  }
}

const fault = (text) => {
  try {
    JSON.parse(text);
    return "";
  } catch (error) {
    return error.message;
  }
};

/** The dialog; `close` is called when it is left, `done` with the order that was carried out. */
export function EditRetry({ story, close, done }) {
  const box = useRef(null);
  const area = useRef(null);
  const before = useRef(dataOf(story));
  const [text, setText] = useState(before.current);
  const [reason, setReason] = useState("");
  const [told, setTold] = useState({ busy: false, error: "" });
  const { job } = story;
  useEffect(() => { box.current.showModal(); area.current.focus(); }, []);
  const wrong = fault(text);
  const able = !wrong && text !== before.current && !told.busy;
  const submit = async (event) => {
    event.preventDefault();
    if (!able) return;
    setTold({ busy: true, error: "" });
    try {
      // White space between values is for people, and not sent; what was typed within them is.
      const data = /\d{16}/.test(text) ? text : JSON.stringify(JSON.parse(text));
      const order = await post(`/api${path("queues", job.queue, "jobs", job.id, "edit-retry")}`, { at: job.hint, data, reason });
      toast(`${job.id} ${order.told}.`);
      done(order);
    } catch (error) {
      setTold({ busy: false, error: error.message });
    }
  };
  return html`<dialog ref=${box} class="edit" aria-labelledby="edit" onClose=${close}><form onSubmit=${submit}>
    <h2 id="edit">Edit and retry <span class="mono">${job.id}</span></h2>
    <p class="muted">The job keeps its id and story. Its new payload is checked first${job.type === "other" ? "" : html` against type <b>${job.type}</b>`}; if it does not fit, the job stays dead as it is.</p>
    <label>Payload<textarea ref=${area} spellcheck="false" rows="14" value=${text} aria-invalid=${Boolean(wrong)} aria-describedby="edit-fault" onInput=${(event) => setText(event.target.value)} /></label>
    <p id="edit-fault" role="status" class=${wrong || told.error ? "bad" : "muted"}>${told.error || wrong || (text === before.current ? "This is the payload as it was." : "This is valid JSON.")}</p>
    <label>Reason, shown in the audit<input maxlength="200" value=${reason} onInput=${(event) => setReason(event.target.value)} /></label>
    <div class="buttons"><button type="button" class="plain" onClick=${() => setText(before.current)} disabled=${text === before.current}>Undo edits</button>
      <button type="button" onClick=${close}>Leave it</button><button class="primary" disabled=${!able}>${told.busy ? "Checking…" : "Retry with this payload"}</button></div></form></dialog>`;
}
