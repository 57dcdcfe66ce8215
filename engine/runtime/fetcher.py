"""
Reads the lanes of one queue within free capacity.

While jobs wait, each round trip brings exactly what each lane is due and counts what is left. When
nothing waits, one blocking read watches all lanes. A read is never cancelled: what was delivered at
that instant would lie until its lease ends.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from engine.clock import Clock
from engine.core.capacity import count_by_bytes, prefetch
from engine.core.lanes import STRICT, LanePlan
from engine.errors import GroupMissing, StoreError
from engine.failpoint import failpoint
from engine.runtime.gatekeeper import Gatekeeper
from engine.runtime.outage import Outage
from engine.runtime.settler import Settler
from engine.runtime.workers import Workers
from engine.store.base import Lease, Store
from engine.wire.keys import READY, lane_of
from schemas.rules import LANES

UNSETTLED_MAX = 4_096
"""Jobs that may wait for their settlement before fetching stops, as when the server is away."""

READ_MAX = 1_000
FIRST_READ_MAX = 64
STRICT_PEEK = 8
LOST_MAX = 100
LOST_ALWAYS = 8
SMALL = 16
"""So few jobs are better started before the next read is sent; more hide its round trip."""

SLIVER = 4
"""While settlements are under way, a read waits until a quarter of the capacity is free."""


class Fetcher:
    """
    Brings jobs to the workers of one queue.

    Args:
        store: Where from.
        queue: The queue.
        workers: Where to.
        gatekeeper: Holds jobs that wait for an answer.
        settler: Knows what is still to be settled.
        clock: Time.
        outage: Says when to try again.
        weights: Shares of the lanes below the strict one.
        prefetch_max: Most jobs that may wait in front of the workers.
        bytes_max: Bytes that one read may bring.
        block_ms: Longest wait of one blocking read.
        stopping: Tells that nothing more is to be read.

    Attributes:
        rate_per_s: Jobs that ended per second, lately.
    """

    def __init__(  # noqa: PLR0917 - the parts of one queue, always given in this order
        self,
        store: Store,
        queue: str,
        workers: Workers,
        gatekeeper: Gatekeeper,
        settler: Settler,
        clock: Clock,
        *,
        outage: Outage,
        weights: Mapping[str, int],
        prefetch_max: int,
        bytes_max: int,
        block_ms: int,
        stopping: Callable[[], bool],
    ) -> None:
        self._store = store
        self._queue = queue
        self._workers = workers
        self._gatekeeper = gatekeeper
        self._settler = settler
        self._clock = clock
        self._outage = outage
        self._where = f"reading {queue}"
        self._plan = LanePlan(weights)
        # What the queue is read from: its lanes, and where gates are used what they let through.
        self.streams: Sequence[str] = LANES
        self._prefetch_max = prefetch_max
        self._bytes_max = bytes_max
        self._block_ms = block_ms
        self._stopping = stopping
        self._room = asyncio.Event()
        self._waiting: dict[str, int] = {}
        self._buffer = min(4, prefetch_max)
        # Until sizes are known, a read brings few: a lane may hold large entries.
        self._entry_bytes = bytes_max / FIRST_READ_MAX
        self._ended = 0
        self._rated_at = clock.monotonic()
        self.rate_per_s = 0.0
        # Held by whoever asks the store for entries that are pending already, so that none is
        # taken up twice while a reply is on its way.
        self.taking = asyncio.Lock()
        self.in_doubt = False
        # What was taken up so, which the reply that brings it may still tell of.
        self._recovered: set[tuple[str, bytes]] = set()

    def poke(self) -> None:
        """Look again: a worker is free, or the queue was resumed."""
        self._room.set()

    def note_ended(self, count: int) -> None:
        """Count ended jobs, from which the size of the buffer follows."""
        self._ended += count
        if self._recovered and not self._settler.unsettled:
            # No reply is under way that could tell of them.
            self._recovered.clear()
        now = self._clock.monotonic()
        if now - self._rated_at >= 0.2:
            self.rate_per_s = self._ended / (now - self._rated_at)
            self._buffer = prefetch(self.rate_per_s, self._prefetch_max)
            self._ended, self._rated_at = 0, now

    def free(self) -> int:
        """Jobs that there is room for."""
        workers = self._workers
        held = workers.active + len(workers.todo) + self._gatekeeper.count
        return workers.limit + self._buffer - held

    @property
    def waiting(self) -> int:
        """Jobs that waited in the lanes when they were last counted."""
        return sum(self._waiting.values())

    @property
    def asking(self) -> int:
        """Jobs that wait for the gates' answer."""
        return self._gatekeeper.count

    def room_for_lost(self) -> int:
        """
        Jobs to take over from engines that are gone.

        A busy engine has no room by its own measure, yet must take some, or lost jobs would wait
        until the backlog is gone.
        """
        free = self.free()
        if free > 0:
            return min(free, LOST_MAX)
        return LOST_ALWAYS if free > -4 * LOST_ALWAYS else 0

    async def run(self, *, once: bool = False) -> None:
        """
        Read until the engine stops.

        Args:
            once: End when nothing waits, for ``--burst``.
        """
        tries = 0
        while not self._stopping():
            count = self._ready()
            if count == 0 and once and not self._workers.open:
                return
            if count == 0:
                await self._until_poked()
                continue
            failpoint("K0")
            try:
                if self.in_doubt:
                    await self._recover()
                leases = await self._read(count)
            except GroupMissing as error:
                self.in_doubt = True
                self._outage.note(error, self._where)
                tries = await self._reopen(tries)
                continue
            except StoreError as error:
                tries += 1
                self.in_doubt = True
                await self._outage.wait(error, tries, self._where)
                continue
            tries = 0
            self._outage.over(self._where)
            if leases:
                self._take(leases)
                if len(leases) < SMALL:
                    # They start at once, before time is spent on the next read.
                    await asyncio.sleep(0)
                self._note_size(leases)
            elif once and not any(self._waiting.values()):
                return
            # Or the jobs of this read would live on for as long as the next one waits.
            del leases
        await self._recover_at_last()

    async def _until_poked(self) -> None:
        if not self._workers.open:
            # Nothing is read while the queue is paused; the other loops know of outages.
            self._outage.over(self._where)
        self._room.clear()
        await self._room.wait()

    def _ready(self) -> int:
        """How many jobs to read now; 0 to wait until something changes."""
        workers, unsettled = self._workers, self._settler.unsettled
        if not workers.open or unsettled > UNSETTLED_MAX:
            return 0
        free = self.free()
        capacity = workers.limit + self._buffer
        if unsettled and free < capacity // SLIVER:
            # A read of a few would be followed by one more: let the settlement come home first.
            return 0
        return max(0, min(free, READ_MAX))

    async def _read(self, free: int) -> list[Lease]:
        count = count_by_bytes(free, self._entry_bytes, self._bytes_max)
        if any(self._waiting.values()):
            fetched = await self._store.fetch(self._queue, self._counts(count))
            self._waiting = fetched.waiting
            return fetched.leases
        streams = self.streams
        each = max(1, count // len(streams))
        leases = await self._store.wait(self._queue, streams, each, self._block_ms)
        if len(leases) >= each:
            # Lanes may have been cut short: ask them again, and count, before blocking.
            brought = Counter(lease.batch.lane for lease in leases)
            self._waiting = {stream: READ_MAX for stream in streams if brought[stream] >= each}
        return leases

    def _counts(self, count: int) -> dict[str, int]:
        """Split a budget over the streams; what gates let through goes before its lane."""
        waiting = self._waiting
        if self.streams is LANES:
            plan = {STRICT: 0, **self._plan.split(waiting, count)}
        else:
            lanes = {lane: waiting.get(lane, 0) + waiting.get(READY[lane], 0) for lane in LANES}
            plan = {STRICT: 0}
            for lane, share in self._plan.split(lanes, count).items():
                first = min(share, waiting.get(READY[lane], 0))
                plan[READY[lane]] = first
                plan[lane] = share - first
        # The counts are one round trip old: the strict lane is asked anyway.
        plan[STRICT] = max(plan[STRICT], STRICT_PEEK)
        return {stream: share for stream, share in plan.items() if share}

    def _take(self, leases: list[Lease]) -> None:
        failpoint("K1")
        if leases[0].batch is leases[-1].batch:
            self._hand_over(leases[0].batch.lane, leases)
            return
        for stream in dict.fromkeys(lease.batch.lane for lease in leases):
            self._hand_over(stream, [lease for lease in leases if lease.batch.lane == stream])

    def _hand_over(self, lane: str, leases: list[Lease]) -> None:
        if leases:
            if lane not in LANES:
                # Whatever it is asked for now, it may hold a place under a rule that is gone.
                for lease in leases:
                    lease.gated = True
            self._settler.took(lane, len(leases))
            self._workers.put(leases, first=lane_of(lane) == STRICT)

    def take_handed(self, leases: list[Lease]) -> None:
        """Run jobs that a settlement let through for this engine, before what is buffered."""
        if self._recovered:
            leases = [lease for lease in leases if _place(lease) not in self._recovered]
        if not leases:
            return
        self._settler.took(leases[0].batch.lane, len(leases))
        self._workers.put(leases, first=True)

    def room_for_handed(self) -> int:
        """Jobs to take of those that a settlement lets through."""
        return max(0, self.free()) if self._workers.open and not self._stopping() else 0

    def take_over(self, leases: list[Lease]) -> None:
        """Run jobs that came another way than by reading: reclaimed or recovered ones."""
        for lease in leases:
            # Our own expired lease may have come back to us: the earlier one counts no more.
            self._workers.lost(lease.batch.lane, {lease.entry})
            self._gatekeeper.lost(lease.batch.lane, {lease.entry})
            # The engine that had it may have asked for more than this one would.
            lease.gated = self.streams is not LANES
            self._settler.took(lease.batch.lane, 1)
        self._workers.put(leases)

    def _note_size(self, leases: list[Lease]) -> None:
        """Follow the size of entries: up at once, down slowly."""
        sample = leases[:: max(1, len(leases) // 16)]
        largest = max(sum(map(len, lease.fields)) for lease in sample)
        self._entry_bytes = max(float(largest), 0.9 * self._entry_bytes)

    async def _reopen(self, tries: int) -> int:
        """Create lanes and groups anew after a FLUSHALL or the like."""
        try:
            await self._store.open(self._queue)
        except StoreError as error:
            await self._outage.wait(error, tries + 1, self._where)
            return tries + 1
        self._waiting = {}
        if tries:
            # What was put in order is not what is missing.
            await self._clock.sleep(min(1.0, 0.05 * tries))
        return tries + 1

    async def _recover_at_last(self) -> None:
        """Before the end, take up what a lost reply brought, so that it is handed back."""
        for tries in range(1, 4):
            if not self.in_doubt:
                return
            try:
                await self._recover()
            except StoreError as error:
                await self._outage.wait(error, tries, self._where)

    async def _recover(self) -> None:
        """Take up what was delivered to this engine in replies that got lost."""
        async with self.taking:
            found = await self._store.recover(self._queue, self._in_hand())
            # A settlement may have brought some of it meanwhile, or bring it yet.
            known = self._in_hand()
            fresh = [each for each in found if each.entry not in known.get(each.batch.lane, ())]
            self._recovered.update(map(_place, fresh))
            self.take_over(fresh)
            self.in_doubt = False

    def _in_hand(self) -> dict[str, set[bytes]]:
        """Entries that this engine knows of, by stream."""
        found: dict[str, set[bytes]] = {}
        workers = self._workers
        running = [worker.job.lease for worker in workers.running() if worker.job is not None]
        asking = self._gatekeeper.leases()
        for lease in [*workers.todo, *running, *asking, *self._settler.leases()]:
            found.setdefault(lease.batch.lane, set()).add(lease.entry)
        return found


def _place(lease: Lease) -> tuple[str, bytes]:
    return lease.batch.lane, lease.entry
