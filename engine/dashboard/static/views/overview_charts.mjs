// What all queues did together.
import { html } from "../lib/dom.mjs";
import { backlog, failing, oldest, throughput } from "../lib/chart_sets.mjs";
import { Charts, useSeries } from "../lib/charts.mjs";

const TITLES = ["Throughput", "Backlog", "Oldest waiting", "Failing"];
const charts = (data) => (data ? [throughput(data), backlog(data), oldest(data), failing(data)] : TITLES);

export default function OverviewCharts({ range }) {
  const { data, error } = useSeries("", range);
  return html`<${Charts} name="All queues" data=${data} error=${error} charts=${charts} />`;
}
