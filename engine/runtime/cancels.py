"""What operators and producers cancelled, as one engine knows it, and what follows from that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.clock import Clock
from engine.core import decision as to
from engine.core import outcome as was
from engine.runtime.endings import Ending
from engine.runtime.jobs import LiveJob
from engine.store.base import Store
from engine.wire.tombstones import CANCELLED, describe, read_mark
from schemas.job import ErrorRecord, Tombstone

LOOK_AT = 200
"""Jobs that one poll looks at outside the lanes, for those that were cancelled."""

KEPT_MS = 3_600_000
"""How long a tombstone is kept whose job is nowhere to be seen."""

FORGET_MAX = 200


class Cancels:
    """
    The cancelled jobs of one queue.

    Attributes:
        known: Job id → tombstone, as of the last look.
    """

    def __init__(self) -> None:
        self.known: Mapping[str, Tombstone] = {}

    def of(self, job: LiveJob) -> Tombstone | None:
        """Return the tombstone that means this job: the one that it carries, or one that lies."""
        meta = job.envelope.meta if job.envelope is not None else None
        if meta is not None and meta.cancelled:
            return read_mark(meta.cancelled)
        tombstone = self.known.get(job.id)
        if tombstone is None or not tombstone.stops(job.enqueued_ms):
            return None
        return tombstone

    def outcome(self, job: LiveJob, *, started: bool) -> was.Cancelled | None:
        """Say how a job ends that was cancelled; None for others."""
        tombstone = self.of(job) if self.known or job.envelope is not None else None
        if tombstone is None:
            return None
        error = ErrorRecord(kind=CANCELLED, message=describe(tombstone))
        return was.Cancelled(error=error, ordered=True, started=started)

    def ended(self, successes: Sequence[LiveJob], endings: Sequence[Ending]) -> list[str]:
        """Name the jobs whose tombstones have served, since these are their ends."""
        if not self.known:
            return [each.job.id for each in endings if getattr(each.outcome, "ordered", False)]
        jobs = [*successes]
        jobs += [each.job for each in endings if isinstance(each.decision, to.DeadLetter)]
        return [job.id for job in jobs if self.of(job) is not None]


class Sweeper:
    """
    Brings cancelled jobs to their lanes, and drops the tombstones of those that are gone.

    Args:
        store: The store.
        queue: The queue.
        types: Types whose set-aside jobs are looked at.
        clock: Time.
    """

    def __init__(self, store: Store, queue: str, types: Sequence[str], clock: Clock) -> None:
        self._store = store
        self._queue = queue
        self._types = types
        self._clock = clock
        # Those known since the present round began; empty while it is not known to be a whole one.
        self._known: Mapping[str, Tombstone] = {}

    async def sweep(self, known: Mapping[str, Tombstone]) -> None:
        """Do a part of a round; without tombstones there is nothing to do."""
        if not known:
            self._known = known
            return
        looked = await self._store.summon(self._queue, self._types, count=LOOK_AT)
        if looked.ended:
            await self._forget()
            self._known = known

    async def _forget(self) -> None:
        now_ms = self._clock.now_ms()
        old = [
            job_id
            for job_id, tombstone in self._known.items()
            if not tombstone.at_ms or now_ms - tombstone.at_ms >= KEPT_MS
        ]
        if old:
            await self._store.forget(self._queue, old[:FORGET_MAX], age_ms_min=KEPT_MS)
