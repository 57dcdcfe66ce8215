"""Whatever strangers write is shown as text, wherever it is shown."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import msgspec
import pytest
import pytest_asyncio
from playwright.async_api import expect

from engine.admin import Admin
from tests.browser.conftest import OpenTab
from tests.browser.views import VIEWS
from tests.support.chromium import Tab
from tests.support.hostile import PAYLOADS, QUEUE, TYPES, write, write_all
from tests.support.page_world import Page, page_of
from tests.support.servers import RedisTestServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

HARM = """() => {
  const found = [];
  if (window.hacked || ({}).polluted || Object.keys(Object.prototype).length) found.push('ran');
  const wanted = ['app.mjs', 'theme.mjs'];
  for (const each of document.querySelectorAll('*')) {
    const name = each.localName;
    if (['iframe', 'object', 'embed', 'style', 'base', 'img', 'math', 'video', 'audio', 'frame',
      'template', 'foreignobject', 'mglyph', 'animate', 'set', 'use'].includes(name)) {
      found.push(`<${name}>`);
    }
    if (name === 'script' && !wanted.some((end) => each.src.endsWith(`/${end}`))) {
      found.push(`<script> ${each.src}`);
    }
    if (name === 'meta' && each.httpEquiv) found.push(`<meta ${each.httpEquiv}>`);
    for (const {name: key, value} of each.attributes) {
      if (/^on/i.test(key) || key === 'srcdoc' || key === 'style' && /url\\(/i.test(value)) {
        found.push(`${name} ${key}=${value}`);
      }
      if (['href', 'src', 'action', 'formaction', 'xlink:href', 'data'].includes(key)
        && new URL(value, location.href).origin !== location.origin) {
        found.push(`${name} ${key}=${value}`);
      }
    }
  }
  return found;
}"""
assert len(set(PAYLOADS)) == 30
DEAD_LIVE = 105
"""Sixty dead letters, thirty that are broken, and fifteen of the type that is not held."""

GO = """(address) => {
  history.pushState(null, '', address);
  dispatchEvent(new PopStateEvent('popstate'));
}"""


@pytest.fixture(scope="module")
def written(session_directory: Path) -> Iterator[Page]:
    """Give a page over a server to which a stranger wrote everything."""
    directory = session_directory / "hostile"
    directory.mkdir()
    server = RedisTestServer(directory / "valkey")
    server.start()
    try:
        with page_of(
            *(directory, server.url),
            app="tests.support.page_app:build_hostile",
            ENGINE_QUEUE_CONCURRENCY=f"{QUEUE}=8",
        ) as page:
            write_all(page)
            yield page
    finally:
        server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hostile(written: Page) -> Page:
    """Let operators give hostile reasons, too."""
    for payload in PAYLOADS:
        async with Admin(written.redis_url, who=payload[:64]) as admin:
            await admin.pause(QUEUE, reason=payload[:200])
            await admin.resume(QUEUE, reason=payload[:200])
    async with Admin(written.redis_url, who="stranger") as admin:
        await admin.hold(QUEUE, TYPES[1], reason=PAYLOADS[2])
    return written


async def go(opened: Tab, address: str) -> None:
    """Go to an address of the page without loading it anew."""
    await opened.page.evaluate(GO, address)
    await opened.shown()
    assert await opened.page.evaluate(HARM) == [], address


def rows_of(page: Page, state: str) -> list[dict[str, str]]:
    """List the jobs of a state, as the API tells of them, part by part."""
    found: list[dict[str, str]] = []
    cursor = ""
    while True:
        told = urlencode({"state": state, "limit": 200, "cursor": cursor})
        path = f"{page.address}/api/queues/{QUEUE}/jobs?{told}"
        with urllib.request.urlopen(path, timeout=30) as answer:
            part = msgspec.json.decode(answer.read())
        found += part["jobs"]
        cursor = part["cursor"]
        if not cursor:
            return found


def address_of(row: dict[str, str]) -> str:
    return f"/jobs/{QUEUE}/{quote(row['id'], safe='')}?at={quote(row['hint'], safe='')}"


async def test_every_view_shows_it_as_text(tab: OpenTab, hostile: Page) -> None:
    opened = await tab("/", base=hostile.address)
    # What is nowhere here is answered so, and that is shown.
    opened.allow("404")
    addresses = [view.path.replace("encryption", QUEUE) for view in VIEWS]
    addresses += [f"/queues/{QUEUE}?state={state}" for state in ("dead", "done", "delayed", "held")]
    addresses += [f"/jobs?text={quote(text[:100], safe='')}" for text in PAYLOADS[::6]]
    addresses += [f"/engines/{quote(text[:200], safe='')}" for text in PAYLOADS[::6]]

    for address in addresses:
        await go(opened, address)


async def test_every_job_shows_it_as_text(tab: OpenTab, hostile: Page) -> None:
    opened = await tab("/about", base=hostile.address)
    dead = rows_of(hostile, "dead")
    raised = [row for row in dead if row["type"] in TYPES]
    broken = [row for row in dead if row["type"] not in TYPES]
    assert len(raised) == len(broken) == len(PAYLOADS)

    for row in (*raised, *broken[::6], *rows_of(hostile, "delayed")[::6]):
        await go(opened, address_of(row))
    await go(opened, address_of(next(row for row in raised if PAYLOADS[0] in row["id"])))

    await expect(opened.page.locator("main")).to_contain_text(PAYLOADS[0])


async def test_every_dead_group_shows_it_as_text(tab: OpenTab, hostile: Page) -> None:
    opened = await tab("/dead", base=hostile.address)
    prints = sorted({row["fingerprint"] for row in rows_of(hostile, "dead")})

    for fingerprint in prints[::4]:
        await go(opened, f"/dead/{QUEUE}/{fingerprint}")


async def test_what_comes_live_is_shown_as_text(tab: OpenTab, hostile: Page) -> None:
    opened = await tab(f"/queues/{QUEUE}", base=hostile.address)
    queue = hostile.queues[QUEUE]

    for number, payload in enumerate(PAYLOADS):
        write(hostile, payload, number, round_="live")
        queue.beat(f"live{payload[:50]}", silent_ms=-3_600_000, host=payload[:100])
    await expect(opened.page.locator("main")).to_contain_text(f"Dead{DEAD_LIVE}")

    assert await opened.page.evaluate(HARM) == []
