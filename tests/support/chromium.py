"""A real Chromium, and pages in it that let no error pass unnoticed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    Response,
    async_playwright,
    expect,
)

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = "the page was not tried in a browser: install Chromium (Debian: apt-get install chromium)"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
WAIT_MS = 15_000
DESKTOP = {"width": 1440, "height": 1000}
PHONE = {"width": 390, "height": 844}

WATCH = """
window.seen = {violations: [], shift: 0};
addEventListener('securitypolicyviolation', (event) =>
  window.seen.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
new PerformanceObserver((list) => {
  for (const each of list.getEntries()) if (!each.hadRecentInput) window.seen.shift += each.value;
}).observe({type: 'layout-shift', buffered: true});
"""
"""Runs before everything else in each document: notes what the policy blocked, and what moved."""


def chromium() -> Path | None:
    """Find Chromium, which ``CHROMIUM`` may name; None where there is none."""
    named = os.environ.get("CHROMIUM")
    for name in [named] if named else NAMES:
        if found := shutil.which(name):
            return Path(found)
    return None


@asynccontextmanager
async def running() -> AsyncIterator[Browser]:
    """Run Chromium with a profile of its own, which is removed at the end."""
    expect.set_options(timeout=WAIT_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


class Tab:
    """
    One tab, and everything in it that went wrong.

    Args:
        page: The tab.
        base: Address of the daemon, without a path.

    Attributes:
        page: The tab.
        requests: Addresses that were asked for.
        wrong: What went wrong, as text.
    """

    def __init__(self, page: Page, base: str) -> None:
        self.page = page
        self.base = base
        self.requests: list[str] = []
        self.wrong: list[str] = []
        self._allowed: list[re.Pattern[str]] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("dialog", self._asked)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("requestfailed", self._failed)
        page.on("response", self._answered)

    def allow(self, pattern: str) -> None:
        """Let what fits a pattern go wrong: the test wants it."""
        self._allowed.append(re.compile(pattern))

    async def open(self, path: str) -> Page:
        """Go to an address of the page, and wait until its view shows something."""
        await self.page.goto(self.base + path)
        await self.shown()
        return self.page

    async def shown(self) -> None:
        """Wait until no part of the page says that it loads."""
        await expect(
            self.page.locator("main :not([aria-busy], [aria-busy] *)").first
        ).to_be_visible()
        await expect(self.page.locator("[aria-busy=true]")).to_have_count(0)

    async def violations(self) -> list[str]:
        """Tell what the policy of the page blocked in the present document."""
        found: list[str] = await self.page.evaluate("window.seen.violations")
        return found

    async def shift(self) -> float:
        """Tell how much of the present document moved by itself."""
        found: float = await self.page.evaluate("window.seen.shift")
        return found

    async def close(self) -> None:
        """Close it, and fail for everything that went wrong in it."""
        wrong = [*self.wrong, *(f"blocked: {each}" for each in await self.violations())]
        await self.page.context.close()
        unwanted = [
            each for each in wrong if not any(pattern.search(each) for pattern in self._allowed)
        ]
        assert not unwanted, "\n".join(unwanted)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.wrong.append(f"console: {message.text} {message.location.get('url', '')}")

    async def _asked(self, dialog: Dialog) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        await dialog.dismiss()

    def _failed(self, request: Request) -> None:
        # Streams and answers of a view that is left are given up.
        if "ERR_ABORTED" not in (request.failure or ""):
            self.wrong.append(f"failed: {request.url} {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.wrong.append(f"answer: {response.status} {response.url}")
        if not response.url.startswith((self.base, "data:")):
            self.wrong.append(f"elsewhere: {response.url}")


async def new_tab(browser: Browser, base: str, **options: Any) -> Tab:
    """Open a tab in a profile of its own; options are Playwright's for a context."""
    context = await browser.new_context(
        **{"viewport": DESKTOP, "color_scheme": "dark", "locale": "en-GB", **options}
    )
    context.set_default_timeout(WAIT_MS)
    await context.add_init_script(WATCH)
    return Tab(await context.new_page(), base)


__all__ = ["DESKTOP", "MISSING", "PHONE", "Tab", "chromium", "new_tab", "running"]
