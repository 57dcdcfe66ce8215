"""Engines watch how full their queues are, since a bare XADD cannot be stopped."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry

from engine import Job, Registry
from engine.core.pressure import Bounds
from engine.runtime.pressure import WINDOW_S, Watch
from engine.telemetry import EngineCollector, QueueMeter
from engine.testing import EngineHarness, ManualClock, MemoryStore
from schemas.rules import LANES
from tests.support.engines import QUEUE


class Rig:
    """A watch over a queue in memory."""

    def __init__(self, defaults: Bounds | None = None, store: MemoryStore | None = None) -> None:
        self.clock = store.clock if store else ManualClock()
        assert isinstance(self.clock, ManualClock)
        self.store = store or MemoryStore.on(self.clock)
        self.queue = self.store.model.queue(QUEUE)
        self.meter = QueueMeter(["t"], LANES)
        self.watch = Watch(self.store, QUEUE, self.clock, self.meter, defaults=defaults or Bounds())

    def add(self, jobs: int) -> None:
        for _ in range(jobs):
            self.queue.add("normal", [b"type", b"t", b"data", b"{}"])

    async def measure(self, after_s: float = 0.0) -> float:
        assert isinstance(self.clock, ManualClock)
        await self.clock.advance(after_s)
        await self.watch.measure(["t"])
        return self.meter.full_ratio


async def test_the_gauges_follow_the_queue_and_its_bound() -> None:
    rig = Rig()
    rig.add(30)
    assert await rig.measure() == 0
    rig.queue.control_hash["jobs_max"] = "40"

    assert await rig.measure() == 0.75
    assert rig.meter.bytes == 30 * len(b"typetdata{}")
    rig.queue.delayed[b"a job"] = 1
    rig.queue.control_hash["bytes_max"] = "100"
    assert await rig.measure() == rig.meter.bytes / 100


async def test_settings_bound_a_queue_where_operators_set_nothing() -> None:
    rig = Rig(Bounds(jobs=100))
    rig.add(50)
    await rig.measure()
    assert await rig.measure() == 0.5
    rig.queue.control_hash["jobs_max"] = "60"
    assert await rig.measure() == 50 / 60

    # What was lost with the server is told again; what another engine told later stays.
    rig.queue.control_hash.clear()
    await rig.measure()
    assert rig.queue.control_hash == {"jobs_max_default": "100"}
    other = Rig(Bounds(jobs=200), rig.store)
    await other.measure()
    await rig.measure()
    assert rig.queue.control_hash == {"jobs_max_default": "200"}


async def test_an_engine_without_the_setting_takes_it_away() -> None:
    rig = Rig()
    rig.queue.control_hash["jobs_max_default"] = "5"
    await rig.measure()

    assert rig.queue.control_hash == {}


async def test_growth_is_that_of_the_last_minute() -> None:
    rig = Rig()
    assert rig.watch.growth() is None
    await rig.measure()
    assert rig.watch.growth() is None
    for _ in range(5):
        rig.add(4)
        await rig.measure(after_s=2)
    assert rig.watch.growth() == (2, 2 * len(b"typetdata{}"))

    for _ in range(40):
        await rig.measure(after_s=2)
    assert rig.watch.growth() == (0, 0)
    assert len(rig.watch._seen) <= WINDOW_S / 2 + 1


async def test_warnings_are_written_once_until_there_is_room_again(
    monkeypatch: Any,
) -> None:
    told: list[str] = []
    log = SimpleNamespace(warning=lambda event, **fields: told.append(event))
    monkeypatch.setattr("engine.runtime.pressure.log", log)
    rig = Rig(Bounds(jobs=10))
    for jobs in (7, 1, 1, 1, 1):
        rig.add(jobs)
        await rig.measure()
        await rig.measure()
    assert told == ["queue_filling", "queue_full"]

    rig.queue.lanes["normal"].entries.clear()
    await rig.measure()
    rig.add(8)
    await rig.measure()
    assert told == ["queue_filling", "queue_full", "queue_filling"]


async def test_an_engine_tells_metrics_and_beats() -> None:
    registry = Registry()

    @registry.job("t", queue=QUEUE)
    async def work(job: Job, payload: dict[str, Any]) -> None:
        return None

    async with EngineHarness(registry) as harness:
        harness.model.queue(QUEUE).control_hash |= {"paused": "1", "jobs_max": "4"}
        await harness.advance(1)
        for _ in range(3):
            harness.add("t", {})
        await harness.advance(5)
        metrics = CollectorRegistry(auto_describe=False)
        metrics.register(EngineCollector(harness.engine.meters, "0"))
        labels = {"queue": QUEUE}
        full = metrics.get_sample_value("engine_queue_full_ratio", labels)
        size = metrics.get_sample_value("engine_queue_bytes", labels)
        load = harness.engine.vitals.as_beat().queues[QUEUE]

    assert (full, size is not None and size > 0) == (0.75, True)
    assert load.growth_jobs_s is not None
