"""By keyboard alone."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.browser.conftest import OpenTab

pytestmark = pytest.mark.asyncio(loop_scope="session")

PLACES = {
    "q": "/queues",
    "j": "/jobs",
    "s": "/schedules",
    "e": "/engines",
    "a": "/audit",
    "d": "/dead",
    "o": "/",
}


async def test_slash_leads_to_the_field_that_finds(tab: OpenTab) -> None:
    page = (await tab("/")).page

    await page.keyboard.press("/")
    await page.keyboard.type("message-7")
    await page.keyboard.press("Enter")

    await expect(page).to_have_url(re.compile(r"/jobs\?text=message-7"))
    await expect(page.get_by_role("link", name="message-7").first).to_be_visible()


async def test_keys_are_told_by_a_question_mark(tab: OpenTab) -> None:
    page = (await tab("/")).page

    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_every_place_has_its_key(tab: OpenTab) -> None:
    opened = await tab("/")

    for key, path in PLACES.items():
        await opened.page.keyboard.press("g")
        await opened.page.keyboard.press(key)
        await expect(opened.page).to_have_url(f"{opened.base}{path}")


async def test_the_sickest_queue_is_two_keys_away(tab: OpenTab) -> None:
    page = (await tab("/queues")).page
    await page.get_by_role("link", name="notification", exact=True).wait_for()

    await page.keyboard.press("j")
    await page.keyboard.press("Enter")

    await expect(page).to_have_url(re.compile("/queues/notification$"))


async def test_theme_zone_and_pause_have_keys(tab: OpenTab) -> None:
    page = (await tab("/", timezone_id="Asia/Kolkata")).page

    await page.keyboard.press("t")
    await expect(page.locator("html")).to_have_attribute("data-theme", "light")
    await page.keyboard.press("z")
    await expect(page.get_by_role("button", name=re.compile("Calcutta|Kolkata"))).to_be_visible()
    await page.keyboard.press("p")
    await expect(page.get_by_role("button", name="Paused")).to_be_visible()
