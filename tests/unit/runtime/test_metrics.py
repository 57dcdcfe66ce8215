"""What an engine's metrics tell beyond counts: holds, workers, signs of life, the server."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from engine import Job, Registry
from engine.errors import StoreUnavailable
from engine.telemetry import EngineCollector
from engine.testing import EngineHarness
from tests.support.engines import QUEUE


def registry() -> Registry:
    made = Registry()

    async def work(job: Job, payload: dict[str, Any]) -> None:
        return None

    made.job("mail", queue=QUEUE)(work)
    made.job("push", queue=QUEUE)(work)
    return made


class Scrape:
    """Reads an engine's metrics as Prometheus does."""

    def __init__(self, harness: EngineHarness) -> None:
        self._metrics = CollectorRegistry(auto_describe=False)
        self._metrics.register(EngineCollector(harness.engine.meters, "0"))

    def __call__(self, name: str, **labels: str) -> float | None:
        return self._metrics.get_sample_value(name, labels)


async def test_a_held_type_is_told_by_name_and_for_as_long() -> None:
    async with EngineHarness(registry()) as engine:
        value = Scrape(engine)
        control = engine.model.queue(QUEUE).control_hash
        control["hold:mail"] = "by hand"
        await engine.advance(1)
        names = ("mail", "push", "other")
        held = {name: value("engine_type_held", queue=QUEUE, type=name) for name in names}
        del control["hold:mail"]
        await engine.advance(1)
        after = value("engine_type_held", queue=QUEUE, type="mail")

    assert held == {"mail": 1, "push": 0, "other": None}
    assert after == 0


async def test_the_concurrency_is_that_which_is_set_live() -> None:
    async with EngineHarness(registry()) as engine:
        value = Scrape(engine)
        await engine.advance(1)
        first = value("engine_concurrency", queue=QUEUE)
        engine.model.queue(QUEUE).control_hash["concurrency"] = "7"
        await engine.advance(1)

        assert first == engine.engine.settings.concurrency
        assert value("engine_concurrency", queue=QUEUE) == 7


async def test_the_last_sign_of_life_is_the_last_one_that_the_server_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(name: str, beat: bytes) -> None:
        raise StoreUnavailable("connection", "gone")

    async with EngineHarness(registry()) as engine:
        value = Scrape(engine)
        await engine.advance(5)
        taken = value("engine_beat_timestamp_seconds")
        assert taken is not None
        assert engine.clock.now_ms() / 1e3 - taken <= 2

        monkeypatch.setattr(engine.engine.vitals._store, "beat", refuse)
        await engine.advance(10)
        kept = value("engine_beat_timestamp_seconds")
        assert kept is not None
        assert engine.clock.now_ms() / 1e3 - kept >= 10


async def test_the_server_s_memory_is_told_as_last_seen() -> None:
    async with EngineHarness(registry()) as engine:
        value = Scrape(engine)
        engine.model.memory_bytes_max = 1_000
        await engine.advance(3)

        assert value("engine_redis_memory_bytes") == 0
        assert value("engine_redis_memory_max_bytes") == 1_000
