"""Leases, lost engines, the schedule and orders of operators, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine import Hold, Job, Registry
from engine.wire.keys import GROUP
from tests.support.engines import KEYS, NO_WAIT, QUEUE, Server, serving, until

GONE = "gone-engine"


class Work:
    """Handlers that wait at a gate, and what they saw."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.seen: list[tuple[str, int, int]] = []
        self.cancelled: list[str] = []
        self.inside = 0
        self.registry = Registry()
        self.registry.job("work", queue=QUEUE, timeout_s=60, retry=NO_WAIT)(self.work)

    async def work(self, job: Job, payload: dict[str, Any]) -> str:
        self.seen.append((job.id, job.attempt, job.deliveries))
        self.inside += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(job.id)
            raise
        finally:
            self.inside -= 1
        return "well"


@pytest.fixture
async def server(redis_url: str) -> AsyncIterator[Server]:
    async with Server(redis_url) as found:
        yield found


JOB = ("type", "work", "data", "{}")


async def _lose(server: Server, entry: str, *, times: int = 1) -> None:
    """Let engines die under an entry that waits."""
    lane = KEYS.lane("normal")
    await server.call("XREADGROUP", "GROUP", GROUP, GONE, "COUNT", 1, "STREAMS", lane, ">")
    claim = ("XCLAIM", lane, GROUP, GONE, 0, entry, "IDLE", 60_000, "RETRYCOUNT", times, "JUSTID")
    await server.call(*claim)


async def _open(server: Server) -> None:
    for lane in KEYS.lanes.values():
        await server.call("XGROUP", "CREATE", lane, GROUP, "0", "MKSTREAM")


async def test_running_and_buffered_jobs_keep_their_leases(server: Server) -> None:
    work = Work()
    async with serving(work.registry, server.url, concurrency=2, prefetch_max=4) as running:
        entries = [await server.add(*JOB) for _ in range(5)]

        async def held() -> bool:
            return len(await server.pending()) == 5

        await server.until(held, "the leases")
        (runner,) = running.engine.runners.values()
        await until(lambda: (work.inside, len(runner.workers.todo)) == (2, 3))
        # Three leases long, an engine beside it finds nothing to take.
        loop = asyncio.get_running_loop()
        end = loop.time() + 3 * 0.9
        while loop.time() < end:
            claim = ("XAUTOCLAIM", KEYS.lane("normal"), GROUP, "thief", 890, "0-0", "JUSTID")
            taken = (await server.call(*claim))[1]
            assert taken == []
            await asyncio.sleep(0.05)
        assert all(count == 1 for _, _, count in (await server.pending()).values())
        work.gate.set()
        await server.until_ended(5)
        assert {f"n-{entry}" for entry in entries} == set(await server.done())


async def test_a_lost_lease_cancels_the_handler_and_drops_the_result(server: Server) -> None:
    work = Work()
    async with serving(work.registry, server.url) as running:
        entry = await server.add(*JOB)
        await until(lambda: work.inside == 1)
        await server.call("XCLAIM", KEYS.lane("normal"), GROUP, "thief", 0, entry)
        await until(lambda: work.cancelled)

        assert await server.done() == {}
        assert await server.dead() == {}
        assert (await server.pending())[entry][0] == "thief"
        assert running.engine.meters.queues[QUEUE].leases_lost == 1


async def test_a_zombies_settlement_changes_nothing(server: Server) -> None:
    work = Work()
    # Renewal comes too late to notice, so only the fence stands between.
    async with serving(work.registry, server.url, lease_ms=60_000, renew_ms=30_000) as running:
        entry = await server.add(*JOB)
        await until(lambda: work.inside == 1)
        await server.call("XCLAIM", KEYS.lane("normal"), GROUP, "thief", 0, entry)
        work.gate.set()
        await until(lambda: running.engine.meters.queues[QUEUE].leases_lost == 1)

        assert await server.done() == {}
        assert list(await server.pending()) == [entry]


@pytest.mark.parametrize("busy", [False, True])
async def test_jobs_of_lost_engines_are_taken_over_on_idle_and_busy_queues(
    server: Server, busy: bool
) -> None:
    await _open(server)
    lost = [await server.add(*JOB) for _ in range(30)]
    for entry in lost:
        await _lose(server, entry)
    if busy:
        await server.add_many([JOB] * 1_000)
    work = Work()
    work.gate.set()
    async with serving(work.registry, server.url, concurrency=2) as running:
        await server.until_ended(1_030 if busy else 30)

        assert running.engine.meters.queues[QUEUE].reclaimed == 30
        done = await server.done()
        assert {f"n-{entry}" for entry in lost} <= set(done)
        # An engine's death spends no attempt.
        again = [each for each in work.seen if each[0] in {f"n-{entry}" for entry in lost}]
        assert {(attempt, deliveries) for _, attempt, deliveries in again} == {(1, 2)}
        assert (await server.hash(KEYS.stats))["lost:work"] == "30"


async def test_reclaim_moves_its_cursor_past_jobs_that_are_held(server: Server) -> None:
    await _open(server)
    lane = KEYS.lane("normal")
    held = await server.add_many([JOB] * 400)
    lost = await server.add(*JOB)
    await server.call("XREADGROUP", "GROUP", GROUP, "alive", "COUNT", 500, "STREAMS", lane, ">")
    await server.call("XCLAIM", lane, GROUP, GONE, 0, lost, "IDLE", 60_000, "JUSTID")
    work = Work()
    work.gate.set()

    async def keep_alive() -> None:
        while True:
            await server.call("XCLAIM", lane, GROUP, "alive", 0, *held, "JUSTID")
            await asyncio.sleep(0.2)

    alive = asyncio.create_task(keep_alive())
    async with serving(work.registry, server.url, concurrency=1):
        await server.until_ended(1)
        assert set(await server.done()) == {f"n-{lost}"}
    alive.cancel()
    await asyncio.wait({alive})


async def test_a_job_under_which_engines_die_is_dead_after_three(server: Server) -> None:
    await _open(server)
    twice = await server.add(*JOB)
    await _lose(server, twice, times=2)
    thrice = await server.add(*JOB, "reply", f"mq:{{{QUEUE}}}:reply:me")
    await _lose(server, thrice, times=3)
    work = Work()
    work.gate.set()
    async with serving(work.registry, server.url):
        await server.until_ended(2)

    assert set(await server.done()) == {f"n-{twice}"}
    dead = (await server.dead())[f"n-{thrice}"]
    assert (dead.reason, dead.attempts, dead.lost) == ("crash-loop", 0, 3)
    assert [job_id for job_id, _, _ in work.seen] == [f"n-{twice}"]
    assert await server.call("XLEN", f"mq:{{{QUEUE}}}:reply:me") == 1


async def test_leased_entries_that_somebody_deletes_are_recorded(server: Server) -> None:
    await _open(server)
    entry = await server.add(*JOB)
    await _lose(server, entry)
    await server.call("XTRIM", KEYS.lane("normal"), "MAXLEN", 0)
    work = Work()
    async with serving(work.registry, server.url):
        await server.until_ended(1)

    dead = (await server.dead())[f"n-{entry}"]
    assert (dead.reason, dead.entry, dead.type) == ("trimmed", entry, "other")
    assert await server.pending() == {}


async def test_delayed_jobs_come_after_their_time_and_in_order(server: Server) -> None:
    work = Work()
    work.gate.set()
    async with serving(work.registry, server.url, concurrency=1):
        delays = {await server.add(*JOB, "delay", str(ms)): ms for ms in (700, 100, 400, 250)}
        await server.until_ended(4)

        expected = sorted(delays, key=lambda entry: delays[entry])
        assert [job_id for job_id, _, _ in work.seen] == [f"n-{entry}" for entry in expected]
        for entry, ms in delays.items():
            waited = (await server.done())[f"n-{entry}"].done_ms - int(entry.split("-")[0])
            # Never early; the bound is for slow machines.
            assert ms <= waited < ms + 2_000


async def test_orders_of_operators_reach_all_engines_within_a_second(server: Server) -> None:
    one, two = Work(), Work()
    small = {"concurrency": 2, "prefetch_max": 1}
    async with (
        serving(one.registry, server.url, name="e1", **small) as first,
        serving(two.registry, server.url, name="e2", **small) as second,
    ):
        runners = [next(iter(each.engine.runners.values())) for each in (first, second)]
        loop = asyncio.get_running_loop()

        async def ordered(field: str, value: str, seen: Any) -> None:
            await server.call("HSET", KEYS.control, field, value)
            begun = loop.time()
            await until(lambda: all(seen(runner) for runner in runners), f"{field}={value}")
            assert loop.time() - begun < 1.0

        await ordered("paused", "1", lambda runner: not runner.workers.open)
        await server.add_many([JOB] * 20)
        await ordered("concurrency", "3", lambda runner: runner.workers.limit == 3)
        assert (one.seen, two.seen) == ([], [])
        await ordered("paused", "0", lambda runner: runner.workers.open)
        await until(lambda: one.inside == two.inside == 3)
        one.gate.set()
        two.gate.set()
        await server.until_ended(20)

    await server.call("HSET", KEYS.control, "paused", "1")
    three = Work()
    await server.add(*JOB)
    async with serving(three.registry, server.url) as third:
        (runner,) = third.engine.runners.values()
        assert not runner.workers.open
        assert runner.workers.limit == 3
        await server.call("HDEL", KEYS.control, "paused")
        await until(lambda: three.inside == 1)
        three.gate.set()


async def test_a_hold_is_released_by_taking_its_field_away(server: Server) -> None:
    registry = Registry()
    configured: list[int] = []

    @registry.job("work", queue=QUEUE, retry=NO_WAIT)
    async def work(job: Job, payload: dict[str, Any]) -> int:
        if not configured:
            raise Hold("no password")
        return job.attempt

    async with serving(registry, server.url):
        await server.add_many([JOB] * 10)

        async def aside() -> bool:
            return bool(await server.call("XLEN", KEYS.held("work")) == 10)

        await server.until(aside, "jobs set aside")
        assert "no password" in (await server.hash(KEYS.control))["hold:work"]
        configured.append(1)
        await server.call("HDEL", KEYS.control, "hold:work")
        await server.until_ended(10)

        assert {job.result for job in (await server.done()).values()} == {b"1"}


async def test_what_a_stopping_engine_hands_back_runs_elsewhere_unspent(server: Server) -> None:
    one, two = Work(), Work()
    two.gate.set()
    async with serving(one.registry, server.url, name="e1", concurrency=3, grace_s=1) as first:
        for _ in range(8):
            await server.add(*JOB, "attempts", "1")
        await until(lambda: one.inside == 3)
        assert await first.stop() == 0
    assert {consumer for consumer, _, _ in (await server.pending()).values()} <= {"released"}
    async with serving(two.registry, server.url, name="e2"):
        await server.until_ended(8)

    assert len(await server.done()) == 8
    assert {(attempt, deliveries) for _, attempt, deliveries in two.seen} == {(1, 1)}
    consumers = await server.call("XINFO", "CONSUMERS", KEYS.lane("normal"), GROUP)
    assert not [row for row in consumers if row[1].startswith((b"e1-", b"e2-"))]
