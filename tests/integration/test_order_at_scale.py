"""Many keys, and one key with a long line: in order, and without scripts that stop the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine import Job, Registry
from tests.support.engines import KEYS, QUEUE, Server, serving
from tests.support.keyed import nothing_left

pytestmark = [pytest.mark.servers, pytest.mark.full]

CHUNK = 10_000


@pytest.fixture
async def server(redis_url: str) -> AsyncIterator[Server]:
    async with Server(redis_url) as found:
        yield found


async def script_us(server: Server, share: float) -> int:
    """Return the power of two of µs that this share of all script calls stayed under."""
    told = await server.call("LATENCY", "HISTOGRAM", "evalsha")
    flat = told[b"evalsha"] if isinstance(told, dict) else told[1]
    named = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
    found = named[b"histogram_usec"]
    buckets = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
    calls = max(buckets.values())
    return int(next(us for us, count in buckets.items() if count >= share * calls))


@pytest.mark.parametrize(("keys", "per_key"), [(100_000, 3), (1, 100_000)])
async def test_a_backlog_of_keys_is_worked_off_in_order(
    server: Server, keys: int, per_key: int
) -> None:
    """
    Goal: each job once and in its place, and no script that grows with the backlog.

    Method: two engines. Nearly all script calls take less than the next power of two over 5 ms; a
    few are left to the machine, which takes the server off its core now and then.
    ``benchmarks/order.py`` shows how often.
    """
    places: dict[int, int] = {}
    wrong: list[tuple[int, int]] = []
    registry = Registry()

    @registry.job("work", queue=QUEUE)
    async def work(_job: Job, payload: dict[str, Any]) -> None:
        key, place = payload["k"], payload["i"]
        if places.get(key, 0) != place:
            wrong.append((key, place))
        places[key] = place + 1

    for first in range(0, keys * per_key, CHUNK):
        numbers = range(first, min(first + CHUNK, keys * per_key))
        await server.add_many(
            [
                ("type", "work", "data", f'{{"k":{n % keys},"i":{n // keys}}}', "key", n % keys)
                for n in numbers
            ]
        )
    await server.call("CONFIG", "RESETSTAT")
    calm = {"lease_ms": 30_000, "renew_ms": 10_000, "concurrency": 100}
    async with (
        serving(registry, server.url, name="e1", **calm),
        serving(registry, server.url, name="e2", **calm),
    ):

        async def are_done() -> bool:
            return int((await server.hash(KEYS.stats)).get("done:work", 0)) == keys * per_key

        await server.until(are_done, "all done", limit_s=900)
        await nothing_left(server)

    assert not wrong
    assert len(places) == keys
    assert await script_us(server, 0.98) <= 8_454
