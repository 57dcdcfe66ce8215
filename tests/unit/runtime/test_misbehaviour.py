"""Handlers that raise, swallow and leave behind whatever they like never harm the engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from engine import Job, Registry
from engine.testing import EngineHarness, ManualClock
from tests.support.engines import NO_WAIT, QUEUE


class Unprintable(Exception):
    def __str__(self) -> str:
        raise SystemExit("not even its text")


class Quiet(BaseException):
    """Not an Exception."""


def with_sound(handler: Any, **options: Any) -> Registry:
    """A registry of the misbehaving handler and one that works."""
    registry = Registry()
    registry.job("work", queue=QUEUE, **{"retry": NO_WAIT, "timeout_s": 5, **options})(handler)

    @registry.job("sound", queue=QUEUE)
    async def sound(job: Job, payload: dict[str, Any]) -> str:
        async with asyncio.timeout(1):
            await asyncio.sleep(0)
        return "well"

    return registry


async def _still_works(engine: EngineHarness) -> None:
    ids = [engine.add("sound") for _ in range(10)]
    await engine.until_ended(*ids)
    assert all(engine.done()[job_id].result == b'"well"' for job_id in ids)
    (runner,) = engine.engine.runners.values()
    assert runner.workers.active == 0
    assert runner.settler.unsettled == 0


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (lambda: SystemExit(3), "SystemExit"),
        (KeyboardInterrupt, "KeyboardInterrupt"),
        (GeneratorExit, "GeneratorExit"),
        (asyncio.CancelledError, "CancelledError"),
        (Quiet, "Quiet"),
        (StopIteration, "RuntimeError"),
        (StopAsyncIteration, "StopAsyncIteration"),
        (TimeoutError, "TimeoutError"),
        (MemoryError, "MemoryError"),
        (RecursionError, "RecursionError"),
        (Unprintable, "Unprintable"),
        (lambda: BaseExceptionGroup("many", [SystemExit()]), "BaseExceptionGroup"),
    ],
)
async def test_whatever_is_raised_is_a_failure(
    raised: Callable[[], BaseException], kind: str
) -> None:
    async def handler(job: Job, payload: dict[str, Any]) -> None:
        raise raised()

    async with EngineHarness(with_sound(handler), concurrency=2) as engine:
        ids = [engine.add("work") for _ in range(4)]
        await engine.drain()

        for job_id in ids:
            dead = engine.dead()[job_id]
            assert (dead.reason, dead.attempts) == ("exhausted", 3)
            assert dead.error.kind.rpartition(".")[2] == kind
        await _still_works(engine)


async def test_a_handler_that_cancels_its_own_task_fails_and_keeps_its_worker() -> None:
    async def handler(job: Job, payload: dict[str, Any]) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if payload.get("waits"):
            await asyncio.sleep(1)

    async with EngineHarness(with_sound(handler), concurrency=1) as engine:
        waits = [engine.add("work", {"waits": 1}) for _ in range(3)]
        await engine.drain()
        assert {engine.dead()[job_id].error.kind.rpartition(".")[2] for job_id in waits} == {
            "CancelledError"
        }

        returns = [engine.add("work", {"waits": 0}) for _ in range(3)]
        await engine.drain()
        assert set(returns) <= engine.done().keys() | engine.dead().keys()
        await _still_works(engine)


async def test_a_huge_text_is_cut_and_the_frames_are_kept() -> None:
    async def handler(job: Job, payload: dict[str, Any]) -> None:
        raise ValueError("x" * 10_000_000)

    async with EngineHarness(with_sound(handler)) as engine:
        job_id = engine.add("work", attempts=1)
        await engine.until_ended(job_id)

        error = engine.dead()[job_id].error
        assert error.message == "x" * 500
        assert "in handler" in error.traceback
        assert len(error.traceback) <= 4_000


async def test_lone_surrogates_are_replaced() -> None:
    async def handler(job: Job, payload: dict[str, Any]) -> None:
        await job.progress(5, "half \ud800")
        raise ValueError("a \ud800 b")

    async with EngineHarness(with_sound(handler)) as engine:
        job_id = engine.add("work", attempts=1)
        await engine.until_ended(job_id)

        assert engine.dead()[job_id].error.message == "a ? b"
        await _still_works(engine)


async def test_tasks_left_behind_harm_nobody() -> None:
    left: list[asyncio.Task[None]] = []

    async def orphan(fails: bool) -> None:
        if fails:
            raise ValueError("orphan")
        await asyncio.Event().wait()

    async def handler(job: Job, payload: dict[str, bool]) -> None:
        left.append(asyncio.create_task(orphan(payload["fails"])))

    async with EngineHarness(with_sound(handler)) as engine:
        ids = [engine.add("work", {"fails": fails}) for fails in (True, False)]
        await engine.until_ended(*ids)

        assert set(ids) == engine.done().keys()
        await _still_works(engine)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def test_a_job_beyond_its_limit_is_cancelled_and_tried_again() -> None:
    seen: list[str] = []

    async def handler(job: Job, payload: dict[str, Any]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cleaned up")

    async with EngineHarness(with_sound(handler)) as engine:
        job_id = engine.add("work")
        await engine.drain()

        dead = engine.dead()[job_id]
        assert (dead.reason, dead.attempts, dead.error.kind) == ("timeout", 3, "timeout")
        assert dead.error.message == "ran longer than its limit of 5 s"
        assert [each.outcome for each in dead.history] == ["timeout"] * 3
        assert all(5_000 <= each.run_ms < 5_200 for each in dead.history)
        assert len(seen) == 3
        await _still_works(engine)


async def test_a_handler_that_swallows_its_cancellation_is_given_up() -> None:
    freed = asyncio.Event()
    swallowed: list[int] = []

    async def handler(job: Job, payload: dict[str, Any]) -> str:
        while not freed.is_set():
            try:
                await freed.wait()
            except asyncio.CancelledError:
                swallowed.append(job.attempt)
        return "too late"

    async with EngineHarness(with_sound(handler), concurrency=1) as engine:
        job_id = engine.add("work", attempts=1)
        await engine.until(lambda: engine.signals.counts["leased"])
        await engine.advance(5.2)
        assert swallowed == [1]
        assert not engine.dead()

        # A second of grace later it is settled without it.
        await engine.advance(1.1)
        assert engine.dead()[job_id].reason == "timeout"
        assert engine.engine.meters.stuck == 1
        await _still_works(engine)

        freed.set()
        await engine.until(lambda: engine.engine.meters.stuck == 0)
        assert not engine.done().keys() & {job_id}


async def test_a_handler_may_still_finish_while_it_is_cancelled() -> None:
    async def handler(job: Job, payload: dict[str, Any]) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "finished all the same"
        return ""

    async with EngineHarness(with_sound(handler), concurrency=1) as engine:
        job_id = engine.add("work")
        await engine.drain()

        assert engine.done()[job_id].result == b'"finished all the same"'
        await _still_works(engine)


async def test_time_limits_inside_a_handler_are_its_own() -> None:
    clock = ManualClock()

    async def handler(job: Job, payload: dict[str, Any]) -> str:
        if payload["raises"]:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            return "went on"
        return ""

    async with EngineHarness(with_sound(handler), clock=clock, concurrency=1) as engine:
        handled = engine.add("work", {"raises": False})
        raised = engine.add("work", {"raises": True}, attempts=1)
        await engine.until_ended(handled, raised)

        assert engine.done()[handled].result == b'"went on"'
        dead = engine.dead()[raised]
        assert (dead.reason, dead.error.kind) == ("exhausted", "TimeoutError")
        await _still_works(engine)


async def test_many_stuck_handlers_make_the_engine_ask_for_a_successor() -> None:
    freed = asyncio.Event()

    async def handler(job: Job, payload: dict[str, Any]) -> None:
        while not freed.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await freed.wait()

    engine = EngineHarness(with_sound(handler), stuck_max=3, grace_s=1)
    await engine.start()
    for _ in range(3):
        engine.add("work")
    await engine.until(lambda: engine.signals.counts["leased"] == 3)
    await engine.advance(7)

    await engine.ended()
    freed.set()
    assert engine.engine.meters.stuck == 3
