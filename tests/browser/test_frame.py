"""What stands around every view: theme, zone, find, live values, and a server that goes away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Locator, expect
from playwright.async_api import Page as Shown

from tests.browser.conftest import OpenTab
from tests.support.chromium import PHONE
from tests.support.page_world import Page, page_of
from tests.support.servers import RedisTestServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

THEME = "document.documentElement.dataset.theme || 'auto'"


def low_of(shown: Shown, queue: str, jobs: int) -> Locator:
    """Find a queue's bar of lanes, if it tells of so many jobs in the lane low."""
    row = shown.get_by_role("row").filter(has=shown.get_by_role("link", name=queue, exact=True))
    return row.get_by_role("img", name=f"low {jobs}").first


async def test_the_theme_is_kept_by_the_browser(tab: OpenTab) -> None:
    page = (await tab("/")).page
    assert await page.evaluate(THEME) == "auto"

    await page.get_by_role("button", name="Theme").click()
    await page.reload()

    assert await page.evaluate(THEME) == "light"
    light = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    await page.get_by_role("button", name="Theme").click()
    assert await page.evaluate(THEME) == "dark"
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") != light


async def test_the_zone_is_kept_by_the_browser(tab: OpenTab) -> None:
    page = (await tab("/", timezone_id="Asia/Kolkata")).page

    await page.get_by_role("button", name="UTC").click()
    await page.reload()

    await expect(page.get_by_role("button", name=re.compile("Calcutta|Kolkata"))).to_be_visible()


async def test_values_change_without_loading_again_unless_paused(tab: OpenTab, world: Page) -> None:
    opened = await tab("/")
    page = opened.page
    loads = [each for each in opened.requests if each.endswith("/app.mjs")]
    await expect(low_of(page, "cleanup", 32)).to_be_visible()

    world.enqueue("cleanup", "sweep", "low")
    await expect(low_of(page, "cleanup", 33)).to_be_visible()
    await page.get_by_role("button", name="Live", exact=True).click()
    await expect(page.get_by_role("button", name="Paused")).to_be_visible()
    world.enqueue("cleanup", "sweep", "low")
    other = (await tab("/")).page
    await expect(low_of(other, "cleanup", 34)).to_be_visible()
    await expect(low_of(page, "cleanup", 33)).to_be_visible()
    await page.get_by_role("button", name="Paused").click()
    await expect(low_of(page, "cleanup", 34)).to_be_visible()

    assert [each for each in opened.requests if each.endswith("/app.mjs")] == loads


async def test_on_a_phone_all_places_are_within_reach(tab: OpenTab) -> None:
    page = (await tab("/", viewport=PHONE, has_touch=True)).page
    tabs = page.get_by_role("navigation", name="Places, below")

    await tabs.get_by_role("button", name="More").tap()

    for name in ("Schedules", "Engines", "Audit", "Operations", "About"):
        await expect(page.get_by_role("dialog").get_by_role("link", name=name)).to_be_visible()


@pytest.fixture
def alone(session_directory: Path) -> Iterator[tuple[Page, RedisTestServer]]:
    """Give a page over a server of its own, which may be killed."""
    directory = session_directory / "alone"
    directory.mkdir()
    server = RedisTestServer(directory / "valkey", aof=True, config={"appendfsync": "always"})
    server.start()
    try:
        with page_of(directory, server.url) as page:
            yield page, server
    finally:
        server.stop()


async def test_what_was_seen_stays_while_the_server_is_away(
    tab: OpenTab, alone: tuple[Page, RedisTestServer]
) -> None:
    world, server = alone
    world.queues["steering"].hold("steered", "by the test")
    world.enqueue("steering", "steered", delay=3_600_000)
    opened = await tab("/", base=world.address)
    opened.allow("503")
    page = opened.page
    await expect(page.locator("main")).to_contain_text("steering")

    server.kill9()
    await expect(page.locator(".banner.bad").first).to_contain_text("Not live")
    await expect(page.locator("main")).to_contain_text("steering")
    server.start()

    await expect(page.locator(".banner.bad")).to_have_count(0)
    await expect(page.locator("main")).to_contain_text("steering")


AS_THE_BROWSER = """async (address) => {
  const { exact, moment, setZone, zone } = await import(address);
  const browsers = (ms) => {
    const at = new Date(ms), timeZone = zone();
    const day = at.toLocaleDateString("sv-SE", { timeZone });
    return `${day} ${at.toLocaleTimeString("en-GB", { timeZone })}`;
  };
  const counts = [0, 12.6, 999, 1_000, 1_234_567];
  const wrong = counts.map((value) => [exact(value), Math.round(value).toLocaleString("en-GB")]);
  for (const name of ["UTC", "local"]) {
    setZone(name);
    for (let ms = 1_700_000_000_000; ms < 1_740_000_000_000; ms += 40_321_007) {
      wrong.push([moment(ms, { day: true }), browsers(ms)]);
    }
  }
  return wrong.filter(([ours, theirs]) => ours !== theirs).slice(0, 5);
}"""
"""Over more than a year, so that clocks are changed."""


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/St_Johns"])
async def test_moments_and_counts_are_written_as_the_browser_would(tab: OpenTab, zone: str) -> None:
    opened = await tab("/about", timezone_id=zone)
    (module,) = {each for each in opened.requests if each.endswith("/lib/format.mjs")}

    assert await opened.page.evaluate(AS_THE_BROWSER, module) == []
