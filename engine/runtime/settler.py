"""
Outcomes of one loop turn → one settlement per lane.

Whatever ends while a settlement is under way waits for the next one, so batches grow with the load
and a single job is settled at once. A settlement is repeated under its number until the store
answered; only then does a job count as ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from engine.clock import Clock
from engine.core import decision as to
from engine.core import outcome as was
from engine.core.decide import decide
from engine.errors import GroupMissing, StoreError, StoreRefused
from engine.failpoint import failpoint
from engine.runtime.cancels import Cancels
from engine.runtime.endings import Ending, is_ordered, put_off, settlement_of
from engine.runtime.jobs import LiveJob
from engine.runtime.outage import Outage
from engine.runtime.results import Column, columns_of, run_us
from engine.store.base import Lease, Settlement, Store
from engine.telemetry import QueueMeter
from engine.wire.keys import lane_of

BATCH_MAX = 512
"""Larger batches save nothing more and make the server's scripts long."""

GATED_MIN = 25
GATED_MAX = 128
"""The same where ends may let other jobs through, which costs the server some ten µs each: most of
them, and how many where the last ones let many through."""

GATED_BYTES_MAX = 262_144
"""Of their entries, since those that are let through may be as large, and copying takes time."""


class Settled(msgspec.Struct, frozen=True):
    """
    What the store confirmed.

    Attributes:
        successes: Jobs that are done.
        endings: All other ends.
        lost: Leases that had gone to another engine; what became of them here is dropped.
        flows: Jobs opened flows, or ended as children of some.
        due_ms: Unix ms at which the first of those is due that were put off; None without any.
    """

    successes: Sequence[LiveJob]
    endings: Sequence[Ending]
    lost: Sequence[Lease]
    flows: bool = False
    due_ms: int | None = None


class _Lane:
    """What has ended in one lane and is not settled yet."""

    def __init__(self) -> None:
        self.successes: list[LiveJob] = []
        self.endings: list[Ending] = []
        self.vanished: dict[str, int] = {}
        self.sending: tuple[Sequence[LiveJob], Sequence[Ending]] = ((), ())
        self.sent = 0
        self.sequence = 0
        self.held = 0
        self.busy = False
        self.gated_most = GATED_MIN

    def note_moved(self, ended: int, moved: int) -> None:
        """Settle more at once while few ends let another job through."""
        most = 2 * self.gated_most if 4 * moved < ended else self.gated_most // 2
        self.gated_most = max(GATED_MIN, min(GATED_MAX, most))

    @property
    def unsettled(self) -> int:
        return len(self.successes) + len(self.endings) + self.sent


class Settler:
    """
    Settles the jobs of one queue.

    Args:
        store: Where to.
        queue: The queue.
        lanes: Its lanes.
        engine: This engine's name, for the records.
        clock: Time and chance.
        meter: Counts what was confirmed.
        outage: Says when to try again.
        kept_bytes_max: Largest entry that is kept whole when its job is dead.
        cancels: What operators cancelled.
        spawn: Runs a coroutine in the engine's task group.
        settling: Called with the jobs whose progress ends here; returns events to write first.
        on_settled: Called with what the store confirmed.
        room: How many jobs the engine would take that a settlement lets through.
        on_handed: Called with those.
        on_doubt: Called when such jobs may have been lost with a reply.
    """

    def __init__(
        self,
        store: Store,
        queue: str,
        lanes: Sequence[str],
        *,
        engine: str,
        clock: Clock,
        meter: QueueMeter,
        outage: Outage,
        kept_bytes_max: int,
        cancels: Cancels,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        settling: Callable[[Sequence[str]], list[bytes]],
        on_settled: Callable[[Settled], None],
        room: Callable[[], int],
        on_handed: Callable[[list[Lease]], None],
        on_doubt: Callable[[], None],
    ) -> None:
        self._room = room
        self._on_handed = on_handed
        self._on_doubt = on_doubt
        self._settling = settling
        self._store = store
        self._queue = queue
        self._lanes = {lane: _Lane() for lane in lanes}
        self._engine = engine
        self._clock = clock
        self._meter = meter
        self._outage = outage
        self._kept_bytes_max = kept_bytes_max
        self._cancels = cancels
        self._spawn = spawn
        self._on_settled = on_settled
        self.armed = False
        self._idle = asyncio.Event()
        self._idle.set()
        # Whether the queue's jobs have asked for gates.
        self.gates = False

    def took(self, lane: str, count: int) -> None:
        """Note that the engine holds so many more entries of a lane."""
        self._lanes[lane].held += count

    def dropped(self, lane: str, count: int) -> None:
        """Note that leases went to another engine before their jobs ended here."""
        self._lanes[lane].held -= count
        self._meter.leases_lost += count

    def gave_up(self, stream: str, count: int) -> None:
        """Note entries that left the engine unended: they wait behind a gate, or are another's."""
        self._lanes[stream].held -= count

    def vanished(self, job: LiveJob) -> None:
        """Count a delivery that was lost with its engine."""
        if self.gates:
            # What it took by `limit` before its engine died is not told by its fields.
            job.lease.gated = True
        lane = self._lanes[job.stream]
        lane.vanished[job.type] = lane.vanished.get(job.type, 0) + 1

    def successes(self, stream: str) -> list[LiveJob]:
        """
        Return the list that takes the jobs of a stream that are done.

        Whoever adds one, with its run time and its result, arms the settler afterwards: for plain
        success there is no call for each job.
        """
        return self._lanes[stream].successes

    @property
    def unsettled(self) -> int:
        """Jobs that have ended and are not confirmed."""
        return sum(lane.unsettled for lane in self._lanes.values())

    def end(self, job: LiveJob, outcome: was.Outcome, seconds: float = 0.0) -> to.Decision:
        """Decide about any other end of an attempt, and settle it."""
        now_ms = self._clock.now_ms()
        decision = decide(job, outcome, job.bound.policy, now_ms=now_ms, draw=self._clock.draw())
        if not isinstance(decision, to.RunAgain):
            ending = Ending(job, outcome, decision, now_ms, run_us(seconds))
            self._lanes[job.stream].endings.append(ending)
            if not self.armed:
                self.arm()
        return decision

    def leases(self) -> list[Lease]:
        """Leases of jobs that have ended but are not confirmed; safe to call from a thread."""
        found = []
        for lane in self._lanes.values():
            for successes, endings in ((lane.successes[:], lane.endings[:]), lane.sending):
                found += [job.lease for job in successes]
                found += [each.job.lease for each in endings]
        return found

    async def drain(self) -> None:
        """Wait until everything that ended is confirmed."""
        await self._idle.wait()

    def arm(self) -> None:
        """Settle at the end of this loop turn what has ended by then."""
        self.armed = True
        self._idle.clear()
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self.armed = False
        for name, lane in self._lanes.items():
            if not lane.busy and (lane.successes or lane.endings):
                lane.busy = True
                self._spawn(self._settle(name, lane))

    async def _settle(self, name: str, lane: _Lane) -> None:
        """Settle batch after batch of one lane until nothing is left."""
        try:
            while lane.successes or lane.endings:
                most = _fitting(lane.successes, lane.gated_most) if self.gates else BATCH_MAX
                successes = lane.successes[:most]
                del lane.successes[:most]
                room = most - len(successes)
                endings = lane.endings[:room]
                del lane.endings[:room]
                await self._send(name, lane, successes, endings)
        finally:
            lane.busy = False
            if not self.unsettled:
                self._idle.set()

    async def _send(
        self, name: str, lane: _Lane, successes: list[LiveJob], endings: list[Ending]
    ) -> None:
        lost: list[Lease] = []
        vanished, lane.vanished = lane.vanished, {}
        count = lane.sent = len(successes) + len(endings)
        told: list[bytes] = []
        flows, due_ms = False, None
        while successes or endings:
            lane.sending = (successes, endings)
            lane.sequence += 1
            columns = columns_of(successes)
            settlement = settlement_of(
                lane=name,
                engine=self._engine,
                sequence=lane.sequence,
                held=lane.held,
                successes=successes,
                columns=columns,
                endings=endings,
                lost=vanished,
                at_ms=self._clock.now_ms(),
                kept_bytes_max=self._kept_bytes_max,
                gates=self.gates,
                mark=self._store.mark(self._queue, name),
            )
            settlement.tombstones = self._cancels.ended(successes, endings)
            if settlement.leaves:
                settlement.room = self._room()
            if settlement.finished or settlement.events:
                told += self._settling(settlement.finished)
                settlement.events[:0] = told
            gone = set(await self._persist(settlement))
            lane.note_moved(len(settlement.ended), settlement.moved)
            if settlement.handed:
                self._on_handed(settlement.handed)
            flows = bool(settlement.ends or settlement.opened)
            due_ms = min((due_ms for due_ms, _ in settlement.retries), default=None)
            if not gone:
                break
            leases = [job.lease for job in (*successes, *(each.job for each in endings))]
            lost += [lease for lease in leases if lease.entry in gone]
            successes = [job for job in successes if job.lease.entry not in gone]
            endings = [each for each in endings if each.job.lease.entry not in gone]
        lane.sending = ((), ())
        lane.sent = 0
        lane.held -= count
        self._count(name, successes, columns, endings)
        self._count_lost(lost, vanished)
        self._on_settled(Settled(successes, endings, lost, flows, due_ms))

    async def _persist(self, settlement: Settlement) -> list[bytes]:
        """Send a settlement until the store answers; a lost reply is asked for again."""
        failpoint("K5")
        _fail_at("a", settlement)
        where = f"settling {self._queue} {settlement.lane}"
        tries = 0
        while True:
            try:
                lost = await self._store.settle(self._queue, settlement)
            except GroupMissing:
                # The lane is gone, and with it the job: nobody holds anything any more.
                self._outage.note(StoreError("nogroup"), where, kind="nogroup")
                self._outage.over(where)
                return settlement.ended + settlement.released
            except StoreError as error:
                tries += 1
                if settlement.room:
                    self._on_doubt()
                if isinstance(error, StoreRefused):
                    put_off(settlement)
                await self._outage.wait(error, tries, where)
            else:
                self._outage.over(where)
                failpoint("K6")
                _fail_at("b", settlement)
                return lost

    def _count(
        self,
        name: str,
        successes: Sequence[LiveJob],
        columns: Sequence[Column],
        endings: Sequence[Ending],
    ) -> None:
        for column in columns if successes else ():
            meter = column.bound.meter
            meter.done += len(column.us)
            meter.run.observe_us(column.us)
        if successes:
            _count_waits(self._meter, name, successes, self._clock.now_ms())
        for ending in endings:
            meter = ending.job.bound.meter
            word = _word(ending)
            if word:
                setattr(meter, word, getattr(meter, word) + 1)
            if word == "cancelled":
                self._meter.cancelled += 1
            if ending.run_us:
                meter.run.observe(ending.run_us / 1e6)

    def _count_lost(self, lost: Sequence[Lease], vanished: dict[str, int]) -> None:
        self._meter.leases_lost += len(lost)
        for job_type, count in vanished.items():
            self._meter.of(job_type).lost += count


def _fitting(successes: Sequence[LiveJob], most: int) -> int:
    """How many ends to settle at once where each may let another job through."""
    size = 0
    for count, job in enumerate(successes[:most]):
        size += sum(map(len, job.lease.fields))
        if size > GATED_BYTES_MAX:
            return count + 1
    return most


def _fail_at(side: str, settlement: Settlement) -> None:
    """Pass the failpoints of retries and deaths, before their settlement or after it."""
    if settlement.retries or settlement.again:
        failpoint(f"K7{side}")
    if settlement.dead:
        failpoint(f"K8{side}")
    if settlement.opened:
        failpoint(f"F1{side}")


def _word(ending: Ending) -> str:
    match ending.decision:
        case to.RetryAt(why="backoff"):
            return "retried"
        case to.RetryAt(why="snooze") | to.SetAside():
            return "snoozed"
        case to.DeadLetter():
            return "cancelled" if is_ordered(ending) else "dead"
        case to.Fold():
            return "duplicate"
    return ""


def _count_waits(meter: QueueMeter, lane: str, successes: Sequence[LiveJob], now_ms: int) -> None:
    wait = meter.wait[lane_of(lane)]
    first, last = _waited_s(successes[0], now_ms), _waited_s(successes[-1], now_ms)
    if len(successes) > 2 and wait.same_bucket(first, last):
        # Entry ids rise with time, so what lies between waited as long.
        wait.observe_same((first + last) / 2, len(successes))
    else:
        for job in successes:
            wait.observe(_waited_s(job, now_ms))


def _waited_s(job: LiveJob, now_ms: int) -> float:
    return max(0.0, (now_ms - job.entry_ms) / 1e3 - job.run_s)
