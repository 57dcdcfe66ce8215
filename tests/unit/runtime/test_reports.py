"""What the engine tells while jobs run and once they have ended: progress, events, hooks."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from engine import Ended, Job, Registry
from engine.testing import EngineHarness
from tests.support.engines import NO_WAIT, QUEUE


def fixture_registry(gate: asyncio.Event | None = None) -> Registry:
    registry = Registry()

    async def work(job: Job, payload: dict[str, Any]) -> str:
        if payload.get("percent") is not None:
            await job.progress(payload["percent"], "on the way")
        if gate is not None:
            await gate.wait()
        if payload.get("fails"):
            raise ValueError("no")
        return "yes"

    registry.job("told", queue=QUEUE, events=True, retry=NO_WAIT)(work)
    registry.job("untold", queue=QUEUE, retry=NO_WAIT)(work)
    return registry


def events_of(engine: EngineHarness) -> list[dict[str, Any]]:
    entries = engine.model.queue(QUEUE).events.entries.values()
    return [msgspec.json.decode(fields[1]) for fields in entries]


@pytest.mark.parametrize(("given", "kept"), [(40, 40.0), (-5, 0.0), (1e9, 100.0)])
async def test_progress_is_written_while_a_job_runs_and_forgotten_at_its_end(
    given: float, kept: float
) -> None:
    gate = asyncio.Event()
    async with EngineHarness(fixture_registry(gate)) as engine:
        job_id = engine.add("untold", {"percent": given})
        await engine.until(lambda: engine.signals.counts["leased"])
        await engine.advance(0.3)
        told = msgspec.json.decode(engine.model.queue(QUEUE).progress[job_id])
        assert (told["percent"], told["message"]) == (kept, "on the way")

        gate.set()
        await engine.until_ended(job_id)
        await engine.advance(1)
        assert not engine.model.queue(QUEUE).progress


async def test_progress_that_was_never_written_leaves_nothing() -> None:
    async with EngineHarness(fixture_registry()) as engine:
        done = engine.add("untold", {"percent": 1})
        dead = engine.add("untold", {"percent": 1, "fails": True})
        await engine.drain()
        await engine.advance(1)

        assert engine.done().keys() | engine.dead().keys() == {done, dead}
        assert not engine.model.queue(QUEUE).progress


async def test_events_are_told_for_types_that_want_them_and_in_their_order() -> None:
    async with EngineHarness(fixture_registry()) as engine:
        done = engine.add("told", {"percent": 10})
        untold = engine.add("untold", {"percent": 10})
        await engine.until_ended(done, untold)
        dead = engine.add("told", {"fails": True}, attempts=2)
        await engine.drain()

        story = [(event["event"], event["id"]) for event in events_of(engine)]
        assert [name for name, job_id in story if job_id == done] == [
            "started",
            "progressed",
            "done",
        ]
        assert [name for name, job_id in story if job_id == dead] == [
            "started",
            "retried",
            "started",
            "dead",
        ]
        assert not [name for name, job_id in story if job_id == untold]


async def test_hooks_are_called_once_after_the_record() -> None:
    registry = fixture_registry()
    calls: list[tuple[str, Ended, bool]] = []
    harness: list[EngineHarness] = []

    @registry.on_done
    async def first(ended: Ended) -> None:
        calls.append(("first", ended, ended.id in harness[0].done()))

    @registry.on_done
    async def second(ended: Ended) -> None:
        calls.append(("second", ended, True))

    @registry.on_dead
    async def died(ended: Ended) -> None:
        calls.append(("died", ended, ended.id in harness[0].dead()))

    async with EngineHarness(registry) as engine:
        harness.append(engine)
        done, dead = engine.add("told"), engine.add("told", {"fails": True})
        malformed = engine.add("told", b"no")
        await engine.drain()

    assert all(recorded for _, _, recorded in calls)
    assert [name for name, ended, _ in calls if ended.id == done] == ["first", "second"]
    by_id = {ended.id: ended for _, ended, _ in calls}
    assert (by_id[done].result, by_id[done].attempt) == ("yes", 1)
    assert (by_id[dead].reason, by_id[dead].error, by_id[dead].attempt) == ("exhausted", "no", 3)
    assert (by_id[malformed].reason, by_id[malformed].attempt) == ("malformed", 0)
    assert len(calls) == 4


@pytest.mark.parametrize(
    "raised", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit]
)
async def test_a_failing_hook_is_harmless(raised: type[BaseException]) -> None:
    registry = fixture_registry()
    calls: list[str] = []

    @registry.on_done
    async def fails(ended: Ended) -> None:
        calls.append("fails")
        raise raised

    @registry.on_done
    async def works(ended: Ended) -> None:
        calls.append("works")

    async with EngineHarness(registry) as engine:
        ids = [engine.add("told") for _ in range(3)]
        await engine.until_ended(*ids)
        await engine.until(lambda: calls == ["fails", "works"] * 3, what="all hooks")


async def test_a_hook_that_is_no_coroutine_function_is_harmless() -> None:
    registry = fixture_registry()
    registry.on_done(lambda ended: None)  # type: ignore[arg-type,return-value]
    async with EngineHarness(registry) as engine:
        job_id = engine.add("told")
        await engine.until_ended(job_id)


async def test_middleware_stands_around_handlers_in_its_order() -> None:
    registry = fixture_registry()
    calls: list[str] = []

    @registry.around
    async def outer(job: Job, payload: Any, call_next: Any) -> Any:
        calls.append("outer in")
        try:
            return f"<{await call_next()}>"
        finally:
            calls.append("outer out")

    @registry.around
    async def inner(job: Job, payload: Any, call_next: Any) -> Any:
        calls.append("inner in")
        result = await call_next()
        calls.append("inner out")
        return f"[{result}]"

    async with EngineHarness(registry) as engine:
        job_id = engine.add("told")
        await engine.until_ended(job_id)

        assert engine.done()[job_id].result == b'"<[yes]>"'
    assert calls == ["outer in", "inner in", "inner out", "outer out"]


async def test_what_middleware_raises_is_the_attempts_failure() -> None:
    registry = fixture_registry()

    @registry.around
    async def refuse(job: Job, payload: Any, call_next: Any) -> Any:
        raise PermissionError("not today")

    async with EngineHarness(registry) as engine:
        job_id = engine.add("told")
        await engine.drain()

        assert engine.dead()[job_id].error.kind == "PermissionError"
