"""The page loads: little, at once, and without moving."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.browser.conftest import OpenTab
from tests.support.queue_writer import QUEUE
from tests.tidy.sources import ROOT

pytestmark = pytest.mark.asyncio(loop_scope="session")

STATIC = ROOT / "engine" / "dashboard" / "static"
MODULES = sorted(path.relative_to(STATIC) for path in STATIC.rglob("*.mjs"))
FIRST_BYTES_MAX = 140_000
FIRST_REQUESTS_MAX = 34
SHIFT_MAX = 0.01
"""A tenth of what counts as good; a value that changes meanwhile may move what stands beside it."""
LATER = re.compile(r"chart|/vendor/uplot\.|/api/series")


async def test_the_first_load_is_small(tab: OpenTab) -> None:
    opened = await tab("")
    sizes: dict[str, int] = {}

    async def weigh(route: object) -> None:
        answer = await route.fetch()  # type: ignore[attr-defined]
        sizes[urlsplit(answer.url).path] = len(await answer.body())
        await route.fulfill(response=answer)  # type: ignore[attr-defined]

    await opened.page.route("**/static/**", weigh)
    await opened.page.route(lambda url: urlsplit(url).path == "/", weigh)
    await opened.open("/")
    await opened.page.unroute_all(behavior="wait")
    # What draws charts comes after everything else.
    first = {name: size for name, size in sizes.items() if not LATER.search(name)}
    asked = [each for each in opened.requests if not LATER.search(each)]

    assert sum(first.values()) < FIRST_BYTES_MAX, sizes
    assert len(asked) <= FIRST_REQUESTS_MAX, asked


@pytest.mark.parametrize("path", ["/", f"/queues/{QUEUE}", "/dead"])
async def test_nothing_moves_while_a_view_loads(tab: OpenTab, path: str) -> None:
    opened = await tab(path)

    assert await opened.shift() < SHIFT_MAX


async def test_every_module_can_be_loaded(tab: OpenTab) -> None:
    opened = await tab("/")
    (assets,) = {
        each.rsplit("/app.mjs")[0] for each in opened.requests if each.endswith("/app.mjs")
    }

    async def load(module: Path) -> str:
        told: str = await opened.page.evaluate(
            "(address) => import(address).then(() => '', (error) => `${address}: ${error}`)",
            f"{assets}/{module}",
        )
        return told

    assert [told for each in MODULES if (told := await load(each))] == []


async def test_an_address_that_is_kept_is_not_asked_for_again(tab: OpenTab) -> None:
    opened = await tab("/")
    opened.requests.clear()

    await opened.page.reload()
    await opened.shown()
    kept = await opened.page.evaluate(
        "performance.getEntriesByType('resource')"
        ".filter((each) => each.name.includes('/static/') && each.transferSize > 0)"
        ".map((each) => each.name)"
    )

    assert [each for each in kept if not LATER.search(each)] == []
