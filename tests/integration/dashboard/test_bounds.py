"""What the page asks of the server does not grow with what lies in the queues."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
import pytest

from benchmarks.scaling.app import QUEUE
from benchmarks.scaling.filled import TYPES, fill_all
from engine.admin import Admin
from engine.dashboard import overview as overview_module
from tests.support.page import Open, Visited
from tests.support.servers import RedisTestServer

pytestmark = pytest.mark.servers

HERE = f"/api/queues/{QUEUE}"
PLAIN = [
    "/api/overview",
    HERE,
    f"/api/series?queue={QUEUE}&range=24h",
    *(f"{HERE}/jobs?state={state}" for state in ("waiting", "active", "delayed", "done", "dead")),
]
CALLS_MAX = 400
"""Commands of the server that one request may take."""

BYTES_MAX = 600_000
"""Bytes that the server may send for it: a chunk of 500 entries and more."""


class Cost(NamedTuple):
    """What one request took of the server."""

    calls: int
    sent_bytes: int


class Filled:
    """A server with jobs, and a page over it."""

    def __init__(self, server: RedisTestServer, page: Visited) -> None:
        self.server = server
        self.page = page

    async def cost(self, path: str) -> tuple[Cost, Any]:
        """Ask for something, and return what it took and what was told."""
        # The first time brings connections, names and scripts.
        await self.page.ask(path)
        before = self._read()
        answer, text = await self.page.ask(path)
        assert answer.status == 200, text
        after = self._read()
        return Cost(after.calls - before.calls, after.sent_bytes - before.sent_bytes), (
            msgspec.json.decode(text)
        )

    def _read(self) -> Cost:
        with self.server.client(decode_responses=True) as client:
            found: Any = client.info("commandstats")
            stats: Any = client.info("stats")
        ours = {"cmdstat_info", "cmdstat_client|setinfo", "cmdstat_hello", "cmdstat_auth"}
        calls = sum(each["calls"] for name, each in found.items() if name not in ours)
        return Cost(calls, stats["total_net_output_bytes"])


@pytest.fixture(scope="module")
def servers(session_directory: Path) -> Iterator[dict[str, RedisTestServer]]:
    """Give a server with few jobs, and one with many."""
    sizes = {"few": (2_000, 1_000), "many": (50_000, 10_000)}
    found = {}
    for name, (waiting, others) in sizes.items():
        server = RedisTestServer(session_directory / f"bounds-{name}")
        server.start()
        found[name] = server
        fill_all(server, waiting=waiting, dead=others // 2, engines=50, others=others)
    yield found
    for server in found.values():
        server.stop()


@pytest.fixture
async def filled(
    servers: dict[str, RedisTestServer], site: Open, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[dict[str, Filled]]:
    """Give a page over each of them, which reads the overview anew for every request."""
    monkeypatch.setattr(overview_module, "FRESH_S", 0.0)
    found = {}
    admins = []
    for name, server in servers.items():
        admin = Admin(server.url, who="test", types={QUEUE: list(TYPES)})
        admins.append(admin)
        found[name] = Filled(server, await site(admin=admin))
    yield found
    for admin in admins:
        admin.close()


@pytest.mark.parametrize("path", PLAIN)
async def test_many_jobs_cost_what_few_do(path: str, filled: dict[str, Filled]) -> None:
    few, _ = await filled["few"].cost(path)
    many, _ = await filled["many"].cost(path)

    assert many.calls <= few.calls + 4
    assert many.sent_bytes <= 1.5 * few.sent_bytes + 5_000
    assert many.calls <= CALLS_MAX
    assert many.sent_bytes <= BYTES_MAX


@pytest.mark.parametrize("state", ["waiting", "active", "delayed", "done", "dead"])
async def test_a_job_is_found_by_where_its_row_says_that_it_lies(
    state: str, filled: dict[str, Filled]
) -> None:
    _, page = await filled["many"].cost(f"{HERE}/jobs?state={state}&limit=200")
    row = page["jobs"][-1]

    cost, told = await filled["many"].cost(
        f"{HERE}/jobs/{quote(row['id'], safe='')}?at={quote(row['hint'], safe='')}"
    )

    assert told["story"]["job"]["id"] == row["id"]
    assert cost.calls <= 100
    assert cost.sent_bytes <= 200_000


async def test_the_last_of_many_pages_costs_what_the_first_does(filled: dict[str, Filled]) -> None:
    first, page = await filled["many"].cost(f"{HERE}/jobs?state=waiting&lane=low&limit=200")
    last = first
    for _ in range(20):
        cursor = quote(page["cursor"], safe="")
        last, page = await filled["many"].cost(
            f"{HERE}/jobs?state=waiting&lane=low&limit=200&cursor={cursor}"
        )

    assert page["cursor"]
    assert last.calls <= first.calls + 2
    assert last.sent_bytes <= 1.5 * first.sent_bytes
