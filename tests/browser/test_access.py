"""Logging in and out, and what the policy of the page forbids, in a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Error, expect
from prometheus_client import CollectorRegistry

from engine.admin import Admin
from engine.clock import SystemClock
from engine.dashboard import HttpServer, HttpState
from tests.browser.conftest import OpenTab
from tests.support.servers import RedisTestServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

READER = "the-token-of-a-reader-of-the-page"
TOKENS = {"rita": f"read:{READER}"}


@pytest_asyncio.fixture(loop_scope="session")
async def closed(prepared: RedisTestServer) -> AsyncIterator[str]:
    """Give the address of a page that asks for a token."""
    async with Admin(prepared.url, who="test", types={"cleanup": ["sweep"]}) as admin:
        server = HttpServer(
            HttpState(
                address="127.0.0.1:0",
                token="",
                tokens=TOKENS,
                place="PRODUCTION",
                admin=admin,
                metrics=CollectorRegistry(),
                ready=list,
                schemas={},
                clock=SystemClock(),
                engine="eng-1",
                version="0.1.0",
            )
        )
        yield f"http://{await server.start()}"
        await server.stop()


async def test_a_person_logs_in_looks_and_logs_out(tab: OpenTab, closed: str) -> None:
    opened = await tab("/queues/cleanup", base=closed)
    opened.allow("401")
    page = opened.page

    await expect(page.get_by_text("PRODUCTION")).to_have_count(0)
    await page.get_by_label("Token").fill("a-wrong-token-of-some-length")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_contain_text("not known")
    await page.get_by_label("Token").fill(READER)
    await page.keyboard.press("Enter")

    await expect(page.get_by_role("heading", name="cleanup")).to_be_visible()
    await expect(page.get_by_text("PRODUCTION")).to_be_visible()
    await expect(page.get_by_text("for rita (read)")).to_be_visible()
    (cookie,) = await page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (
        *("__Host-streamlane", True),
        *(True, "Strict"),
    )
    assert await page.evaluate("document.cookie") == ""
    assert READER not in await page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
    await page.reload()
    await expect(page.get_by_role("heading", name="cleanup")).to_be_visible()

    await page.get_by_role("button", name="Log out").click()

    await expect(page.get_by_label("Token")).to_be_visible()
    assert await page.context.cookies() == []


async def test_what_a_reader_may_not_do_says_why(tab: OpenTab, closed: str) -> None:
    opened = await tab("/queues/cleanup", base=closed)
    opened.allow("401")
    page = opened.page
    await page.get_by_label("Token").fill(READER)
    await page.keyboard.press("Enter")

    button = page.get_by_role("button", name="Resume").first

    await expect(button).to_have_attribute("aria-disabled", "true")
    await expect(button).to_have_attribute(
        "title", "This needs the scope “operate”; rita may only read."
    )


async def test_no_text_becomes_markup_or_script(tab: OpenTab, closed: str) -> None:
    opened = await tab("/", base=closed)
    opened.allow("401|trusted-types|Trusted(HTML|Script)|script-src|Content Security Policy")
    page = opened.page

    for attempt in (
        "document.body.innerHTML = '<b>markup</b>'",
        "document.body.insertAdjacentHTML('beforeend', '<b>markup</b>')",
        "trustedTypes.createPolicy('own', {createHTML: (text) => text})",
    ):
        with pytest.raises(Error, match="TypeError"):
            await page.evaluate(attempt)
    ran = await page.evaluate(
        "() => { try { const each = document.createElement('script'); each.text = 'window.ran = 1';"
        " document.body.append(each); } catch {} return window.ran; }"
    )

    assert ran is None
    assert await opened.violations()
