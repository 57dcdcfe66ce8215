// Writes numbers, durations and moments for people. The rules are those of the command line.

/** A whole number with its thousands apart; without the browser's tables of languages, which take long to load. */
export const exact = (value) => String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ",");

/** A count: exact to 9,999, then three digits and a unit. */
export function number(value) {
  if (value == null) return "—";
  if (Math.abs(value) <= 9999) return exact(value);
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size * 0.9995) {
      const scaled = value / size;
      return scaled.toFixed(scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0) + unit;
    }
  }
  return String(value);
}

/** Jobs per second, small rates per minute or hour. */
export function rate(perS) {
  if (perS == null) return "—";
  if (perS === 0) return "0/s";
  for (const [size, unit] of [[1, "s"], [60, "min"], [3600, "h"]]) {
    const scaled = perS * size;
    if (scaled >= 1) return `${scaled < 10 ? scaled.toFixed(1) : number(Math.round(scaled))}/${unit}`;
  }
  return "<1/h";
}

/** A duration in ms: its two largest units. */
export function span(ms) {
  if (ms == null) return "—";
  if (ms > 0 && ms < 0.05) return "<0.1 ms";
  if (ms < 10) return ms > 0 ? `${ms.toFixed(1)} ms` : "0 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = Math.floor(ms / 1000);
  if (seconds < 10) return `${(ms / 1000).toFixed(1)} s`;
  if (seconds < 60) return `${seconds} s`;
  const two = (n) => String(n).padStart(2, "0");
  if (seconds < 3600) return seconds % 60 ? `${Math.floor(seconds / 60)} m ${two(seconds % 60)} s` : `${seconds / 60} m`;
  if (seconds < 86400) {
    const rest = Math.floor(seconds % 3600 / 60);
    return rest ? `${Math.floor(seconds / 3600)} h ${two(rest)} m` : `${Math.floor(seconds / 3600)} h`;
  }
  const hours = Math.floor(seconds % 86400 / 3600);
  return hours ? `${Math.floor(seconds / 86400)} d ${hours} h` : `${Math.floor(seconds / 86400)} d`;
}

/** A share of 1 in percent: 0 % means none at all. */
export function percent(share) {
  if (share == null) return "—";
  if (share === 0) return "0 %";
  if (share < 0.0001) return "<0.01 %";
  const scaled = share * 100;
  return `${scaled < 1 ? scaled.toFixed(2) : scaled < 10 ? scaled.toFixed(1) : Math.round(scaled)} %`;
}

/** A number of bytes. */
export function bytes(count) {
  if (count == null) return "—";
  for (const [size, unit] of [[1 << 30, "GiB"], [1 << 20, "MiB"], [1 << 10, "KiB"]]) {
    if (count >= size) return `${(count / size).toFixed(count / size < 10 ? 1 : 0)} ${unit}`;
  }
  return `${count} B`;
}

// The server's clock, as far as answers told of it.
let skewMs = 0;
export const noteServerTime = (nowMs) => { if (nowMs) skewMs = nowMs - Date.now(); };
export const serverNow = () => Date.now() + skewMs;

/** How long ago a moment was, or in how long it will be. */
export function ago(atMs, nowMs = serverNow()) {
  if (!atMs) return "—";
  return atMs <= nowMs ? `${span(nowMs - atMs)} ago` : `in ${span(atMs - nowMs)}`;
}

const KEY = "streamlane-zone";
export const zone = () => (localStorage.getItem(KEY) === "local" ? undefined : "UTC");
export const setZone = (name) => localStorage.setItem(KEY, name);

/** A moment in the chosen zone: the time, with its day where that is not today. */
export function moment(atMs, { day = false, seconds = true } = {}) {
  if (!atMs) return "—";
  // As copies have it, in the chosen zone; the browser's own tables of languages take long to load.
  const written = (ms) => new Date(zone() === "UTC" ? ms : ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString();
  const [date, time] = written(atMs).split("T");
  const told = time.slice(0, seconds ? 8 : 5);
  return day || date !== written(serverNow()).split("T")[0] ? `${date} ${told}` : told;
}

/** A moment as copies have it. */
export const iso = (atMs) => (atMs ? new Date(atMs).toISOString() : "");
