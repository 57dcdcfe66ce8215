// The overview, followed once for the whole page; the top bar and the views read the same.
import { createContext, html, useContext } from "./dom.mjs";
import { useLive } from "./live.mjs";

const Context = createContext({ data: null, trouble: "", at: 0 });

/** Follows the overview for everything inside. */
export function FollowOverview({ on, children }) {
  const told = useLive(on ? "/api/overview" : "");
  return html`<${Context.Provider} value=${told}>${children}<//>`;
}

/** The latest overview as {data, trouble, at}; data is null until the first one comes. */
export const useOverview = () => useContext(Context);
