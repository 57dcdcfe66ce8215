"""An incident, from the title of the tab to the undo of a retry."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page as Shown
from playwright.async_api import expect

from engine.admin import Admin
from tests.browser.conftest import OpenTab
from tests.browser.test_acting import happens
from tests.support.page_world import Page

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUEUE = "steering"
FOCUS = "document.activeElement?.textContent?.trim() || ''"
STOPS_MAX = 60


async def walk_to(page: Shown, name: str) -> None:
    """Press Tab until something of this name has the focus."""
    for _ in range(STOPS_MAX):
        await page.keyboard.press("Tab")
        if re.fullmatch(name, await page.evaluate(FOCUS)):
            return
    raise AssertionError(f"{name} cannot be reached by Tab")


async def test_title_and_icon_tell_of_trouble(tab: OpenTab) -> None:
    page = (await tab("/")).page

    await expect(page).to_have_title(re.compile(r"^✖ \d of \d queues need attention"))
    await expect(page.locator("link[rel=icon]")).to_have_attribute(
        "href", re.compile(r"icon-bad\.svg$")
    )


async def test_a_dead_group_is_retried_by_keyboard_and_taken_back(
    tab: OpenTab, world: Page
) -> None:
    queue = world.queues[QUEUE]
    told = {"do": "raise", "say": "no route to the keyboard"}
    for number in range(8):
        world.enqueue(QUEUE, "steered", id=f"key-{number}", payload=told)
    await happens(lambda: sum(b'"key-' in fields[1] for _, fields in queue.dead()) == 8)
    page = (await tab(f"/dead?queue={QUEUE}")).page
    await page.get_by_role("link", name="no route to the keyboard").wait_for()

    await walk_to(page, ".*no route to the keyboard")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile(rf"/dead/{QUEUE}/\w+$"))
    await page.get_by_role("button", name="Retry…").wait_for()
    await walk_to(page, "Retry…")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Retry 8")).to_be_enabled()
    await page.get_by_label("Jobs a second").fill("0.1")
    await walk_to(page, "Retry 8")
    await page.keyboard.press("Enter")

    await expect(page).to_have_url(re.compile(rf"/operations/{QUEUE}/"))
    await happens(lambda: queue.call("ZCARD", queue.keys.delayed) >= 1)
    await page.get_by_role("button", name=re.compile("^Undo")).first.click()
    dialog = page.get_by_role("dialog")
    if await dialog.count():
        await dialog.get_by_role("button", name=re.compile("^Undo")).click()
    await happens(lambda: queue.call("ZCARD", queue.keys.delayed) == 0)
    await happens(lambda: sum(b'"key-' in fields[1] for _, fields in queue.dead()) == 8)
    await expect(page.locator("main")).to_contain_text("undone")


async def test_no_row_moves_under_the_pointer(tab: OpenTab, world: Page) -> None:
    page = (await tab("/queues")).page
    names = page.locator("main [data-row] th a")
    await expect(names.first).to_have_text("notification")
    row = page.locator("main [data-row]").filter(has_text="message-delivery").first
    await row.hover()
    before = await names.all_text_contents()

    async with Admin(world.redis_url, who="on-call") as admin:
        await admin.hold("message-delivery", "send-message", reason="a trial")
        try:
            await expect(row).to_contain_text("held")
            assert await names.all_text_contents() == before
            await page.mouse.move(2, 2)
            await expect(names.nth(before.index("message-delivery"))).not_to_have_text(
                "message-delivery"
            )
        finally:
            await admin.release("message-delivery", "send-message")


async def test_a_filter_is_in_the_address_and_survives(tab: OpenTab) -> None:
    page = (await tab("/queues/encryption?state=dead")).page
    rows = page.locator("main [data-row]")
    await rows.first.wait_for()

    await page.locator("main").get_by_label("Text").fill("certificate has expired")
    await page.keyboard.press("Enter")
    await expect(rows).to_have_count(2)
    await expect(page).to_have_url(re.compile("text=certificate"))
    await page.reload()

    await expect(rows).to_have_count(2)
