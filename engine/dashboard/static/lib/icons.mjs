// Signs and pictures, drawn in the colour of the text around them.
import { html } from "./dom.mjs";

const DISC = "M8 .5a7.5 7.5 0 1 1 0 15a7.5 7.5 0 1 1 0-15z";
// A shape, and what is cut out of it.
const SIGNS = {
  bad: ["M5 .8h6L15.2 5v6L11 15.2H5L.8 11V5z", "M5.5 5.5l5 5m0-5l-5 5"],
  warn: ["M8 .9 15.7 15H.3z", "M8 5.6v4.6m0 1.7v1.2"],
  well: [DISC, "M4.7 8.3l2.3 2.3 4.3-4.900"],
  paused: ["M3.5 1h9A2.5 2.5 0 0 1 15 3.5v9a2.5 2.5 0 0 1-2.5 2.5h-9A2.5 2.5 0 0 1 1 12.5v-9A2.5 2.5 0 0 1 3.5 1z", "M6 5v6m4-6v6"],
  active: [DISC, "M6.5 5.2v5.6L11 8z"],
  delayed: [DISC, "M8 4v4l2.7 2"],
  waiting: [DISC, "M4.800 8h.4m2.6 0h.4m2.6 0h.4"],
  unknown: [DISC, "M6 6.2a2 2 0 1 1 2.6 2q-.6.2-.6 1.100m0 1.7v.8"],
};
const PICTURES = {
  overview: "M8 1.5 14.5 7v7.5H10v-4H6v4H1.5V7z",
  queues: "M1.5 2.5h13v2.5h-13zm0 4.3h9.5v2.5h-9.5zm0 4.3h6v2.5h-6z",
  jobs: "M2.5 1.5h8l3 3v10h-11z",
  dead: "M5 1h6l4 4v6l-4 4H5l-4-4V5z",
  more: "M1.5 6.5h3v3h-3zm5 0h3v3h-3zm5 0h3v3h-3z",
  sun: "M8 4.5a3.5 3.5 0 1 1 0 7a3.5 3.5 0 1 1 0-7zM7.3 0h1.400v2.5H7.3zm0 13.5h1.400V16H7.3zM0 7.3h2.5v1.400H0zm13.5 0H16v1.400h-2.5zM2.800 1.900l1.800 1.800-1 1-1.800-1.800zm9.6 9.5 1.800 1.800-1 1-1.800-1.800zm.8-9.5 1 1-1.800 1.800-1-1zM3.6 11.400l1 1-1.800 1.800-1-1z",
  moon: "M6 1a7 7 0 1 0 9 9A6 6 0 0 1 6 1z",
  auto: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm0 1.800v10.400A5.2 5.2 0 0 1 8 2.800z",
};

/** The sign of a state; what it means stands beside it in words. */
export function Sign({ kind }) {
  const [shape, cut] = SIGNS[kind] || SIGNS.unknown;
  return html`<svg class="sign ${kind}" viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">
    <path class="shape" d=${shape} /><path class="cut" d=${cut} /></svg>`;
}

export const Picture = ({ of, size = 16 }) => html`<svg class="picture" viewBox="0 0 16 16" width=${size} height=${size}
  aria-hidden="true"><path fill-rule="evenodd" d=${PICTURES[of]} /></svg>`;

/** The mark of Streamlane: lanes. */
export const Mark = () => html`<svg class="mark" viewBox="0 0 20 18" width="20" height="18" aria-hidden="true">
  <rect class="lane-critical" width="20" height="3" y="0" rx="1" /><rect class="lane-high" width="14" height="3" y="5" rx="1" />
  <rect class="lane-normal" width="10" height="3" y="10" rx="1" /><rect class="lane-low" width="6" height="3" y="15" rx="1" /></svg>`;
