"""Who is let in, what each scope sees, and what it may press."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.conftest import OpenTab
from tests.browser.test_views import broken_rules
from tests.support.page_world import Page, page_of
from tests.support.servers import RedisTestServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

READ = "r" * 32
OPERATE = "o" * 32
SECRET = "a-word-of-the-payload"


@pytest.fixture(scope="module")
def guarded(session_directory: Path) -> Iterator[Page]:
    """Give a page that asks for tokens, with one job on it."""
    directory = session_directory / "guarded"
    directory.mkdir()
    server = RedisTestServer(directory / "valkey")
    server.start()
    tokens = f"looker=read:{READ},on-call=operate:{OPERATE}"
    try:
        with page_of(directory, server.url, ENGINE_HTTP_TOKENS=tokens) as page:
            page.enqueue(
                "steering", "steered", id="guarded", delay=3_600_000, payload={"word": SECRET}
            )
            yield page
    finally:
        server.stop()


async def test_a_token_lets_in_and_its_scope_decides(tab: OpenTab, guarded: Page) -> None:
    opened = await tab("/jobs/steering/guarded", base=guarded.address)
    opened.allow("401")
    page = opened.page

    await page.get_by_label("Token").wait_for()
    assert await broken_rules(page) == []
    await expect(page.get_by_role("banner")).not_to_contain_text("Live")
    await page.get_by_label("Token").fill("x" * 32)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.locator("#login-error")).not_to_be_empty()
    await page.get_by_label("Token").fill(READ)
    await page.get_by_role("button", name="Log in").click()

    button = page.get_by_role("button", name="Run now", exact=True)
    await expect(button).to_have_attribute("aria-disabled", "true")
    await expect(button).to_have_attribute(
        "title", r"This needs the scope “operate”; looker may only read."
    )
    await expect(page.locator("main")).not_to_contain_text(SECRET)
    assert SECRET not in await page.content()
    assert [each["httpOnly"] for each in await page.context.cookies()] == [True]


async def test_who_may_operate_sees_and_does_more(tab: OpenTab, guarded: Page) -> None:
    opened = await tab("/jobs/steering/guarded", base=guarded.address)
    opened.allow("401")
    page = opened.page

    await page.get_by_label("Token").fill(OPERATE)
    await page.get_by_role("button", name="Log in").click()

    await expect(page.locator("main")).to_contain_text(SECRET)
    await page.get_by_role("button", name="Run now", exact=True).click()
    await expect(page.get_by_role("log")).to_contain_text("guarded")
    await page.goto(f"{guarded.address}/audit")
    await expect(page.locator("main")).to_contain_text("on-call")
