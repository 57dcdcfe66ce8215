"""Batch handlers whose jobs have ordering keys and limits: both hold per job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine import Job, Registry, Retry
from engine.testing import EngineHarness
from tests.support.engines import NO_WAIT, QUEUE


async def test_a_batch_has_one_job_of_a_key_and_the_next_one_waits_for_its_retry() -> None:
    calls: list[list[int]] = []
    registry = Registry()

    @registry.batch("index", queue=QUEUE, size=10, wait_ms=50, retry=NO_WAIT)
    async def index(jobs: Sequence[Job], payloads: Sequence[dict[str, Any]]) -> list[Any]:
        calls.append(sorted(payload["n"] for payload in payloads))
        return [
            Retry(0) if payload["n"] == 0 and job.attempt == 1 else None
            for job, payload in zip(jobs, payloads, strict=True)
        ]

    async with EngineHarness(registry) as engine:
        ids = [engine.add("index", {"n": n}, key=f"key-{n % 2}") for n in range(4)]
        while len(engine.done()) < len(ids):
            await engine.advance(0.05)

    assert calls[0] == [0, 1]
    assert all(len({n % 2 for n in call}) == len(call) for call in calls)
    flat = [n for call in calls for n in call]
    assert [n for n in flat if n % 2 == 0] == [0, 0, 2]
    assert [n for n in flat if n % 2 == 1] == [1, 3]


async def test_a_limit_bounds_the_jobs_of_a_batch() -> None:
    calls: list[int] = []
    registry = Registry()
    registry.limit(QUEUE, "type:index", concurrency=2)

    @registry.batch("index", queue=QUEUE, size=10, wait_ms=50)
    async def index(jobs: Sequence[Job], _payloads: Sequence[dict[str, Any]]) -> None:
        calls.append(len(jobs))

    async with EngineHarness(registry) as engine:
        ids = [engine.add("index", {"n": n}) for n in range(5)]
        while len(engine.done()) < len(ids):
            await engine.advance(0.05)

    assert sum(calls) == 5
    assert max(calls) <= 2
