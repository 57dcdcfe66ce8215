"""``engine.testing``: one handler, and a whole engine, in memory."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine import Exponential, Job, Registry, Retry
from engine.errors import Malformed
from engine.testing import EngineHarness, FakeJob, run_handler


class Parcel(msgspec.Struct):
    weight: int


def packing() -> Registry:
    registry = Registry()

    @registry.job("pack", queue="parcels", retry=Exponential(attempts=3, base_s=10, cap_s=60))
    async def pack(job: Job, parcel: Parcel, services: Any) -> dict[str, int]:
        await job.progress(50, "half")
        if job.attempt < 2:
            raise Retry(reason="no box")
        return {"weight": parcel.weight}

    return registry


async def test_a_handler_runs_once_with_a_checked_payload() -> None:
    job = FakeJob(attempt=2, id="abc")

    result = await run_handler(packing(), "pack", {"weight": 3}, job=job)

    assert result == {"weight": 3}
    assert job.reports == [(50, "half")]


async def test_what_a_handler_raises_comes_through() -> None:
    with pytest.raises(Retry, match="no box"):
        await run_handler(packing(), "pack", {"weight": 3})


async def test_a_payload_that_does_not_fit_is_refused() -> None:
    with pytest.raises(Malformed, match="weight"):
        await run_handler(packing(), "pack", {"weight": "heavy"})


async def test_a_whole_engine_runs_a_job_over_its_retries() -> None:
    async with EngineHarness(packing()) as engine:
        job_id = engine.add("pack", {"weight": 3})
        await engine.drain()

        assert engine.done()[job_id].result == b'{"weight":3}'
        assert engine.signals.counts["retried"] == 1


async def test_time_moves_only_by_hand() -> None:
    async with EngineHarness(packing()) as engine:
        job_id = engine.add("pack", {"weight": 3}, delay=3_600_000)
        await engine.until(engine.delayed, what="the delay")
        await engine.advance(1)
        assert not engine.done()

        due_ms = engine.delayed()[0]
        await engine.drain()

        assert engine.done()[job_id].done_ms >= due_ms
