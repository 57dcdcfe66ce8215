// Lists that do not move while somebody points at them, types in them or has one of their menus open.
import { useEffect, useRef, useState } from "./dom.mjs";

/** The new order with what stands already kept where it is; new names go to the end. */
export const settled = (shown, order) => [...shown, ...order.filter((name) => !shown.includes(name))];

/**
 * Keep an order while the element of the returned `ref` is in use; follow it otherwise.
 *
 * Names that left the order while it is kept stay, so that what is pressed is what was meant.
 */
export function useCalmOrder(order) {
  const ref = useRef(null);
  const shown = useRef(order);
  const [, again] = useState(null);
  const busy = () => ref.current && (ref.current.matches(":hover") || ref.current.contains(document.activeElement)
    || ref.current.querySelector("[aria-selected=true],[popover]"));
  useEffect(() => {
    const let_go = () => setTimeout(() => again({}));
    ref.current?.addEventListener("pointerleave", let_go);
    ref.current?.addEventListener("focusout", let_go);
    return () => {
      ref.current?.removeEventListener("pointerleave", let_go);
      ref.current?.removeEventListener("focusout", let_go);
    };
  }, []);
  shown.current = busy() ? settled(shown.current, order) : order;
  return { ref, order: shown.current };
}
