"""
What one queue needs beside fetching and settling: due jobs promoted, lost ones reclaimed, orders of
operators followed, old records dropped, gauges read.

Every engine does all of it for every queue that it serves; nothing elects a leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from engine.clock import Clock
from engine.core import outcome as was
from engine.core.capacity import promotion_pause_s
from engine.core.leases import ReclaimGate
from engine.errors import GroupMissing, StoreError, StoreUnavailable
from engine.failpoint import failpoint
from engine.runtime.attempt import Admission
from engine.runtime.cancels import Sweeper
from engine.runtime.fetcher import Fetcher
from engine.runtime.flows import FlowKeeper
from engine.runtime.numbers import Book
from engine.runtime.operations import OperationDriver
from engine.runtime.outage import Outage
from engine.runtime.pressure import Watch
from engine.runtime.releasing import Releaser
from engine.runtime.reporter import QueueReporter
from engine.runtime.settler import Settled, Settler
from engine.runtime.workers import Workers
from engine.store.base import Batch, Control, Gauges, Lease, Reclaimed, Store
from engine.telemetry import QueueMeter
from engine.wire.keys import STREAMS

PROMOTE_MAX = 256
PROMOTE_PAUSE_S = 0.25
CONTROL_PAUSE_S = 0.25
GAUGES_PAUSE_S = 2.0
TRIM_PAUSE_S = 1.0
RETIRE_PAUSE_S = 60.0
RETIRE_IDLE_MS = 600_000
UNHOLD_MAX = 200


class Upkeep:
    """
    The background loops of one queue.

    Args:
        store: The store.
        queue: The queue.
        admission: Told which types are held.
        workers: Told of pauses and of the concurrency.
        fetcher: Given what was reclaimed.
        settler: Settles what is dead at once.
        reporter: Flushed.
        flows: Told whether there are any.
        watch: Measures how full the queue is.
        clock: Time and chance.
        meter: Kept current.
        outage: Told of failures.
        gate: Says from which idle time on leases may be taken over.
        look_at_server: Tells the gate of restarts and clock steps.
        concurrency: Jobs at a time where operators set nothing.
        reclaim_ms: Pause between two looks for lost jobs.
        done_jobs_max: Finished jobs to keep.
        done_age_ms_max: How long to keep them.
        stopping: Tells that nothing more is to be taken on.

    Attributes:
        driver: Told which bulk operations live; None where nobody can start one.
    """

    driver: OperationDriver | None = None

    def __init__(  # noqa: PLR0917 - the parts of one queue, always given in this order
        self,
        store: Store,
        queue: str,
        admission: Admission,
        workers: Workers,
        fetcher: Fetcher,
        settler: Settler,
        reporter: QueueReporter,
        flows: FlowKeeper,
        watch: Watch,
        clock: Clock,
        *,
        meter: QueueMeter,
        outage: Outage,
        gate: ReclaimGate,
        look_at_server: Callable[[], Awaitable[None]],
        concurrency: int,
        reclaim_ms: int,
        done_jobs_max: int,
        done_age_ms_max: int,
        stopping: Callable[[], bool],
    ) -> None:
        self._store = store
        self._queue = queue
        self._admission = admission
        self._workers = workers
        self._fetcher = fetcher
        self._settler = settler
        self._reporter = reporter
        self._flows = flows
        self.watch = watch
        self._clock = clock
        self._meter = meter
        self._outage = outage
        self._gate = gate
        self._look_at_server = look_at_server
        self._concurrency = concurrency
        self._reclaim_s = reclaim_ms / 1e3
        self._done_jobs_max = done_jobs_max
        self._done_age_ms_max = done_age_ms_max
        self._stopping = stopping
        self._due = asyncio.Event()
        self._next_due_ms = float("inf")
        self._holding: set[str] = set()
        # What is to be recorded as trimmed; it stays so while the server cannot be asked.
        self._trimmed: list[tuple[str, bytes]] = []
        self._sweeper = Sweeper(store, queue, list(admission.types), clock)
        self._releaser = Releaser(store, queue, clock, outage)
        self.book = Book(store, queue, clock, meter)

    def loops(self) -> list[Awaitable[None]]:
        """The loops, to be run in the engine's task group."""
        return [
            self._promote(),
            self._releaser.run(),
            self._every(CONTROL_PAUSE_S, self._follow),
            self._every(self._reclaim_s, self.reclaim, jitter=True),
            self._every(GAUGES_PAUSE_S, self._measure),
            self._every(TRIM_PAUSE_S, self._trim, jitter=True),
            self._every(RETIRE_PAUSE_S, self._retire, jitter=True),
            self._every(QueueReporter.PAUSE_S, self._reporter.flush),
            self._every(Book.PAUSE_S, self.book.write),
            self._every(Book.SUM_UP_PAUSE_S, self.book.sum_up),
            self._flows.run(),
        ]

    def settled(self, settled: Settled) -> None:
        """Wake the promoter where a retry is due before what it waits for."""
        due = settled.due_ms
        if due is not None and due < self._next_due_ms:
            self._next_due_ms = due
            self._due.set()

    def hold(self, job_type: str) -> None:
        """Hold a type at once here, before the store has told everybody."""
        self._holding.add(job_type)
        self._admission.follow(held=self._held_now() | self._holding)

    async def held(self, job_type: str, reason: str) -> None:
        """Tell all engines that a type is held; tries until it is told."""
        where = f"holding {job_type}"
        tries = 0
        while True:
            try:
                await self._store.hold(self._queue, job_type, reason)
            except StoreError as error:
                tries += 1
                await self._outage.wait(error, tries, where)
            else:
                self._outage.over(where)
                self._holding.discard(job_type)
                return

    async def _every(
        self, pause_s: float, verb: Callable[[], Awaitable[None]], *, jitter: bool = False
    ) -> None:
        where = f"{self._queue} {verb.__name__}"
        tries = 0
        while True:
            if not tries:
                spread = 0.5 + self._clock.draw() if jitter else 1.0
                await self._clock.sleep(pause_s * spread)
            try:
                await verb()
            except GroupMissing as error:
                # The fetcher puts the lanes in order.
                tries += 1
                await self._outage.wait(error, tries, where)
            except StoreError as error:
                tries += 1
                if isinstance(error, StoreUnavailable):
                    # The server may have been down: what it counts as idle time is not all silence.
                    self._gate.close(self._clock.monotonic() * 1e3)
                await self._outage.wait(error, tries, where)
            else:
                self._outage.over(where)
                tries = 0

    async def _promote(self) -> None:
        """Move due jobs a few ms after their time; sleep until the next one is due."""
        where = f"promoting {self._queue}"
        tries = 0
        while True:
            self._due.clear()
            began = self._clock.monotonic()
            try:
                promoted = await self._store.promote(self._queue, count=PROMOTE_MAX)
            except StoreError as error:
                tries += 1
                await self._outage.wait(error, tries, where)
                continue
            self._outage.over(where)
            tries = 0
            self._meter.promoted += promoted.moved
            if promoted.moved:
                failpoint("K10")
            if promoted.moved == PROMOTE_MAX:
                await self._clock.sleep(self._pause_s(self._clock.monotonic() - began))
                continue
            pause_s = PROMOTE_PAUSE_S
            self._next_due_ms = float("inf")
            if promoted.next_ms is not None:
                self._next_due_ms = self._clock.now_ms() + promoted.next_ms
                pause_s = min(pause_s, promoted.next_ms / 1e3)
            await self._sleep_until_due(max(pause_s, 0.001))

    def _pause_s(self, took_s: float) -> float:
        """How long to wait between two steps of promoting, the first of which took so long."""
        fetcher = self._fetcher
        pause_s = promotion_pause_s(PROMOTE_MAX, fetcher.waiting, fetcher.rate_per_s)
        return max(0.0, pause_s - took_s)

    async def _sleep_until_due(self, pause_s: float) -> None:
        """Sleep, unless something that is due earlier is settled meanwhile."""
        sleep = asyncio.ensure_future(self._clock.sleep(pause_s))
        due = asyncio.ensure_future(self._due.wait())
        try:
            await asyncio.wait({sleep, due}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            due.cancel()
        if self._due.is_set():
            # It was settled just now and may lie some ms ahead.
            ahead_s = (self._next_due_ms - self._clock.now_ms()) / 1e3
            if 0 < ahead_s < pause_s:
                self._due.clear()
                await self._sleep_until_due(ahead_s)

    async def _follow(self) -> None:
        """Do what operators set for the queue."""
        control = await self._store.control(self._queue)
        self.apply(control)
        await self._sweeper.sweep(control.cancelled)

    def apply(self, control: Control) -> None:
        """Pause, resume, change the concurrency, hold types, cancel jobs."""
        workers = self._workers
        self._meter.paused = control.paused
        self._flows.follow(control)
        if self.driver is not None:
            self.driver.follow(control.operations)
        workers.limit = control.concurrency or self._concurrency
        workers.open = not control.paused and not self._stopping()
        held = control.holds.keys() | self._holding
        self._meter.concurrency = workers.limit
        self._admission.follow(held=held, cancelled=control.cancelled, limits=control.limits)
        workers.cancel_ordered()
        self._releaser.follow(control.limits)
        if control.gates:
            self.use_gates()
        if workers.open:
            workers.pump()
            self._fetcher.poke()

    def use_gates(self) -> None:
        """Read and settle what gates let through; once used, it stays so."""
        self._settler.gates = True
        self._fetcher.streams = STREAMS
        self._releaser.use()

    async def reclaim(self) -> None:
        if not self._workers.open or self._stopping():
            return
        # Idle times lie after a restart and after a step of the clock: look before believing them.
        await self._look_at_server()
        idle_ms_min = self._gate.idle_ms_min(self._clock.monotonic() * 1e3)
        await self._bury()
        while (room := self._fetcher.room_for_lost()) > 0:
            async with self._fetcher.taking:
                try:
                    found = await self._store.reclaim(
                        self._queue, idle_ms_min=idle_ms_min, count=room
                    )
                except StoreError:
                    self._fetcher.in_doubt = True
                    raise
                if found.leases:
                    failpoint("K9")
                self._take_over(found)
            await self._bury()
            if len(found.leases) < room:
                return

    def _take_over(self, found: Reclaimed) -> None:
        fresh = [lease for lease in found.leases if lease.deliveries > 1]
        self._meter.reclaimed += len(fresh)
        self._fetcher.take_over(found.leases)
        self._trimmed += found.trimmed

    async def _bury(self) -> None:
        """Record the ends of jobs whose entries somebody deleted while they were leased."""
        known = await self._flows.fields_of(self._trimmed)
        jobs = [worker.job for worker in self._workers.running() if worker.job is not None]
        known |= {(job.stream, job.lease.entry): job.lease.fields for job in jobs}
        trimmed, self._trimmed = self._trimmed, []
        for lane, entry in trimmed:
            lease = Lease(Batch(lane=lane, since=self._clock.monotonic()), entry, [])
            self._settler.took(lane, 1)
            job = self._admission.stand_in(lease, known.get((lane, entry), ()))
            self._settler.end(job, was.Trimmed())

    async def _measure(self) -> None:
        types: Sequence[str] = list(self._admission.types)
        gauges = await self._store.gauges(self._queue, types)
        self.note_gauges(gauges)
        self.book.note(gauges)
        if set(gauges.held) - self._held_now():
            while await self._store.unhold(self._queue, types, count=UNHOLD_MAX):
                await self._clock.sleep(0)
        await self.watch.measure(types)

    def note_gauges(self, gauges: Gauges) -> None:
        """Keep what was counted for the next scrape."""
        meter = self._meter
        meter.waiting = dict(gauges.waiting)
        meter.active = sum(gauges.active.values())
        meter.behind = sum(gauges.parked.values())
        meter.delayed = gauges.delayed
        meter.held = sum(gauges.held.values())
        meter.dead = gauges.dead
        meter.flows = gauges.flows
        meter.oldest_s = gauges.oldest_ms / 1e3
        meter.inflight = self.inflight()

    def inflight(self) -> int:
        """Jobs that this engine holds now."""
        workers = self._workers
        held = workers.active + len(workers.todo) + self._settler.unsettled
        return held + self._fetcher.asking

    def _held_now(self) -> set[str]:
        return {name for name, bound in self._admission.types.items() if bound.held}

    async def _trim(self) -> None:
        while await self._store.trim(
            self._queue,
            done_jobs_max=self._done_jobs_max,
            done_age_ms_max=self._done_age_ms_max,
        ):
            await self._clock.sleep(0)

    async def _retire(self) -> None:
        await self._store.retire(self._queue, idle_ms_min=RETIRE_IDLE_MS)
