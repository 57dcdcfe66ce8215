"""Batch handlers on a real server: from bare XADDs, and with engines that are killed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engine import Job, Registry, Retry
from engine.wire.done import DoneJob
from tests.support.daemon import SHORT_LEASES, Start
from tests.support.engines import NO_WAIT, QUEUE, Server, serving
from tests.support.ledger import Ledger, send
from tests.support.servers import RedisTestServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers


async def test_bare_entries_are_taken_together_and_end_one_by_one(
    redis_server: RedisTestServer,
) -> None:
    registry = Registry()
    calls: list[int] = []

    @registry.batch("index", queue=QUEUE, size=30, wait_ms=100, retry=NO_WAIT)
    async def index(jobs: list[Job], payloads: list[dict[str, int]]) -> list[Any]:
        calls.append(len(jobs))
        await asyncio.sleep(0)
        return [
            Retry(after_ms=0) if payload["n"] % 10 == job.attempt else payload["n"]
            for job, payload in zip(jobs, payloads, strict=True)
        ]

    async with Server(redis_server.url) as server:
        entries = [("type", "index", "data", b'{"n":%d}' % n) for n in range(100)]
        await server.add_many(entries)
        async with serving(registry, redis_server.url, concurrency=64):
            await server.until_ended(100)
        done: list[DoneJob] = list((await server.done()).values())

    assert sorted(int(job.result) for job in done) == list(range(100))
    assert sum(calls) == 110, "one in ten is tried a second time"
    assert max(calls) == 30
    assert len(calls) < 20


@pytest.mark.parametrize(
    ("place", "again"),
    [pytest.param("K2@13", 10, id="gathering"), pytest.param("K3@2", 10, id="in the handler")],
)
async def test_a_killed_engine_loses_nothing_of_a_batch(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger, place: str, again: int
) -> None:
    accepted = {send(redis_server, "bulk", f"b{n}", fails=n % 2): 0 for n in range(25)}
    first = start_daemon(redis_server.url, environ={**SHORT_LEASES, "ENGINE_FAIL": f"{place}:kill"})
    assert await eventually(first.has_ended, "killed")
    assert first.wait() == -9

    heir = start_daemon(redis_server.url, environ=SHORT_LEASES)
    await eventually(ledger.is_empty, "all ended")

    ledger.check(accepted, starts_over=25)
    assert {end.outcome for ends in ledger.ends().values() for end in ends} == {"done"}
    lost = {line.id for line in ledger.lines(event="start") if line.deliveries == 2}
    assert len(lost) >= again
    # A lost delivery spends no attempt: those that fail once are done at their second.
    attempts = {line.id: line.attempt for line in ledger.lines(event="end")}
    assert attempts == {f"b{n}": 1 + n % 2 for n in range(25)}
    # Whatever killed the engine, it has no company when it is tried again.
    assert heir.metric("engine_batch_jobs_bucket", type="bulk", le="1.0") >= len(lost)
