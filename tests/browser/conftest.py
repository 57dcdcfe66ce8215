"""One Chromium and one seeded page for all tests; without Chromium, the tests are skipped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.support.chromium import MISSING, Tab, chromium, new_tab, running
from tests.support.page_world import Page, page_of, prepare, seed
from tests.support.servers import RedisTestServer

OpenTab = Callable[..., Awaitable[Tab]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say once what is missing."""
    if chromium() is None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=MISSING))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Give the Chromium that all tests share."""
    async with running() as found:
        yield found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def prepared(session_directory: Path) -> AsyncIterator[RedisTestServer]:
    """Give a server on which operators have set something before any engine starts."""
    server = RedisTestServer(session_directory / "page-valkey")
    server.start()
    await prepare(server.url)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def world(session_directory: Path, prepared: RedisTestServer) -> Iterator[Page]:
    """Give the page that all tests share, over queues in every state."""
    directory = session_directory / "page"
    directory.mkdir()
    with page_of(directory, prepared.url) as page:
        seed(page)
        yield page


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, world: Page) -> AsyncIterator[OpenTab]:
    """Give a function that opens tabs; whatever goes wrong in one fails the test."""
    opened: list[Tab] = []

    async def open_tab(path: str = "/", *, base: str = "", **options: Any) -> Tab:
        found = await new_tab(browser, base or world.address, **options)
        opened.append(found)
        if path:
            await found.open(path)
        return found

    yield open_tab
    for each in opened:
        await each.close()
