"""What handlers return and raise, and what becomes of their jobs."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from engine import Cancel, Exponential, Job, Registry, Retry, Snooze
from engine.testing import EngineHarness
from tests.support.engines import NO_WAIT, QUEUE, FixedClock


class Boom(Exception):
    """A failure with a class of its own."""


def registry_of(handler: Any, **options: Any) -> Registry:
    registry = Registry()
    registry.job("work", queue=QUEUE, **{"retry": NO_WAIT, **options})(handler)
    return registry


@pytest.mark.parametrize(
    ("returned", "kept"),
    [
        (None, b""),
        ({"n": 1}, b'{"n":1}'),
        ("text", b'"text"'),
        ({3: float("nan")}, b'{"3":null}'),
        (Boom, b'{"resultNotKept":"cannot be written as JSON: '),
        ({"a": "\ud800"}, b'{"resultNotKept":"cannot be written as JSON: '),
        (2**70, b'{"resultNotKept":"cannot be written as JSON: '),
        ("x" * 70_000, b'{"resultNotKept":"70002 bytes, over 65536"}'),
    ],
)
async def test_a_done_job_leaves_its_result(returned: Any, kept: bytes) -> None:
    async def handler(job: Job, payload: dict[str, Any]) -> Any:
        return returned

    async with EngineHarness(registry_of(handler)) as engine:
        job_id = engine.add("work")
        await engine.until_ended(job_id)

        done = engine.done()[job_id]
        assert (done.type, done.lane, done.engine) == ("work", "normal", "engine-1")
        assert done.result.startswith(kept)
        assert engine.model.queue(QUEUE).stats["done:work"] == 1
        assert not engine.model.queue(QUEUE).lanes["normal"].entries


async def test_many_jobs_that_end_together_are_settled_together() -> None:
    async def handler(job: Job, payload: dict[str, int]) -> int:
        return payload["n"]

    async with EngineHarness(registry_of(handler), concurrency=100) as engine:
        ids = [engine.add("work", {"n": n}) for n in range(300)]
        await engine.until_ended(*ids)

        assert [engine.done()[job_id].result for job_id in ids] == [
            str(n).encode() for n in range(300)
        ]
        assert len(engine.model.queue(QUEUE).done.entries) < 100


@pytest.mark.parametrize(
    ("draw", "expected_ms"), [(0.0, [0, 0, 0, 0]), (0.5, [500, 1000, 1500, 1500])]
)
async def test_retries_wait_with_full_jitter_up_to_the_cap(
    draw: float, expected_ms: list[int]
) -> None:
    async def handler(job: Job, payload: dict[str, Any]) -> None:
        raise Boom

    retry = Exponential(attempts=5, base_s=1, cap_s=3)
    clock = FixedClock(draw)
    async with EngineHarness(registry_of(handler, retry=retry), clock=clock) as engine:
        job_id = engine.add("work")
        await engine.drain()

        dead = engine.dead()[job_id]
        ends = [attempt.at_ms for attempt in dead.history]
        waits = [after - before for before, after in itertools.pairwise(ends)]
        # The promoter looks a few ms late, never early.
        assert all(0 <= wait - due < 200 for wait, due in zip(waits, expected_ms, strict=True))


async def test_an_exhausted_job_is_dead_with_its_story() -> None:
    async def handler(job: Job, payload: dict[str, Any]) -> None:
        raise Boom(f"attempt {job.attempt} of {job.attempts_max}")

    async with EngineHarness(registry_of(handler)) as engine:
        job_id = engine.add("work", {"a": 1}, lane="low", colour="red")
        await engine.drain()

        dead = engine.dead()[job_id]
        assert (dead.reason, dead.attempts, dead.lane, dead.type) == ("exhausted", 3, "low", "work")
        assert dead.error.message == "attempt 3 of 3"
        assert dead.error.kind.endswith("test_outcomes.Boom")
        assert "raise Boom" in dead.error.traceback
        assert [(each.number, each.outcome) for each in dead.history] == [
            (1, "failed"),
            (2, "failed"),
            (3, "failed"),
        ]
        assert all("in handler" in each.error.traceback for each in dead.history if each.error)
        assert dead.enqueued_ms <= dead.died_ms
        (fields,) = engine.model.queue(QUEUE).dead.entries.values()
        assert fields[2:] == [b"type", b"work", b"data", b'{"a":1}', b"colour", b"red"]
        stats = engine.model.queue(QUEUE).stats
        assert (stats["retried:work"], stats["dead:work"], stats["done:work"]) == (2, 1, 0)


async def test_the_history_is_bounded() -> None:
    async def handler(job: Job, payload: dict[str, Any]) -> None:
        raise Boom("x" * 100_000)

    retry = Exponential(attempts=50, base_s=0)
    async with EngineHarness(registry_of(handler, retry=retry)) as engine:
        job_id = engine.add("work")
        await engine.drain()

        dead = engine.dead()[job_id]
        assert [each.number for each in dead.history] == list(range(41, 51))
        (fields,) = engine.model.queue(QUEUE).dead.entries.values()
        assert sum(map(len, fields)) < 100_000


async def test_a_job_may_override_its_attempts() -> None:
    runs: list[int] = []

    async def handler(job: Job, payload: dict[str, Any]) -> None:
        runs.append(job.attempts_max)
        raise Boom

    async with EngineHarness(registry_of(handler)) as engine:
        once, often = engine.add("work", attempts=1), engine.add("work", attempts=5)
        await engine.drain()

        assert engine.dead()[once].attempts == 1
        assert engine.dead()[often].attempts == 5
        assert sorted(runs) == [1, 5, 5, 5, 5, 5]


async def test_retry_spends_an_attempt_and_names_its_delay() -> None:
    async def handler(job: Job, payload: dict[str, Any]) -> None:
        raise Retry(after_ms=60_000, reason="busy")

    async with EngineHarness(registry_of(handler)) as engine:
        job_id = engine.add("work")
        await engine.until(engine.delayed)
        assert engine.delayed() == [engine.clock.now_ms() + 60_000]
        await engine.drain()

        dead = engine.dead()[job_id]
        assert (dead.reason, dead.attempts, dead.error.message) == ("exhausted", 3, "busy")
        assert [each.outcome for each in dead.history] == ["retry"] * 3


async def test_snooze_spends_none() -> None:
    seen: list[int] = []

    async def handler(job: Job, payload: dict[str, Any]) -> None:
        seen.append(job.attempt)
        if len(seen) < 6:
            raise Snooze(1_000, reason="later")

    async with EngineHarness(registry_of(handler)) as engine:
        job_id = engine.add("work")
        await engine.drain()

        assert seen == [1] * 6
        assert job_id in engine.done()
        assert engine.model.queue(QUEUE).stats["snoozed:work"] == 5


async def test_cancel_is_dead_at_once() -> None:
    async def handler(job: Job, payload: dict[str, Any]) -> None:
        raise Cancel("the account is gone")

    async with EngineHarness(registry_of(handler)) as engine:
        job_id = engine.add("work")
        await engine.until_ended(job_id)

        dead = engine.dead()[job_id]
        assert (dead.reason, dead.attempts) == ("cancelled", 1)
        assert dead.error.message == "the account is gone"


@pytest.mark.parametrize(
    "raised",
    [
        Snooze(2**80),
        Retry(after_ms=2**80),
        Snooze(float("inf")),  # type: ignore[arg-type]
    ],
)
async def test_absurd_delays_are_bounded(raised: Exception) -> None:
    seen: list[int] = []

    async def handler(job: Job, payload: dict[str, Any]) -> None:
        seen.append(1)
        if len(seen) == 1:
            raise raised

    async with EngineHarness(registry_of(handler)) as engine:
        job_id = engine.add("work")
        await engine.drain()

        assert job_id in engine.done()
