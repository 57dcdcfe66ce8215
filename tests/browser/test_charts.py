"""Charts: drawn over real numbers, in both themes, zoomed by dragging, and told as a table."""

from __future__ import annotations

import re

import pytest
import redis
from playwright.async_api import expect

from tests.browser.conftest import OpenTab
from tests.support.history import History
from tests.support.page_world import Page

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUEUE = "message-delivery"
TITLES = ("Throughput", "Wait until start", "Backlog", "Failing")


@pytest.fixture(scope="module")
def past(world: Page) -> Page:
    """Give the page, one of whose queues has a past."""
    with redis.Redis.from_url(world.redis_url) as client:
        now_ms = int(client.time()[0]) * 1_000
        History(client, QUEUE, "send-message", rate=50).write(now_ms)
    return world


async def _drawn(opened: object, title: str) -> int:
    """Count the pixels of one chart that are not empty."""
    told: int = (
        await opened.page.get_by_role("figure")
        .filter(has_text=title)
        .evaluate(  # type: ignore[attr-defined]
            """(figure) => {
          const canvas = figure.querySelector("canvas");
          const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          let count = 0;
          for (let at = 3; at < data.length; at += 4) count += data[at] > 0;
          return count;
        }"""
        )
    )
    return told


@pytest.mark.parametrize("range_", ["1h", "24h", "7d"])
async def test_a_queue_s_past_is_drawn(tab: OpenTab, past: Page, range_: str) -> None:
    opened = await tab(f"/queues/{QUEUE}?range={range_}")
    charts = opened.page.get_by_role("figure")

    await expect(charts).to_have_count(len(TITLES))
    for title in TITLES:
        await charts.filter(has_text=title).scroll_into_view_if_needed()
        await expect(charts.filter(has_text=title).locator("canvas")).to_be_visible()
        assert await _drawn(opened, title) > 500
    assert await opened.violations() == []


async def test_a_chart_is_told_as_a_table(tab: OpenTab, past: Page) -> None:
    opened = await tab(f"/queues/{QUEUE}?range=24h")

    await opened.page.get_by_role("button", name="Wait until start as a table").click()

    rows = opened.page.get_by_role("region", name="Wait until start, as a table").locator(
        "tbody tr"
    )
    await expect(rows).to_have_count(96)
    await expect(rows.nth(5)).to_contain_text("ms")


NOTE_LABELS = """
window.labels = {};
const draw = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...where) {
  const title = this.canvas.closest("figure")?.querySelector("h3").textContent;
  (window.labels[title] ??= []).push(text);
  return draw.call(this, text, ...where);
};
"""
"""Notes what is written on canvases, by the title of the chart."""
ROUND = re.compile(r"\d+(\.5)? (ms|s)|\d+ [mhd]|\d+ (m|h) (15|30|45) (s|m)")
TOPS = "(all) => new Set(all.map((each) => each.getBoundingClientRect().top)).size"


async def test_axes_have_round_steps_and_charts_stand_in_line(tab: OpenTab, past: Page) -> None:
    opened = await tab("")
    await opened.page.add_init_script(NOTE_LABELS)
    await opened.open("/")
    charts = opened.page.get_by_role("figure")
    await charts.first.scroll_into_view_if_needed()
    await expect(charts.locator("canvas")).to_have_count(4)

    labels = await opened.page.evaluate("window.labels['Oldest waiting']")
    steps = {each for each in labels if ":" not in each}
    assert len(steps) > 2
    assert [each for each in steps if not ROUND.fullmatch(each)] == []
    assert await charts.locator("canvas").evaluate_all(TOPS) == 1
    for each in await charts.all():
        assert await each.locator(".key .of").evaluate_all(TOPS) == 1


async def test_dragging_zooms_all_charts_and_the_address(tab: OpenTab, past: Page) -> None:
    opened = await tab(f"/queues/{QUEUE}")
    over = opened.page.get_by_role("figure").filter(has_text="Throughput").locator(".u-over")
    await over.scroll_into_view_if_needed()
    box = await over.bounding_box()
    assert box is not None

    await opened.page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 20)
    await opened.page.mouse.down()
    await opened.page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 30, steps=4)
    await opened.page.mouse.up()

    await expect(opened.page.get_by_role("button", name="Show all of it")).to_be_visible()
    assert "zoom=" in opened.page.url
    await opened.page.get_by_role("button", name="Show all of it").click()
    await expect(opened.page.get_by_role("button", name="Show all of it")).to_have_count(0)
    assert "zoom=" not in opened.page.url


HAS_COLOUR = """(wanted) => {
  const canvas = document.querySelector("figure canvas");
  if (!canvas) return false;
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < data.length; at += 4) {
    const near = (part, n) => Math.abs(data[at + n] - part) < 8;
    if (data[at + 3] > 250 && wanted.every(near)) return true;
  }
  return false;
}"""
"""Whether the first chart draws in a colour, given as red, green and blue."""
DONE = {"dark": (166, 240, 216), "light": (14, 118, 109)}


async def test_a_chart_takes_the_colours_of_the_theme(tab: OpenTab, past: Page) -> None:
    opened = await tab(f"/queues/{QUEUE}", color_scheme="dark")
    await opened.page.get_by_role("figure").first.scroll_into_view_if_needed()
    await opened.page.wait_for_function(HAS_COLOUR, arg=DONE["dark"])

    await opened.page.keyboard.press("t")

    await opened.page.wait_for_function(HAS_COLOUR, arg=DONE["light"])


async def test_nothing_counted_is_said(tab: OpenTab, world: Page) -> None:
    opened = await tab("/queues/steering?range=7d")

    await expect(opened.page.get_by_text("Nothing was counted in this time.").first).to_be_visible()
