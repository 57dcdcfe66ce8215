"""
One run of a cleanup job: what it has done so far, how much more it may do, and what follows it.

The record is the job's inbox row, written in the transaction of each step. So a run that is killed
and begun anew goes on from what was committed, a job that is delivered twice does its work once,
also with a limit on rows, and the statistics count each row once.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from engine import Clock
from processors.database import outbox
from processors.database.pool import Database
from processors.database.statements import cleanup as statements
from processors.rules.retention import instant_of
from schemas.messages import Cleanup, CleanupResult, PolicyCount

if TYPE_CHECKING:
    from processors.database.pool import Connection

HANDLER = "cleanup"
QUEUE = "cleanup"
ID_CHARS_MAX = 120
"""Longest part of a job's id that those after it share."""
SAMPLES_MAX = 100
CAMEL = re.compile(r"_([a-z])")


class Pace(NamedTuple):
    """
    How much one job does before it leaves the rest to the next.

    Attributes:
        rows_max: Rows, at most.
        ms_max: Time, at most, but for the step under way.
        batch_rows: Rows of one transaction, at most.
        pause_ms: Rest between two transactions.
    """

    rows_max: int
    ms_max: int
    batch_rows: int
    pause_ms: int


class Record(msgspec.Struct, kw_only=True):
    """
    What a job has done so far.

    Attributes:
        counts: Rows and objects by what was done with them.
        changed: Rows that count towards the job's limit.
        after: Where it came to.
        samples: Findings.
        result: What it ended with, once it has.
    """

    counts: dict[str, int] = {}
    changed: int = 0
    after: str = ""
    samples: dict[str, list[str]] = {}
    result: CleanupResult | None = None


class AlreadyEnded(Exception):
    """The same job has ended in another run."""


class Overtaken(Exception):
    """Another run of the same job has taken the rows that were left of its limit."""


class Run:
    """
    One attempt of a cleanup job.

    Args:
        database: Where the work and its record are.
        clock: Measures the attempt.
        order: What was asked for.
        job_id: The job's id, the same over all attempts.
        sent_ms: When it was sent: an id may come again for a new job, such as one a night.
        pace: How much it does.
        committed: Called after a commit that left something in the outbox.

    Attributes:
        record: As of the last step.
        policies: What a dry run found.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        order: Cleanup,
        *,
        job_id: str,
        sent_ms: int,
        pace: Pace,
        committed: Callable[[], None],
    ) -> None:
        self.order = order
        self.job_id = job_id
        self.pace = pace
        self.record = Record(after=getattr(order, "after", ""))
        self.policies: tuple[PolicyCount, ...] = ()
        self._record_id = f"{job_id}@{sent_ms}" if sent_ms else job_id
        self._database = database
        self._clock = clock
        self._committed = committed
        self._limit: int | None = getattr(order, "rows_max", None)
        self._began_s = clock.monotonic()
        self._changed_here = 0

    @asynccontextmanager
    async def step(self, room: int = 0) -> AsyncIterator[Connection]:
        """
        Open the transaction of one step, and write what was counted in it with the effects.

        In a dry run nothing can be written.

        Args:
            room: Rows that it may change; see :meth:`room`.

        Raises:
            AlreadyEnded: Nothing is left to do.
            Overtaken: Another run of the same job has changed so many rows meanwhile that the
                limit would not hold.
        """
        if self.order.dry_run:
            async with self._database.transaction() as connection:
                await connection.execute(statements.READ_ONLY)
                yield connection
            return
        async with self._database.transaction() as connection:
            now = instant_of(self._clock.now_ms())
            row = await connection.fetchrow(statements.OPEN, HANDLER, self._record_id, now)
            assert row is not None
            # What a step counted that was undone is forgotten with it.
            self.record = (
                Record(after=getattr(self.order, "after", ""))
                if row["result"] is None
                else msgspec.convert(row["result"], Record)
            )
            if self.record.result is not None:
                raise AlreadyEnded
            if self._limit is not None and self.record.changed + room > self._limit:
                raise Overtaken
            before = self.record.changed
            yield connection
            await connection.execute(statements.WRITE, HANDLER, self._record_id, self.record)
        self._changed_here += self.record.changed - before

    def count(self, **numbers: int) -> None:
        """Add to the statistics; on the wire their names are camelCase."""
        for name, number in numbers.items():
            if number:
                shown = CAMEL.sub(lambda match: match[1].upper(), name)
                self.record.counts[shown] = self.record.counts.get(shown, 0) + number

    def changed(self, rows: int) -> None:
        """Count rows towards the job's limit."""
        self.record.changed += rows

    def sample(self, name: str, values: list[str]) -> None:
        """Keep some names of a finding."""
        if values:
            kept = self.record.samples.setdefault(name, [])
            kept.extend(values[: SAMPLES_MAX - len(kept)])

    def room(self) -> int:
        """How many rows the next step may change; 0 where this job has done its part."""
        if (self._clock.monotonic() - self._began_s) * 1000 >= self.pace.ms_max:
            return 0
        rooms = [self.pace.batch_rows, self.pace.rows_max - self._changed_here]
        if self._limit is not None:
            rooms.append(self._limit - self.record.changed)
        return max(0, min(rooms))

    async def rest(self) -> None:
        """Leave the database to others for a moment."""
        if self.pace.pause_ms:
            await self._clock.sleep(self.pace.pause_ms / 1000)

    async def end(self, *, complete: bool) -> CleanupResult:
        """End the job; where it is not complete and no limit was met, a further one goes on."""
        try:
            async with self.step() as connection:
                following = None if complete else self._following()
                self.record.result = self._result(complete, following)
                if following is not None and not self.order.dry_run:
                    await outbox.enqueue(
                        connection,
                        "cleanup",
                        following,
                        queue=QUEUE,
                        lane="low",
                        id=self.record.result.follow_up,
                    )
        except AlreadyEnded:
            pass
        else:
            self._committed()
        assert self.record.result is not None
        return self.record.result

    def _following(self) -> Cleanup | None:
        """The order of the job that goes on, or None where the limit is met."""
        changes: dict[str, object] = {"part": self.order.part + 1}
        if hasattr(self.order, "after"):
            changes["after"] = self.record.after
        if self._limit is not None:
            if self.record.changed >= self._limit:
                return None
            changes["rows_max"] = self._limit - self.record.changed
        return msgspec.structs.replace(self.order, **changes)

    def _result(self, complete: bool, following: Cleanup | None) -> CleanupResult:
        follow_up = None
        if following is not None and not self.order.dry_run:
            own = f"~{self.order.part}" if self.order.part > 1 else ""
            follow_up = f"{self.job_id.removesuffix(own)[:ID_CHARS_MAX]}~{following.part}"
        config = type(self.order).__struct_config__
        return CleanupResult(
            action=str(config.tag),
            complete=complete,
            dry_run=self.order.dry_run,
            follow_up=follow_up,
            counts=dict(self.record.counts),
            policies=self.policies,
            samples={name: tuple(values) for name, values in self.record.samples.items()},
        )
