"""CPU-heavy handlers in processes, blocking ones in threads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine import Job, Registry
from engine.clock import SystemClock
from engine.testing import EngineHarness
from tests.support import pool_app
from tests.support.engines import NO_WAIT, QUEUE


def registry() -> Registry:
    found = Registry()
    found.job("heavy", queue=QUEUE, pool="process", timeout_s=1, retry=NO_WAIT)(pool_app.crunch)
    found.job("blocking", queue=QUEUE, pool="thread", timeout_s=0.3, retry=NO_WAIT)(pool_app.block)

    @found.job("light", queue=QUEUE)
    async def light(job: Job, payload: dict[str, Any]) -> str:
        return "well"

    return found


@pytest.fixture
async def engine() -> AsyncIterator[EngineHarness]:
    harness = EngineHarness(
        registry(), clock=SystemClock(), process_workers=1, block_ms=50, grace_s=3
    )
    async with harness as running:
        yield running


async def _result(engine: EngineHarness, job_type: str, **payload: Any) -> Any:
    job_id = engine.add(job_type, payload, attempts=1)
    await engine.until_ended(job_id)
    return engine.done()[job_id].result if job_id in engine.done() else engine.dead()[job_id]


async def test_a_process_runs_what_is_heavy_and_survives_all_that_goes_wrong(
    engine: EngineHarness,
) -> None:
    assert await _result(engine, "heavy", do="sum", n=1_000) == b"499500"
    pid = await _result(engine, "heavy", do="pid")
    assert int(pid) != os.getpid()

    failed = await _result(engine, "heavy", do="raise")
    assert (failed.reason, failed.error.message) == ("exhausted", "from the pool")
    # Where it was raised, in the other process.
    assert "crunch" in failed.error.traceback
    own = await _result(engine, "heavy", do="own-timeout")
    assert (own.reason, own.error.kind) == ("exhausted", "TimeoutError")
    assert await _result(engine, "heavy", do="pid") == pid

    for bad in ("unpicklable", "exit", "stop-iteration", "lambda"):
        assert (await _result(engine, "heavy", do=bad)).reason == "exhausted"
    died = await _result(engine, "heavy", do="die")
    assert (died.reason, died.error.kind) == ("exhausted", "pebble.common.types.ProcessExpired")
    assert await _result(engine, "heavy", do="sum", n=3) == b"3"


async def test_a_process_is_killed_at_its_limit_and_waiting_for_one_does_not_count(
    engine: EngineHarness,
) -> None:
    assert await _result(engine, "heavy", do="sum", n=3) == b"3"
    spins = engine.add("heavy", {"do": "spin"}, attempts=1)
    # One process: each waits longer than the limit until it is free.
    waits = [engine.add("heavy", {"do": "sleep", "s": 0.5}, attempts=1) for _ in range(3)]
    light = engine.add("light")
    await engine.until_ended(light)
    assert not engine.dead()

    await engine.until_ended(spins, *waits)
    assert engine.dead()[spins].reason == "timeout"
    assert engine.dead()[spins].error.message == "ran longer than its limit of 1 s"
    assert set(waits) <= engine.done().keys()


@pytest.mark.full
async def test_a_cancelled_job_takes_its_process_along_and_leaves_its_thread() -> None:
    pool_app.FREED.clear()
    found = Registry()
    found.job("heavy", queue=QUEUE, pool="process", timeout_s=60)(pool_app.crunch)
    found.job("blocking", queue=QUEUE, pool="thread", timeout_s=60)(pool_app.block)
    async with EngineHarness(
        found, clock=SystemClock(), process_workers=1, block_ms=50, grace_s=3
    ) as engine:
        ids = [engine.add("heavy", {"do": "spin"}), engine.add("blocking", {"do": "block"})]
        (runner,) = engine.engine.runners.values()
        await engine.until(lambda: len(runner.workers.running()) == 2)
        for job_id in ids:
            engine.model.queue(QUEUE).cancel(job_id)
        await engine.until_ended(*ids)

        assert {engine.dead()[job_id].reason for job_id in ids} == {"cancelled"}
        assert engine.engine.meters.stuck == 1
        # The only process is free again.
        assert await _result(engine, "heavy", do="sum", n=3) == b"3"
        pool_app.FREED.set()
        await engine.until(lambda: engine.engine.meters.stuck == 0)


async def test_a_stopping_engine_takes_its_processes_along() -> None:
    harness = EngineHarness(
        registry(), clock=SystemClock(), process_workers=1, block_ms=50, grace_s=1
    )
    await harness.start()
    assert await _result(harness, "heavy", do="sum", n=3) == b"3"
    harness.add("heavy", {"do": "spin"}, attempts=1)
    await harness.until(lambda: harness.signals.counts["leased"] == 2)

    assert await harness.stop() == 0
    assert harness.signals.counts["released"] == 1
    assert not harness.dead()


async def test_a_thread_beyond_its_limit_is_settled_and_counted_until_it_ends(
    engine: EngineHarness,
) -> None:
    pool_app.FREED.clear()
    blocked = engine.add("blocking", {"do": "block"}, attempts=1)
    await engine.until_ended(blocked)
    assert engine.dead()[blocked].reason == "timeout"
    assert engine.engine.meters.stuck == 1

    pool_app.FREED.set()
    await engine.until(lambda: engine.engine.meters.stuck == 0)
    assert await _result(engine, "blocking", do="sum", n=3) == b"3"


async def test_many_threads_block_at_the_same_time(engine: EngineHarness) -> None:
    pool_app.FREED.clear()
    ids = [engine.add("blocking", {"do": "block"}) for _ in range(60)]
    (runner,) = engine.engine.runners.values()
    await engine.until(lambda: runner.workers.active == 60)
    pool_app.FREED.set()
    await engine.until_ended(*ids)
    await asyncio.sleep(0)

    assert set(ids) <= engine.done().keys()


@pytest.mark.parametrize("bad", ["raise", "exit", "stop-iteration"])
async def test_a_thread_may_raise_anything(engine: EngineHarness, bad: str) -> None:
    assert (await _result(engine, "blocking", do=bad)).reason == "exhausted"
    assert await _result(engine, "blocking", do="sum", n=3) == b"3"
