"""What an engine tells of its queues by the minute."""

from __future__ import annotations

from typing import Any

from engine import Job, Registry
from engine.core.numbers import merged, read_minutes, summed
from engine.errors import StoreRefused, StoreUnavailable
from engine.runtime.numbers import Book
from engine.store.numbers import LATE_MS
from engine.telemetry import QueueMeter
from engine.testing import EngineHarness, ManualClock, MemoryStore
from schemas.numbers import MINUTE_MS, QUARTER_MS, Levels, Numbers
from schemas.rules import LANES
from tests.support.engines import NO_WAIT, QUEUE


class Desk:
    """A book over a queue in memory, whose store fails when told."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore.on(self.clock)
        self.queue = self.store.model.queue(QUEUE)
        self.meter = QueueMeter(["t"], LANES)
        self.book = Book(self.store, QUEUE, self.clock, self.meter)
        self.faults: list[tuple[str, Exception]] = []
        self.store.faults = self._fail

    def _fail(self, _verb: str, moment: str) -> None:
        if self.faults and self.faults[0][0] == moment:
            raise self.faults.pop(0)[1]

    def minutes(self) -> dict[int, Numbers]:
        found: dict[int, Numbers] = {}
        for fields in self.queue.minutes.values():
            found |= read_minutes({name.encode(): value for name, value in fields.items()})
        return found

    def total(self) -> Numbers:
        return merged(self.minutes().values()) or Numbers()


async def test_only_what_is_new_is_told() -> None:
    desk = Desk()
    desk.meter.of("t").run.observe(0.002)
    desk.meter.wait["low"].observe(20)
    await desk.book.write()
    desk.meter.of("t").run.observe(0.003)
    desk.meter.of("strange").run.observe(400)
    await desk.book.write()
    await desk.book.write()

    assert desk.total().run == {"t": [0, 2], "other": [0] * 15 + [1]}
    assert desk.total().wait == {"low": [0] * 12 + [1]}
    (hour,) = desk.queue.minutes.values()
    assert hour["@engine-1"] == b"2"


async def test_what_may_have_been_told_is_not_told_twice() -> None:
    desk = Desk()
    for moment in ("before", "after"):
        desk.meter.of("t").run.observe(0.002)
        desk.faults.append((moment, StoreUnavailable("timeout", "no answer")))
        try:
            await desk.book.write()
        except StoreUnavailable:
            desk.meter.of("t").run.observe(0.002)
        await desk.book.write()

    assert desk.total().run == {"t": [0, 4]}


async def test_a_server_that_is_full_is_told_later() -> None:
    desk = Desk()
    desk.meter.of("t").run.observe(0.002)
    desk.faults += [("before", StoreRefused("oom", "full")) for _ in range(2)]
    await desk.book.write()
    desk.meter.of("t").run.observe(0.002)
    await desk.book.write()
    assert desk.total() == Numbers()

    await desk.book.write()

    assert desk.total().run == {"t": [0, 2]}


async def test_what_the_queue_holds_is_told_now_and_then_at_rest() -> None:
    desk = Desk()
    told = []
    for _ in range(12):
        desk.book.note(await desk.store.gauges(QUEUE, []))
        before = desk.book._sequence
        await desk.book.write()
        told.append(desk.book._sequence > before)
        await desk.clock.advance(Book.PAUSE_S)

    assert told == [True, False, False] * 4
    assert desk.total().last == Levels()


async def test_quarters_are_summed_up_once_they_are_over() -> None:
    desk = Desk()
    await desk.clock.advance((QUARTER_MS - desk.clock.now_ms() % QUARTER_MS) / 1e3 + 60)
    quarter = desk.clock.now_ms() // QUARTER_MS
    desk.meter.of("t").run.observe(0.002)
    await desk.book.write()
    await desk.book.sum_up()
    key = desk.queue.keys.quarters(desk.clock.now_ms())
    assert quarter not in desk.queue.quarters.get(key, {})

    await desk.clock.advance((QUARTER_MS - MINUTE_MS + LATE_MS) / 1e3)
    await desk.book.sum_up()

    assert b'"run":{"t":[0,1]}' in desk.queue.quarters[key][quarter]


async def test_an_engine_tells_what_its_metrics_tell() -> None:
    """Goal: the charts and /metrics are of one mind, over retries, deaths and the engine's stop."""
    registry = Registry()

    @registry.job("t", queue=QUEUE, retry=NO_WAIT)
    async def fail_some(job: Job, payload: dict[str, Any]) -> None:
        if payload["n"] % 3 == 0:
            raise ValueError("no")

    harness = EngineHarness(registry, concurrency=5)
    async with harness:
        for number in range(60):
            harness.add("t", {"n": number}, lane=LANES[number % 4])
        await harness.drain()
    meter = harness.engine.meters.queues[QUEUE]
    queue = harness.model.queue(QUEUE)
    fields = {
        name.encode(): value for hour in queue.minutes.values() for name, value in hour.items()
    }
    told = merged(read_minutes(fields).values()) or Numbers()

    kind = meter.types["t"]
    ended = {outcome: told.total(outcome) for outcome in ("done", "retried", "dead")}
    assert ended == {"done": kind.done, "retried": kind.retried, "dead": kind.dead}
    assert ended == {"done": 40, "retried": 40, "dead": 20}
    assert summed([told.run["t"], [0] * 16]) == kind.run.counts
    assert sum(kind.run.counts) >= 40
    for lane, each in meter.wait.items():
        assert summed([told.wait[lane], [0] * 16]) == each.counts
    assert sum(told.deaths.values()) == 20
