// Which charts are made of a series: rates and counts, in the units that fit them.
import { number, span } from "./format.mjs";

const UNITS = [["s", 1], ["min", 60], ["h", 3600]];

/** The unit in which the largest of these rates per second is at least one. */
function unitOf(...columns) {
  const top = Math.max(0, ...columns.flat().filter((value) => value != null));
  return UNITS.find(([, size]) => top * size >= 1) || UNITS[top ? 2 : 0];
}

const exact = (value) => (value >= 100 || Number.isInteger(value) ? number(Math.round(value)) : value.toFixed(value < 10 ? 2 : 1).replace(/\.?0+$/, ""));
const jobs = (value) => (value < 10 ? exact(value) : number(value));
const round = (ms) => span(ms).replace(".0 ", " ");
const scaled = (column, by) => column.map((value) => (value == null ? null : value * by));
const added = (one, other) => one.map((value, at) => (value == null ? null : value + (other[at] || 0)));

/** Jobs done and come in, per second or whatever they amount to. */
export function throughput({ columns, stepMs }) {
  const [done, came] = [scaled(columns.done, 1000 / stepMs), scaled(columns.came, 1000 / stepMs)];
  const [unit, size] = unitOf(done, came);
  return {
    title: "Throughput",
    unit: (value) => `${exact(value)}/${unit}`,
    series: [
      { label: "done", kind: "done", style: "area", values: scaled(done, size) },
      { label: "came in ≈", kind: "waiting", style: "dashed", values: scaled(came, size) },
    ],
  };
}

/** What the queue held at most. */
export const backlog = ({ columns }) => ({
  title: "Backlog",
  unit: jobs,
  steps: "counts",
  series: [
    { label: "waiting", kind: "waiting", style: "area", values: columns.waiting },
    { label: "active", kind: "active", values: columns.active },
    { label: "delayed", kind: "delayed", style: "dashed", values: columns.delayed },
  ],
});

/** How long the oldest job had waited. */
export const oldest = ({ columns }) => ({
  title: "Oldest waiting",
  unit: round,
  steps: "durations",
  series: [{ label: "age", kind: "active", style: "area", values: columns.oldestMs }],
});

/** Attempts that failed; those that were the last stand in front. */
export const failing = ({ columns, stepMs }) => ({
  title: "Failing",
  note: `attempts in ${span(stepMs)}`,
  unit: jobs,
  steps: "counts",
  series: [
    { label: "retried", kind: "retried", style: "bars", values: added(columns.retried, columns.dead), told: columns.retried },
    { label: "dead", kind: "dead", style: "bars", values: columns.dead },
  ],
});

/** Time from entry to start; a scale of powers of ten, since it spans many. */
export const waits = ({ columns }) => ({
  title: "Wait until start",
  unit: round,
  scale: "log",
  series: [
    { label: "p50", kind: "low", values: columns.waitP50Ms },
    { label: "p95", kind: "normal", values: columns.waitP95Ms },
    { label: "p99", kind: "high", values: columns.waitP99Ms },
  ],
});
