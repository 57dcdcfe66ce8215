// Charts over time, drawn by uPlot, which is loaded once the first of them comes into view.
import { html, useEffect, useRef, useState } from "./dom.mjs";
import { get, url } from "./api.mjs";
import { moment, noteServerTime, serverNow, zone } from "./format.mjs";
import { useSettings } from "./frame.mjs";
import { usePaused } from "./live.mjs";
import { setQuery, useAddress } from "./router.mjs";

const HEIGHT = 168;
const AGAIN_MS = { "1h": 60_000, "24h": 300_000, "7d": 900_000 };
const LATE_MS = 11_000;
const RETRY_MS = 5_000;

let loading = null;

/** Load uPlot and its style; what failed is tried again by the next one who asks. */
function load() {
  const sheet = new Promise((resolve, reject) => {
    const link = document.createElement("link");
    Object.assign(link, { rel: "stylesheet", href: new URL("../vendor/uplot.css", import.meta.url).href, onload: resolve, onerror: reject });
    document.head.append(link);
  });
  loading ??= Promise.all([import("../vendor/uplot.mjs"), sheet]).then(([module]) => module.default, (error) => { loading = null; throw error; });
  return loading;
}

/** The series of a queue, or of all, asked for again whenever a step is over. */
export function useSeries(queue, range) {
  const [state, setState] = useState({ data: null, error: null });
  const paused = usePaused();
  useEffect(() => setState((known) => (known.data ? { data: null, error: null } : known)), [queue, range]);
  useEffect(() => {
    if (paused) return undefined;
    const abort = new AbortController();
    let timer = 0;
    const again = (ms) => { timer = setTimeout(ask, ms); };
    const ask = () => {
      if (document.hidden) { again(RETRY_MS); return; }
      get(url("/api/series", { queue, range }), { signal: abort.signal }).then((data) => {
        noteServerTime(data.nowMs);
        setState({ data, error: null });
        const end = data.fromMs + data.columns.done.length * data.stepMs;
        again(Math.min(AGAIN_MS[range], Math.max(RETRY_MS, end + data.stepMs + LATE_MS - serverNow())));
      }, (error) => {
        if (error.name === "AbortError") return;
        setState((known) => ({ ...known, error }));
        again(RETRY_MS);
      });
    };
    ask();
    return () => { abort.abort(); clearTimeout(timer); };
  }, [queue, range, paused]);
  return state;
}

// The colours of the page as the canvas can take them, read anew when the theme changes.
let colours = new Map();
function forget() { colours = new Map(); }
addEventListener("themechange", forget);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", forget);

function colour(token) {
  if (!colours.has(token)) {
    const probe = document.createElement("i");
    probe.style.color = `var(--${token})`;
    probe.style.forcedColorAdjust = "none";
    document.body.append(probe);
    colours.set(token, getComputedStyle(probe).color);
    probe.remove();
  }
  return colours.get(token);
}
const wash = (token, share) => colour(token).replace(/^rgb\((.+)\)$/, `rgba($1, ${share})`);

const day = (atS, options) => new Date(atS * 1000).toLocaleDateString("en-GB", { timeZone: zone(), ...options });

/** What stands below a chart: times, and the day where one begins. */
function ticks(plot, splits) {
  const wide = plot.scales.x.max - plot.scales.x.min > 2 * 86_400;
  return splits.map((atS) => {
    const time = new Date(atS * 1000).toLocaleTimeString("en-GB", { timeZone: zone(), hour: "2-digit", minute: "2-digit" });
    return wide || time === "00:00" ? (time === "00:00" ? day(atS, { weekday: "short", day: "numeric" }) : time) : time;
  });
}

/** A moment as short as a caption wants it: the day only where it is not today. */
const shortMoment = (atMs) => {
  const time = moment(atMs, { seconds: false });
  return time.length > 5 ? `${day(atMs / 1000, { weekday: "short", day: "numeric" })}, ${time.slice(-5)}` : time;
};

const axis = { stroke: () => colour("muted"), font: "12px system-ui, sans-serif", ticks: { show: false } };

function seriesOf(uPlot, { kind, style = "line", values }) {
  const shared = { stroke: () => colour(kind), points: { show: false }, width: 1.75 };
  const lone = { ...shared, points: { show: true, size: 4, width: 0, fill: () => colour(kind), filter: alone(values) } };
  switch (style) {
    case "bars": return { ...shared, width: 0, fill: () => colour(kind), paths: uPlot.paths.bars({ size: [0.85, 24], align: 1 }) };
    case "dashed": return { ...lone, width: 1.5, dash: [4, 4] };
    case "area": return { ...lone, fill: () => wash(kind, 0.14) };
    default: return lone;
  }
}

/** Points without neighbours, which no line would show. */
const alone = (values) => () => values.map((value, at) => (value != null && values[at - 1] == null && values[at + 1] == null ? at : -1)).filter((at) => at >= 0);

/** Lines where somebody did something. */
function drawMarks(plot, marks) {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio || 1;
  ctx.save();
  ctx.lineWidth = ratio;
  for (const { atMs, kind } of marks) {
    const x = Math.round(plot.valToPos(atMs / 1000, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = ctx.fillStyle = colour(kind);
    ctx.setLineDash([2 * ratio, 3 * ratio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.beginPath();
    ctx.moveTo(x - 4 * ratio, bbox.top);
    ctx.lineTo(x + 4 * ratio, bbox.top);
    ctx.lineTo(x, bbox.top + 6 * ratio);
    ctx.fill();
  }
  ctx.restore();
}

const SECOND = 1_000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
const ROUND = [1, 2, 5, 10, 20, 50, 100, 200, 500];
/** What lies between two lines of an axis: round durations (ms), or round numbers of whole things. */
const STEPS = {
  durations: [...ROUND, ...[1, 2, 5, 10, 15, 30].map((count) => count * SECOND), ...[1, 2, 5, 10, 15, 30].map((count) => count * MINUTE),
    ...[1, 2, 6, 12].map((count) => count * HOUR), ...ROUND.map((count) => count * DAY)],
  counts: Array.from({ length: 13 }, (_, at) => [1, 2, 5].map((count) => count * 10 ** at)).flat(),
};

const tops = (up) => (plot, min, max) => [0, up(max == null || max <= 0 ? 1 : max)];
const log = (plot, min, max) => [10 ** Math.floor(Math.log10(Math.max(min ?? 1, 0.1))), 10 ** Math.ceil(Math.log10(Math.max(max ?? 10, (min ?? 1) * 1.01, 1)))];

/** Of a scale by powers of ten, the powers alone. */
const powers = (plot, splits) => splits.map((value) => (Number.isInteger(Math.round(Math.log10(value) * 1e6) / 1e6) ? value : null));

function options(uPlot, told, size) {
  const { series, unit, steps, group, marks, scale, onCursor, onZoom, zoom } = told;
  const whole = scale === "log" ? powers : (plot, splits) => splits;
  return {
    ...size,
    legend: { show: false },
    padding: [10, 12, 0, 0],
    tzDate: (atS) => (zone() ? uPlot.tzDate(new Date(atS * 1e3), zone()) : new Date(atS * 1e3)),
    scales: { x: { min: zoom[0] / 1e3, max: zoom[1] / 1e3 }, y: scale === "log" ? { distr: 3, range: log } : { range: tops((max) => max * 1.1) } },
    axes: [
      { ...axis, values: ticks, space: 64, size: 28, grid: { show: false } },
      { ...axis, filter: whole, ...(steps && { incrs: STEPS[steps] }), values: (_, splits) => splits.map((value) => (value == null ? null : unit(value))), space: 28, size: 62, grid: { stroke: () => colour("line"), width: 1, filter: whole } },
    ],
    series: [{}, ...series.map((each) => seriesOf(uPlot, each))],
    cursor: { y: false, points: { size: 7, width: 0 }, drag: { x: true, y: false, setScale: false }, sync: { key: group, setSeries: false } },
    hooks: {
      drawAxes: [(plot) => drawMarks(plot, marks)],
      setCursor: [(plot) => onCursor(plot.cursor.left >= 0 ? plot.cursor.idx : null)],
      setSelect: [(plot) => {
        const { left, width } = plot.select;
        if (width < 4) return;
        plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
        onZoom(plot.posToVal(left, "x") * 1e3, plot.posToVal(left + width, "x") * 1e3);
      }],
    },
  };
}

/** The canvas of one chart, drawn by uPlot. */
function Canvas(told) {
  const place = useRef(null);
  const plot = useRef(null);
  const newest = useRef(told);
  newest.current = told;
  const { series, fromMs, stepMs, zoom, marks } = told;
  const shape = [series.map((each) => `${each.kind} ${each.style}`).join(), told.scale, zone(), zoom.join(), document.documentElement.dataset.theme].join("|");
  const data = () => [newest.current.series[0].values.map((_, at) => (newest.current.fromMs + at * newest.current.stepMs) / 1e3),
    ...newest.current.series.map((each) => (each.style === "bars" ? each.values.map((value) => value || null) : each.values))];
  useEffect(() => {
    let gone = false;
    const watch = new ResizeObserver(([{ contentRect: { width } }]) => width && plot.current?.setSize({ width, height: HEIGHT }));
    load().then((uPlot) => {
      // The view may be gone before it tells of that.
      if (gone || !place.current) return;
      const live = { ...newest.current, onCursor: (at) => newest.current.onCursor(at), onZoom: (...range) => newest.current.onZoom(...range) };
      const size = { width: place.current.clientWidth, height: HEIGHT };
      plot.current = new uPlot(options(uPlot, live, size), data(), place.current);
      watch.observe(place.current);
    }, () => told.onFail());
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const redraw = () => plot.current?.redraw(false);
    dark.addEventListener("change", redraw);
    return () => {
      gone = true;
      dark.removeEventListener("change", redraw);
      watch.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [shape, marks.length]);
  useEffect(() => { plot.current?.setData(data(), false); plot.current?.redraw(); }, [fromMs, stepMs, series]);
  return html`<div class="plot" ref=${place} aria-hidden="true" />`;
}

/** The same numbers as a table, the newest first. */
const Numbers = ({ title, series, fromMs, stepMs, unit }) => html`<div class="scroll numbers" tabindex="0" role="region" aria-label=${`${title}, as a table`}>
  <table class="dense"><thead><tr><th scope="col">From</th>${series.map((each) => html`<th scope="col" class="num" key=${each.label}>${each.label}</th>`)}</tr></thead>
  <tbody>${series[0].values.map((_, at) => at).reverse().map((at) => html`<tr key=${at}><th scope="row">${moment(fromMs + at * stepMs, { seconds: false })}</th>
    ${series.map((each) => html`<td class="num" key=${each.label}>${tell(each, at, unit)}</td>`)}</tr>`)}</tbody></table></div>`;

const tell = ({ values, told }, at, unit) => { const value = (told || values)[at]; return value == null ? "—" : unit(value); };

/**
 * One chart with its legend in words. `series` are {label, kind, style, values, told?}: `kind` is a
 * token's name, `style` line, dashed, area or bars, `told` what the legend says where bars stand on
 * each other. `unit` writes a value, `steps` says which lines an axis may have. Charts of one `group` share the cursor.
 */
export function Chart({ title, note = "", series, fromMs, stepMs, unit, steps, marks = [], group = "charts", scale, zoom, onZoom }) {
  useSettings();
  const [table, setTable] = useState(false);
  const [failed, setFailed] = useState(false);
  const [near, setNear] = useState(false);
  const [at, setAt] = useState(null);
  const box = useRef(null);
  useEffect(() => {
    const watch = new IntersectionObserver(([entry]) => entry.isIntersecting && setNear(true), { rootMargin: "160px" });
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  const count = series[0].values.length;
  const none = series.every(({ values }) => values.every((value) => value == null));
  const last = series.map(({ values }) => values.findLastIndex((value) => value != null)).reduce((one, other) => Math.max(one, other), -1);
  const shown = at != null && at < count ? at : last;
  const drawn = zoom || [fromMs, fromMs + count * stepMs];
  const body = table || failed ? html`<${Numbers} ...${{ title, series, fromMs, stepMs, unit }} />`
    : none ? html`<p class="plot none muted">Nothing was counted in this time.</p>`
    : near ? html`<${Canvas} ...${{ series, fromMs, stepMs, unit, steps, marks, group, scale, zoom: drawn, onZoom, onCursor: setAt, onFail: () => setFailed(true) }} />`
    : html`<div class="plot" />`;
  return html`<figure class="chart card" ref=${box}><figcaption><h3>${title}</h3>${note && html`<small>${note}</small>`}<small class="at">${shown < 0 ? "" : shortMoment(fromMs + shown * stepMs)}</small>
    <button type="button" class="link" aria-pressed=${table} onClick=${() => setTable(!table)} aria-label=${`${title} as a table`}>Table</button></figcaption>
    <p class="key">${series.map((each) => html`<span key=${each.label} class="of"><i class="${each.style || "line"} ${each.kind}" aria-hidden="true" />${each.label} <b>${shown < 0 ? "—" : tell(each, shown, unit)}</b></span>`)}</p>
    ${body}</figure>`;
}

const MARK = { pause: "delayed", hold: "delayed", version: "accent", "limit-shut": "delayed" };

/** Charts beside each other over one series, with one zoom, which lives in the address. */
export function Charts({ name, data, error, charts }) {
  useSettings();
  const { zoom: told = "" } = useAddress().query;
  if (!data) return html`<div class="charts" aria-busy=${!error}>${charts(null).map((title) => html`<div class="chart card blank" key=${title}><h3>${title}</h3>${error && html`<p class="muted">${error.message}</p>`}</div>`)}</div><div class="marks" />`;
  const { fromMs, stepMs } = data;
  const endMs = fromMs + data.columns.done.length * stepMs;
  const [from, to] = told.split("-").map(Number);
  const zoom = from < to && to > fromMs && from < endMs ? [Math.max(from, fromMs), Math.min(to, endMs)] : null;
  const onZoom = (low, high) => high - low > stepMs && setQuery({ zoom: `${Math.round(low)}-${Math.round(high)}` }, { replace: false });
  const marks = data.marks.map((mark) => ({ ...mark, kind: MARK[mark.what] || "muted" }));
  const inside = marks.filter(({ atMs }) => !zoom || (atMs >= zoom[0] && atMs <= zoom[1]));
  return html`<div class="charts" role="group" aria-label=${name}>${charts(data).map((chart) => html`
      <${Chart} key=${chart.title} ...${chart} fromMs=${fromMs} stepMs=${stepMs} marks=${marks} group=${name} zoom=${zoom} onZoom=${onZoom} />`)}</div>
    <div class="marks"><ul>${inside.slice(-4).map((mark) => html`
      <li key=${`${mark.atMs} ${mark.what} ${mark.queue}`} title=${mark.reason}><i class=${mark.kind} aria-hidden="true">▼</i> ${moment(mark.atMs, { seconds: false })} <b>${mark.what === "version" ? `version ${mark.who}` : mark.what}</b>
        ${mark.what === "version" ? " started" : html` ${mark.queue} by ${mark.who}`}</li>`)}</ul>
      ${zoom && html`<button type="button" onClick=${() => setQuery({ zoom: "" })}>Show all of it</button>`}</div>`;
}
