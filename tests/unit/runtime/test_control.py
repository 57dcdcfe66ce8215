"""Holds, pauses, live concurrency, lanes, drains and bursts."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from engine import Hold, Job, Registry
from engine.runtime.upkeep import PROMOTE_MAX
from engine.testing import EngineHarness, ManualClock
from tests.support.engines import NO_WAIT, QUEUE


class Doors:
    """Jobs that run until they are let go."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.order: list[str] = []
        self.most = 0
        self.gate = asyncio.Event()
        self.registry = Registry()
        self.registry.job("work", queue=QUEUE, timeout_s=3600, retry=NO_WAIT)(self.work)
        self.registry.job("other", queue=QUEUE, timeout_s=3600, retry=NO_WAIT)(self.work)

    async def work(self, job: Job, payload: dict[str, Any]) -> None:
        self.order.append(job.id)
        self.inside.append(job.id)
        self.most = max(self.most, len(self.inside))
        try:
            await self.gate.wait()
        finally:
            self.inside.remove(job.id)


async def test_a_hold_keeps_jobs_of_one_type_and_spends_nothing() -> None:
    registry = Registry()
    attempts: list[int] = []
    configured = False
    alerts: list[tuple[str, str]] = []
    together = asyncio.Barrier(3)

    @registry.job("mail", queue=QUEUE, retry=NO_WAIT)
    async def mail(job: Job, payload: dict[str, Any]) -> str:
        attempts.append(job.attempt)
        if not configured:
            await together.wait()
            raise Hold("no password")
        return "sent"

    @registry.job("other", queue=QUEUE)
    async def other(job: Job, payload: dict[str, Any]) -> str:
        return "well"

    async with EngineHarness(registry) as engine:
        engine.engine._notes.type_held = lambda queue, name, reason: alerts.append((name, reason))  # type: ignore[method-assign]
        (runner,) = engine.engine.runners.values()
        runner._shared.on_held = engine.engine._notes.type_held
        held = [engine.add("mail") for _ in range(3)]
        await engine.until(lambda: engine.signals.counts["aside"] == 3, what="jobs set aside")
        # Three failed at once, and it is said once.
        assert alerts == [("mail", "no password")]
        later = [engine.add("mail") for _ in range(3)]
        others = [engine.add("other") for _ in range(3)]
        await engine.until_ended(*others)
        await engine.until(lambda: engine.signals.counts["aside"] == 6)
        await engine.advance(10)

        control = engine.model.queue(QUEUE).control_hash
        assert control["hold:mail"] == "no password"
        assert len(attempts) == 3
        assert engine.done().keys() == set(others)
        assert engine.engine.meters.queues[QUEUE].held == 6

        configured = True
        del control["hold:mail"]
        await engine.advance(3)
        await engine.until_ended(*held, *later)
        assert set(held + later) <= engine.done().keys()
        assert set(attempts) == {1}
        assert engine.model.queue(QUEUE).stats["dead:mail"] == 0


async def test_a_hold_outlives_the_engine() -> None:
    doors = Doors()
    doors.gate.set()
    async with EngineHarness(doors.registry) as first:
        first.model.queue(QUEUE).control_hash["hold:work"] = "by hand"
    async with EngineHarness(doors.registry, clock=first.clock, model=first.model) as second:
        kept, runs = second.add("work"), second.add("other")
        await second.until_ended(runs)
        await second.advance(5)

        assert doors.order == [runs]
        assert kept not in second.done()


async def test_a_pause_takes_effect_within_a_second_on_all_engines_and_outlives_them() -> None:
    doors = Doors()
    doors.gate.set()
    clock = ManualClock()
    async with EngineHarness(doors.registry, clock=clock) as one:
        control = one.model.queue(QUEUE).control_hash
        async with EngineHarness(doors.registry, clock=clock, model=one.model, name="two") as two:
            control["paused"] = "1"
            await one.advance(1)
            ids = [one.add("work") for _ in range(20)]
            await one.advance(5)
            assert not doors.order
            assert all(each.engine.meters.queues[QUEUE].paused for each in (one, two))
    async with EngineHarness(doors.registry, clock=clock, model=one.model) as three:
        await three.advance(5)
        assert not doors.order

        del control["paused"]
        await three.advance(1)
        await three.until_ended(*ids)


async def test_running_jobs_outlast_a_pause() -> None:
    doors = Doors()
    async with EngineHarness(doors.registry) as engine:
        job_id = engine.add("work")
        await engine.until(lambda: doors.inside)
        engine.model.queue(QUEUE).control_hash["paused"] = "1"
        await engine.advance(1)
        doors.gate.set()
        await engine.until_ended(job_id)

        assert job_id in engine.done()


async def test_the_concurrency_changes_live_and_outlives_the_engine() -> None:
    doors = Doors()
    async with EngineHarness(doors.registry, concurrency=2) as engine:
        control = engine.model.queue(QUEUE).control_hash
        for _ in range(30):
            engine.add("work")
        await engine.until(lambda: len(doors.inside) == 2)
        await engine.advance(2)
        assert len(doors.inside) == 2

        control["concurrency"] = "7"
        await engine.advance(1)
        await engine.until(lambda: len(doors.inside) == 7)
        await engine.advance(2)
        assert doors.most == 7

        control["concurrency"] = "1"
        await engine.advance(1)
        doors.most = 0
        doors.gate.set()
        await engine.drain()
    doors.gate.clear()
    doors.most = 0
    async with EngineHarness(doors.registry, clock=engine.clock, model=engine.model) as engine:
        for _ in range(5):
            engine.add("work")
        await engine.advance(2)
        assert doors.most == 1
        doors.gate.set()
        await engine.drain()


async def test_critical_goes_before_everything_that_waits() -> None:
    doors = Doors()
    async with EngineHarness(doors.registry, concurrency=1) as engine:
        engine.add("work")
        await engine.until(lambda: doors.inside)
        for lane in ("low", "normal", "high"):
            for _ in range(20):
                engine.add("work", lane=lane)
        await engine.advance(1)
        urgent = [engine.add("work", lane="critical") for _ in range(20)]
        await engine.advance(1)
        doors.gate.set()
        await engine.drain()

        # The first runs already; what the engine holds, and what it asked for before it heard of
        # them, goes first.
        places = [doors.order.index(job_id) for job_id in urgent]
        assert max(places) <= 20 + 2 * 5
        assert places == sorted(places)


async def test_lanes_share_by_weight_and_none_starves() -> None:
    doors = Doors()
    doors.gate.set()
    async with EngineHarness(doors.registry, concurrency=1, prefetch_max=1) as engine:
        engine.model.queue(QUEUE).control_hash["paused"] = "1"
        await engine.advance(1)
        ids = {
            engine.add("work", lane=lane): lane
            for _ in range(400)
            for lane in ("low", "normal", "high")
        }
        del engine.model.queue(QUEUE).control_hash["paused"]
        await engine.advance(1)
        await engine.until_ended(*ids)

        share = Counter(ids[job_id] for job_id in doors.order[:420])
        assert share["high"] == pytest.approx(320, abs=20)
        assert share["normal"] == pytest.approx(80, abs=15)
        assert share["low"] == pytest.approx(20, abs=8)


async def test_a_stopping_engine_hands_back_what_it_does_not_finish_unspent() -> None:
    doors = Doors()
    attempts: list[tuple[str, int]] = []

    @doors.registry.around
    async def note(job: Job, payload: Any, call_next: Any) -> Any:
        attempts.append((job.id, job.attempt))
        return await call_next()

    engine = EngineHarness(doors.registry, concurrency=3, grace_s=2)
    await engine.start()
    ids = [engine.add("work", attempts=1) for _ in range(10)]
    await engine.until(lambda: len(doors.inside) == 3)
    assert await engine.stop() == 0

    assert not engine.done()
    assert not engine.dead()
    lane = engine.model.queue(QUEUE).lanes["normal"]
    assert len(lane.entries) == 10
    assert lane.group is not None
    assert {line.consumer for line in lane.group.pending.values()} <= {"released"}
    assert engine.engine.name not in engine.model.engines
    assert "engine-1" not in lane.group.consumers

    doors.gate.set()
    async with EngineHarness(doors.registry, clock=engine.clock, model=engine.model, name="b") as b:
        await b.drain()
        assert set(ids) == b.done().keys()
    assert {attempt for _, attempt in attempts} == {1}


async def test_a_stopping_engine_lets_handlers_end_within_its_grace() -> None:
    doors = Doors()
    engine = EngineHarness(doors.registry, grace_s=100)
    await engine.start()
    job_id = engine.add("work")
    await engine.until(lambda: doors.inside)
    engine.engine.stop()
    assert isinstance(engine.clock, ManualClock)
    await engine.advance(30)
    doors.gate.set()

    assert await engine.ended() == 0
    assert job_id in engine.done()


async def test_a_burst_drains_and_ends() -> None:
    doors = Doors()
    doors.gate.set()
    engine = EngineHarness(doors.registry, concurrency=2)
    ids = [engine.add("work") for _ in range(50)]
    later = engine.add("work", delay=3_600_000)
    await engine.start(burst=True)

    assert await engine.ended() == 0
    assert set(ids) == engine.done().keys()
    assert later not in engine.done()
    assert len(engine.delayed()) == 1


async def test_a_burst_of_a_paused_queue_ends() -> None:
    doors = Doors()
    engine = EngineHarness(doors.registry)
    engine.model.queue(QUEUE).control_hash["paused"] = "1"
    engine.add("work")
    await engine.start(burst=True)

    assert await engine.ended() == 0
    assert not doors.order


async def test_done_jobs_are_kept_by_count_and_by_age() -> None:
    doors = Doors()
    doors.gate.set()
    async with EngineHarness(
        doors.registry, done_jobs_max=10, done_age_ms_max=60_000, concurrency=1, prefetch_max=1
    ) as engine:
        for _ in range(60):
            engine.add("work")
        await engine.drain()
        await engine.advance(3)
        # Whole batches go, so a batch may be left above the count.
        kept = len(engine.done())
        assert 10 <= kept < 20

        await engine.advance(62)
        assert not engine.done()
        assert engine.model.queue(QUEUE).stats["done:work"] == 60


async def test_jobs_due_at_once_do_not_get_ahead_of_all_that_comes_after_them() -> None:
    doors = Doors()
    async with EngineHarness(doors.registry, concurrency=10) as engine:
        delayed = engine.model.queue(QUEUE).delayed
        for _ in range(2_000):
            engine.add("work", delay=1_000)
        await engine.until(lambda: len(delayed) == 2_000, what="all of them to be put off")

        await engine.advance(1.01)
        # Nothing of it ends, so a step suffices for the engine, and one more was under way.
        assert 2_000 > len(delayed) >= 2_000 - 3 * PROMOTE_MAX
        # Yet what is due does not stand still: behind it may be a job of another lane.
        await engine.advance(0.3)
        assert not delayed
        doors.gate.set()
        await engine.until(lambda: len(engine.done()) == 2_000, what="the end of all jobs")
