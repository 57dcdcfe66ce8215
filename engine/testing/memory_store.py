"""The engine's verbs over the model: no server, no sockets, no waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypeVar

from engine.clock import Clock
from engine.core.pressure import Bounds
from engine.store.base import (
    Batch,
    Control,
    Fetched,
    Gauges,
    Lease,
    Promoted,
    Reclaimed,
    ServerState,
    Settlement,
    Summoned,
)
from engine.store.marks import Links, Mark, Marks
from engine.store.numbers import Tally
from engine.store.pressure import Pressure
from engine.store.schedule_base import ScheduleAnswer, ScheduleChange
from engine.testing.clock import ManualClock
from engine.testing.events import Added, Event, Flushed
from engine.testing.flows_memory import FlowMemory
from engine.testing.memory_gates import MemoryGates
from engine.testing.model import ServerModel
from engine.testing.queue_model import QueueModel
from engine.testing.streams import Delivery
from engine.wire.keys import STREAMS

Answer = TypeVar("Answer")
Moment = Literal["before", "after"]
Faults = Callable[[str, Moment], None]
"""Called with a verb's name before and after it is applied; what it raises, the verb raises."""

ENGINE_FORGOTTEN_MS = 60_000


class MemoryStore(FlowMemory, MemoryGates):
    """
    An :class:`engine.store.base.Store` for tests.

    Args:
        model: The server, shared by the stores of several engines.
        clock: Where leases get their times from; give the model the same one (:meth:`on`).
        consumer: This engine's consumer name.
        faults: Raises on purpose, for tests of outages.
    """

    def __init__(
        self,
        model: ServerModel,
        clock: Clock,
        *,
        consumer: str = "engine-1",
        faults: Faults | None = None,
    ) -> None:
        self.model = model
        self.clock = clock
        self.consumer = consumer
        self.faults = faults
        self.closed = False
        self._marks = Marks()
        self._breaks = 0

    @classmethod
    def on(cls, clock: ManualClock, *, consumer: str = "engine-1") -> MemoryStore:
        """Make a store over a new model, both going by one manual clock."""
        return cls(ServerModel(clock.now_ms), clock, consumer=consumer)

    async def open(self, queue: str) -> None:
        """See :meth:`engine.store.base.Store.open`."""
        await self._apply("open", self._queue(queue).open)

    async def fetch(self, queue: str, counts: Mapping[str, int]) -> Fetched:
        """See :meth:`engine.store.base.Store.fetch`."""
        since = self.clock.monotonic()
        model = self._queue(queue)
        marks = self._marks_of(queue)
        taken, waiting = await self._apply("fetch", lambda: model.fetch(self.consumer, counts))
        return Fetched(leases=_leases(taken, since, marks), waiting=waiting)

    async def wait(
        self, queue: str, lanes: Sequence[str], count: int, block_ms: int
    ) -> list[Lease]:
        """See :meth:`engine.store.base.Store.wait`."""
        model = self._queue(queue)
        end = self.clock.monotonic() + block_ms / 1000

        def read() -> list[Delivery]:
            return [got for lane in lanes for got in model.read(self.consumer, lane, count)]

        since, marks = self.clock.monotonic(), self._marks_of(queue)
        taken = await self._apply("wait", read)
        while not taken and self.clock.monotonic() < end:
            await self._ring_or_sleep(queue, end - self.clock.monotonic())
            since, marks = self.clock.monotonic(), self._marks_of(queue)
            taken = await self._apply("wait", read)
        return _leases(taken, since, marks)

    def mark(self, queue: str, lane: str) -> Mark | None:
        """See :meth:`engine.store.base.Store.mark`."""
        return self._marks.of(queue, lane, self._links())

    async def settle(self, queue: str, settlement: Settlement) -> list[bytes]:
        """See :meth:`engine.store.base.Store.settle`."""
        model = self._queue(queue)
        since = self.clock.monotonic()
        links = self._links()
        if settlement.mark is not None and settlement.mark.links != links:
            settlement.mark = None
        lost = await self._apply("settle", lambda: model.settle(self.consumer, settlement))
        if links == self._links():
            self._marks.learn(queue, settlement.lane, settlement.found, links)
        for lease in settlement.handed[:1]:
            lease.batch.since = since
        return lost

    def renew(self, queue: str, lane: str, entries: Mapping[bytes, int]) -> list[bytes]:
        """See :meth:`engine.store.base.Store.renew`."""
        model = self._queue(queue)
        return self._apply_now("renew", lambda: model.renew(self.consumer, lane, entries))

    async def reclaim(self, queue: str, *, idle_ms_min: int, count: int) -> Reclaimed:
        """See :meth:`engine.store.base.Store.reclaim`."""
        since = self.clock.monotonic()
        model = self._queue(queue)
        taken, trimmed = await self._apply(
            "reclaim", lambda: model.reclaim(self.consumer, idle_ms_min=idle_ms_min, count=count)
        )
        return Reclaimed(leases=_leases(taken, since), trimmed=trimmed)

    async def recover(self, queue: str, in_hand: Mapping[str, set[bytes]]) -> list[Lease]:
        """See :meth:`engine.store.base.Store.recover`."""
        since = self.clock.monotonic()
        model = self._queue(queue)
        taken = await self._apply("recover", lambda: model.recover(self.consumer, in_hand))
        return _leases(taken, since)

    async def promote(self, queue: str, *, count: int) -> Promoted:
        """See :meth:`engine.store.base.Store.promote`."""
        return await self._apply("promote", lambda: self._queue(queue).promote(count=count))

    async def control(self, queue: str) -> Control:
        """See :meth:`engine.store.base.Store.control`."""
        return await self._apply("control", self._queue(queue).control)

    async def summon(self, queue: str, types: Sequence[str], *, count: int) -> Summoned:
        """See :meth:`engine.store.base.Store.summon`."""
        model = self._queue(queue)
        return await self._apply("summon", lambda: model.summon(types, count=count))

    async def forget(self, queue: str, ids: Sequence[str], *, age_ms_min: int) -> int:
        """See :meth:`engine.store.base.Store.forget`."""
        model = self._queue(queue)
        return await self._apply("forget", lambda: model.forget(ids, age_ms_min=age_ms_min))

    async def schedules(self, queue: str) -> dict[bytes, bytes]:
        """See :meth:`engine.store.base.Store.schedules`."""
        return await self._apply("schedules", lambda: dict(self._queue(queue).schedules))

    async def schedule(self, queue: str, change: ScheduleChange) -> ScheduleAnswer:
        """See :meth:`engine.store.base.Store.schedule`."""
        return await self._apply("schedule", lambda: self._queue(queue).schedule(change))

    async def hold(self, queue: str, job_type: str, reason: str) -> bool:
        """See :meth:`engine.store.base.Store.hold`."""
        return await self._apply("hold", lambda: self._queue(queue).hold(job_type, reason))

    async def unhold(self, queue: str, types: Sequence[str], *, count: int) -> int:
        """See :meth:`engine.store.base.Store.unhold`."""
        return await self._apply("unhold", lambda: self._queue(queue).unhold(types, count=count))

    async def report(
        self, queue: str, progress: Mapping[str, bytes], events: Sequence[bytes]
    ) -> None:
        """See :meth:`engine.store.base.Store.report`."""
        await self._apply("report", lambda: self._queue(queue).report(progress, events))

    async def trim(self, queue: str, *, done_jobs_max: int, done_age_ms_max: int) -> int:
        """See :meth:`engine.store.base.Store.trim`."""
        model = self._queue(queue)
        return await self._apply(
            "trim",
            lambda: model.trim(done_jobs_max=done_jobs_max, done_age_ms_max=done_age_ms_max),
        )

    async def gauges(self, queue: str, types: Sequence[str]) -> Gauges:
        """See :meth:`engine.store.base.Store.gauges`."""
        return await self._apply("gauges", lambda: self._queue(queue).gauges(types))

    async def pressure(self, queue: str, types: Sequence[str]) -> Pressure:
        """See :meth:`engine.store.base.Store.pressure`."""
        return await self._apply("pressure", lambda: self._queue(queue).pressure(types))

    async def default_bounds(self, queue: str, bounds: Bounds) -> None:
        """See :meth:`engine.store.base.Store.default_bounds`."""
        await self._apply("default_bounds", lambda: self._queue(queue).default_bounds(bounds))

    async def tally(self, queue: str, tally: Tally) -> bool:
        """See :meth:`engine.store.numbers.NumberStore.tally`."""
        return await self._apply("tally", lambda: self._queue(queue).tally(self.consumer, tally))

    async def sum_up(self, queue: str, now_ms: int) -> int:
        """See :meth:`engine.store.numbers.NumberStore.sum_up`."""
        return await self._apply("sum_up", lambda: self._queue(queue).sum_up(now_ms))

    async def server(self) -> ServerState:
        """See :meth:`engine.store.base.Store.server`."""
        return await self._apply("server", self.model.state)

    async def beat(self, name: str, beat: bytes) -> None:
        """See :meth:`engine.store.base.Store.beat`."""

        def apply() -> None:
            now_ms = self.model.now_ms()
            engines = self.model.engines
            engines[name] = (beat, now_ms)
            for other, (_, seen_ms) in list(engines.items()):
                if now_ms - seen_ms > ENGINE_FORGOTTEN_MS:
                    del engines[other]

        await self._apply("beat", apply)

    async def leave(self, name: str, queues: Sequence[str]) -> None:
        """See :meth:`engine.store.base.Store.leave`."""

        def apply() -> None:
            self.model.engines.pop(name, None)
            for queue in queues:
                for stream in self._queue(queue).streams_of():
                    self._queue(queue).drop_consumer(stream, self.consumer)

        await self._apply("leave", apply)

    async def retire(self, queue: str, *, idle_ms_min: int) -> int:
        """See :meth:`engine.store.base.Store.retire`."""
        model = self._queue(queue)
        return await self._apply("retire", lambda: model.retire(idle_ms_min=idle_ms_min))

    async def close(self) -> None:
        """See :meth:`engine.store.base.Store.close`."""
        await asyncio.sleep(0)
        self.closed = True

    def _queue(self, name: str) -> QueueModel:
        return self.model.queue(name)

    async def _apply(self, verb: str, act: Callable[[], Answer]) -> Answer:
        await asyncio.sleep(0)
        return self._apply_now(verb, act)

    def _apply_now(self, verb: str, act: Callable[[], Answer]) -> Answer:
        assert not self.closed, f"{verb} after close()"
        self._may_fail(verb, "before")
        with self.model.lock:
            answer = act()
        self._may_fail(verb, "after")
        return answer

    def _may_fail(self, verb: str, moment: Moment) -> None:
        if self.faults is None:
            return
        try:
            self.faults(verb, moment)
        except Exception:
            self._breaks += 1
            raise

    def _links(self) -> Links:
        """What changes when the store would have to connect anew."""
        return (self._breaks, self.model.starts)

    def _marks_of(self, queue: str) -> dict[str, Mark | None]:
        return {stream: self.mark(queue, stream) for stream in STREAMS}

    async def _ring_or_sleep(self, queue: str, seconds: float) -> None:
        """Wait until something is added to the queue, it is flushed, or the time is over."""
        loop = asyncio.get_running_loop()
        rung = asyncio.Event()

        def ring(event: Event) -> None:
            if isinstance(event, Added | Flushed) and event.queue == queue:
                # Events may come from another thread.
                loop.call_soon_threadsafe(rung.set)

        self.model.observers.append(ring)
        waits = {
            asyncio.ensure_future(rung.wait()),
            asyncio.ensure_future(self.clock.sleep(seconds)),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.model.observers.remove(ring)
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


def _leases(
    taken: Iterable[Delivery], since: float, marks: Mapping[str, Mark | None] | None = None
) -> list[Lease]:
    known = marks or {}
    batches: dict[str, Batch] = {}
    leases = []
    for lane, entry, fields, deliveries in taken:
        batch = batches.setdefault(lane, Batch(lane=lane, since=since, mark=known.get(lane)))
        leases.append(Lease(batch, entry, fields, deliveries))
    return leases
