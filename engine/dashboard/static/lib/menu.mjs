// A button that opens a list of actions or links.
import { html, useEffect, useRef, useState } from "./dom.mjs";
import { act, hindrance, toast } from "./actions.mjs";

const GAP = 4;

/** Put a popover beside its button, within the window. */
function place(box, button) {
  const at = button.getBoundingClientRect();
  const { width, height } = box.getBoundingClientRect();
  const below = at.bottom + GAP + height < innerHeight;
  box.style.left = `${Math.max(8, Math.min(at.right - width, innerWidth - width - 8))}px`;
  box.style.top = `${Math.max(8, below ? at.bottom + GAP : at.top - GAP - height)}px`;
}

/**
 * A menu. `items` are actions as `Action` takes them, links {label, href}, or empty to be left out.
 */
export function Menu({ label, items, children = "⋯", kind = "plain" }) {
  const [open, setOpen] = useState(false);
  const button = useRef(null);
  const box = useRef(null);
  useEffect(() => {
    if (!open) return undefined;
    box.current.showPopover();
    place(box.current, button.current);
    box.current.querySelector("[role=menuitem]")?.focus();
    const toggled = (event) => event.newState === "closed" && setOpen(false);
    box.current.addEventListener("toggle", toggled);
    const close = () => setOpen(false);
    addEventListener("resize", close);
    return () => removeEventListener("resize", close);
  }, [open]);
  const pick = (item) => {
    setOpen(false);
    button.current.focus();
    const why = hindrance(item);
    if (why) toast(why, { kind: "warn" });
    else act(item);
  };
  const keys = (event) => {
    const all = [...box.current.querySelectorAll("[role=menuitem]")];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      all[(all.indexOf(document.activeElement) + step + all.length) % all.length].focus();
    } else if (event.key === "Escape" || event.key === "Tab") {
      setOpen(false);
      button.current.focus();
      event.stopPropagation();
    }
  };
  return html`<button type="button" ref=${button} class="${kind} dots" aria-label=${label} title=${label} aria-haspopup="menu"
    aria-expanded=${open} data-menu="" onClick=${() => setOpen(!open)}>${children}</button>
    ${open && html`<div ref=${box} class="menu" role="menu" popover="auto" aria-label=${label} onKeyDown=${keys}>
      ${items.filter(Boolean).map((item) => (item.href
        ? html`<a role="menuitem" key=${item.label} href=${item.href} onClick=${() => setOpen(false)}>${item.label}</a>`
        : html`<button type="button" role="menuitem" key=${item.label} class=${item.kind} title=${hindrance(item) || undefined}
            aria-disabled=${hindrance(item) ? "true" : undefined} onClick=${() => pick(item)}>${item.label}</button>`))}</div>`}`;
}
