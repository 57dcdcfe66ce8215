// What one queue did.
import { html } from "../lib/dom.mjs";
import { backlog, failing, throughput, waits } from "../lib/chart_sets.mjs";
import { Charts, useSeries } from "../lib/charts.mjs";

const TITLES = ["Throughput", "Wait until start", "Backlog", "Failing"];
const charts = (data) => (data ? [throughput(data), waits(data), backlog(data), failing(data)] : TITLES);

export default function QueueCharts({ queue, range }) {
  const { data, error } = useSeries(queue, range);
  return html`<${Charts} name=${`Queue ${queue}`} data=${data} error=${error} charts=${charts} />`;
}
