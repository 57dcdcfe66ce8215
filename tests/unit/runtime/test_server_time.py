"""Engines whose clock is off: the server's time counts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine import Exponential, Job, Registry
from engine.testing import EngineHarness, ManualClock, ServerModel
from schemas.stats import Beat
from tests.support.engines import QUEUE

HOUR_MS = 3_600_000


def registry() -> Registry:
    found = Registry()

    @found.job("work", queue=QUEUE, retry=Exponential(attempts=2, base_s=1, jitter=0))
    async def work(job: Job, payload: dict[str, Any]) -> None:
        if payload.get("fails") and job.attempt == 1:
            raise ValueError("once")

    return found


@pytest.mark.parametrize("ahead_ms", [-HOUR_MS, 0, HOUR_MS])
async def test_nothing_expires_early_or_waits_for_long_where_an_engines_clock_is_off(
    ahead_ms: int,
) -> None:
    clock = ManualClock()
    model = ServerModel(clock.now_ms)
    model.step(ahead_ms)
    async with EngineHarness(registry(), clock=clock, model=model) as engine:
        lasting = engine.add("work", ttl=60_000)
        retried = engine.add("work", {"fails": True})
        delayed = engine.add("work", delay=2_000)
        late = engine.add("work", delay=2_000, ttl=1_000)
        await engine.advance(3)

        assert engine.done().keys() == {lasting, retried, delayed}
        dead = engine.dead()[late]
        assert dead.reason == "expired"
        assert 2_000 <= dead.died_ms - dead.enqueued_ms < 2_200
        beat = msgspec.json.decode(model.engines["engine-1"][0], type=Beat)
        assert abs(beat.beat_ms - model.now_ms()) < 3_000
        assert beat.started_ms <= beat.beat_ms
