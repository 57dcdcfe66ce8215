"""
Housekeeping: pruning of what the back end keeps for itself, and jobs that got lost on the way.

A job is lost where Redis lost it, where its engine's queue was emptied by hand, or where it spent
its attempts, which are few for a batch of many hours; what it was to do still stands in the
database, past its time. It is put anew under an id made of what it does and of a time, so that
several runs put it once, and handlers look at the state before they act.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from processors.database import outbox
from processors.database.outbox import OutboxJob
from processors.database.statements import housekeeping as statements
from processors.services.cleanup_run import Run
from processors.settings.retention import RetentionSettings
from schemas.messages import DeliverNotification, FlushDigest, RunBatch

if TYPE_CHECKING:
    import asyncpg

    from processors.database.pool import Connection

NOTIFICATION = "notification"

LOST_MAX = 500
PACES_DAYS = 29
"""Longer than any throttle remembers, as its settings are bounded."""

BATCH = "batch-message"
BATCH_DAYS = 3
"""A batch is taken up again for so long; what still fails then is for people to look at."""

AGAIN_S = 600
"""A job that was put anew is not put again before that."""


class Prune(NamedTuple):
    """
    One thing to prune.

    Attributes:
        name: Its name in the statistics.
        statement: Removes rows from before an instant, so many at most.
        days: Days that rows are kept; 0 for ever.
    """

    name: str
    statement: str
    days: int


class HousekeepingService:
    """
    Housekeeping for one run.

    Args:
        run: Keeps the record.
        settings: How long what is kept.
        now: The time of the run.
    """

    def __init__(self, run: Run, settings: RetentionSettings, now: datetime) -> None:
        self._run = run
        self._settings = settings
        self._now = now

    async def run(self) -> bool:
        """Do all of it, or as much as the job may; tells whether that was all."""
        await self._enqueue_lost()
        for prune in self._prunes():
            if not await self._prune(prune):
                return False
        return True

    async def plan(self) -> None:
        """Count what would be done."""
        async with self._run.step() as connection:
            for prune in self._prunes():
                row = await connection.fetchrow(
                    statements.COUNTS[prune.name], self._now - timedelta(days=prune.days)
                )
                assert row is not None
                self._run.count(**{f"{prune.name}_removed": row["count"]})
            await self._lost(connection)

    async def _enqueue_lost(self) -> None:
        """Put jobs anew whose deliveries, digests or batches are past their time."""
        if self._run.order.part > 1:
            return
        async with self._run.step() as connection:
            if self._run.record.after:
                # An attempt that was killed since has put them.
                return
            self._run.record.after = "put"
            await outbox.enqueue_many(connection, await self._lost(connection))

    async def _lost(self, connection: Connection) -> list[OutboxJob]:
        """Find what is past its time, and count it."""
        late = self._now - timedelta(seconds=self._settings.overdue_s)
        begun = self._now - timedelta(days=BATCH_DAYS)
        deliveries = await connection.fetch(statements.LOST_DELIVERIES, late, LOST_MAX)
        digests = await connection.fetch(statements.LOST_DIGESTS, late, LOST_MAX)
        batches = await connection.fetch(statements.LOST_BATCHES, late, LOST_MAX, begun)
        self._run.count(
            deliveries_put_anew=len(deliveries),
            digests_put_anew=len(digests),
            batches_put_anew=len(batches),
        )
        span = int(self._now.timestamp()) // AGAIN_S
        return [
            *(_delivery(row, span) for row in deliveries),
            *(_digest(row, span) for row in digests),
            *map(_batch, batches),
        ]

    async def _prune(self, prune: Prune) -> bool:
        before = self._now - timedelta(days=prune.days)
        while room := self._run.room():
            async with self._run.step(room) as connection:
                row = await connection.fetchrow(prune.statement, before, room)
                assert row is not None
                self._run.changed(row["removed"])
                self._run.count(**{f"{prune.name}_removed": row["removed"]})
            if not row["removed"]:
                return True
            await self._run.rest()
        return False

    def _prunes(self) -> list[Prune]:
        keep = self._settings
        read = keep.notifications_read_days
        all_of_them = [
            Prune("inbox", statements.PRUNE_INBOX, keep.inbox_days),
            Prune("outbox", statements.PRUNE_OUTBOX, keep.outbox_failed_days),
            Prune("notifications", statements.PRUNE_NOTIFICATIONS, keep.notifications_days),
            Prune("notifications_read", statements.PRUNE_READ_NOTIFICATIONS, read),
            Prune("notifications_expired", statements.PRUNE_EXPIRED_NOTIFICATIONS, read),
            Prune("paces", statements.PRUNE_PACES, PACES_DAYS),
            Prune("targets", statements.PRUNE_TARGETS, keep.targets_days),
            Prune("batches", statements.PRUNE_BATCHES, keep.batches_days),
            Prune("audit", statements.PRUNE_AUDIT, keep.audit_days),
        ]
        return [prune for prune in all_of_them if prune.days]


def _delivery(row: asyncpg.Record, span: int) -> OutboxJob:
    return OutboxJob(
        type=NOTIFICATION,
        queue=NOTIFICATION,
        data=DeliverNotification(delivery_id=row["id"]),
        id=f"anew:{row['id']}:{span}",
    )


def _batch(row: asyncpg.Record) -> OutboxJob:
    """Name it by when the batch was last worked on: until then, it is the same job."""
    return OutboxJob(
        type=BATCH,
        queue=BATCH,
        data=RunBatch(batch_id=row["id"]),
        id=f"anew:{row['id']}:{int(row['worked_at'].timestamp())}",
    )


def _digest(row: asyncpg.Record, span: int) -> OutboxJob:
    user_id, channel, conversation_id = row["user_id"], row["channel"], row["conversation_id"]
    return OutboxJob(
        type=NOTIFICATION,
        queue=NOTIFICATION,
        data=FlushDigest(user_id=user_id, channel=channel, conversation_id=conversation_id),
        id=f"anew:{user_id}:{channel}:{conversation_id}:{span}",
    )
