"""What can be seen of a page by people and settings that show fewer colours."""

from __future__ import annotations

import base64
from typing import Any

from playwright.async_api import Page

KINDS = ["bad", "warn", "well", "paused", "active", "delayed", "waiting", "unknown"]
"""The kinds of states; each has a sign of its own."""
CORNER = {"x": 0, "y": 0, "width": 400, "height": 500}
"""Where the states are drawn."""
SIGHTS = ("protanopia", "deuteranopia", "tritanopia", "achromatopsia")

LIGHT = """
const parts = (colour) => (colour.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
const light = (colour) => colour.slice(0, 3).map((part) => part / 255)
  .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
const contrast = (one, other) => {
  const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
"""
FAINT = (
    "() => {"
    + LIGHT
    + """
  const seen = (each) => each.checkVisibility() && each.getBoundingClientRect().width > 0;
  const ground = (each) => {
    for (let at = each; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour[3] !== 0) return colour;
    }
    return parts(getComputedStyle(document.documentElement).backgroundColor);
  };
  const faint = [];
  const judge = (each, colour, behind, least) => {
    const found = contrast(parts(colour), ground(behind));
    if (found < least) faint.push(`${each.outerHTML.slice(0, 100)}: ${found.toFixed(1)}`);
  };
  const all = (selector) => [...document.querySelectorAll(selector)].filter(seen);
  const apart = ".unseen, .skip, svg, option, :disabled, [aria-disabled=true]";
  const written = (node) => node.nodeType === 3 && node.data.trim();
  for (const each of all("body *").filter((each) => !each.closest(apart))) {
    if ([...each.childNodes].some(written)) judge(each, getComputedStyle(each).color, each, 4.5);
  }
  for (const each of all(".sign .shape, .lanes rect:not(.track), .spark rect")) {
    judge(each, getComputedStyle(each).fill, each.closest("svg").parentElement, 3);
  }
  for (const each of all(".spark .line")) {
    judge(each, getComputedStyle(each).stroke, each.closest("svg").parentElement, 3);
  }
  for (const each of all(".key i, .legend i")) {
    const { backgroundColor, backgroundImage, borderTopWidth, color } = getComputedStyle(each);
    const filled = parts(backgroundColor)[3] !== 0 || backgroundImage !== "none";
    if (!filled && borderTopWidth === "0px") faint.push(`${each.outerHTML}: nothing is drawn`);
    judge(each, color, each.parentElement, 3);
  }
  return faint;
}"""
)
"""Names what can hardly be seen: text under 4.5, signs and parts of charts under 3 to 1."""

UNTOLD = """() => {
  const look = (each) => {
    const style = getComputedStyle(each);
    return [style.color, style.backgroundColor, style.borderBottomColor].join();
  };
  const groups = [...document.querySelectorAll("nav, .segments, .tabs")];
  return groups.filter((group) => group.checkVisibility()).filter((group) => {
    const all = [...group.querySelectorAll(":scope > a, :scope > button")];
    const on = all.find((each) => each.matches("[aria-current], [aria-pressed=true]"));
    return on && all.some((each) => each !== on && look(each) === look(on));
  }).map((each) => each.outerHTML.slice(0, 100));
}"""
"""Names groups whose chosen part looks as the others do, but for its weight."""

DRAW = """async (kinds) => {
  const base = document.querySelector("script[type=module]").src.replace(/app\\.mjs.*/, "");
  const { html, render } = await import(`${base}lib/dom.mjs`);
  const { State } = await import(`${base}lib/parts.mjs`);
  const place = document.createElement("div");
  place.className = "card pad kinds";
  document.querySelector("main").prepend(place);
  const state = (kind) => html`<p key=${kind}><${State} kind=${kind} word=${kind} /></p>`;
  render(html`${kinds.map(state)}`, place);
}"""
"""Draws every state, as views do."""

LOOK = (
    "async (picture) => {"
    + LIGHT
    + """
  const bytes = Uint8Array.from(atob(picture), (each) => each.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height)
    .getContext("2d", { willReadFrequently: true });
  canvas.drawImage(bitmap, 0, 0);
  const pixels = ({ left, top, width, height }) => {
    const [wide, high] = [Math.round(width), Math.round(height)];
    const { data } = canvas.getImageData(Math.round(left), Math.round(top), wide, high);
    return Array.from({ length: wide * high }, (_, at) => [...data.slice(at * 4, at * 4 + 3)]);
  };
  return [...document.querySelectorAll(".kinds .state")].map((state) => {
    const words = document.createRange();
    words.selectNodeContents(state.lastChild);
    const { left, top } = state.getBoundingClientRect();
    const [behind] = pixels({ left: left - 4, top, width: 1, height: 1 });
    const judged = (box) => pixels(box).map((each) => contrast(each, behind));
    const sign = judged(state.querySelector("svg").getBoundingClientRect());
    const word = Math.max(...judged(words.getBoundingClientRect()));
    const shape = sign.flatMap((each, at) => (each > 2 ? [at] : []));
    return { kind: state.textContent.trim(), sign: Math.max(...sign), word, shape };
  });
}"""
)
"""Measures signs and words of the drawn states in a picture of the screen."""


async def states_seen(page: Page, sight: str) -> list[dict[str, Any]]:
    """
    Tell how every state looks to somebody.

    Args:
        page: Any view.
        sight: What Chromium is to simulate.

    Returns:
        For each kind the contrast of its sign and of its word, and the pixels of the sign.
    """
    if not await page.locator(".kinds").count():
        await page.evaluate(DRAW, KINDS)
    session = await page.context.new_cdp_session(page)
    await session.send("Emulation.setEmulatedVisionDeficiency", {"type": sight})
    picture = base64.b64encode(await page.screenshot(clip=CORNER)).decode()
    await session.detach()
    found: list[dict[str, Any]] = await page.evaluate(LOOK, picture)
    return found


def shape_of(state: dict[str, Any]) -> set[int]:
    """Return the pixels that make the sign of a state."""
    return set(state["shape"])
