// The room for four charts, kept while they are loaded after everything else.
import { html, useEffect, useState } from "./dom.mjs";

/** `load` imports a view of charts; the rest is given to it. */
export function ChartPlace({ load, ...told }) {
  const [charts, set] = useState(null);
  useEffect(() => { load().then((module) => set(() => module.default), () => {}); }, []);
  return charts ? html`<${charts} ...${told} />`
    : html`<div class="charts">${[1, 2, 3, 4].map((key) => html`<div key=${key} class="chart card" />`)}</div><div class="marks" />`;
}
