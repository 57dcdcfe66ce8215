"""
Housekeeping: pruning of what the back end keeps for itself, and jobs that got lost on the way.

A job is lost where Redis lost it, or where its engine's queue was emptied by hand; what it was to
do still stands in the database, past its time. It is put anew under an id made of what it does and
a span of time, so that several runs put it once, and handlers look at the state before they act.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from processors.database import outbox
from processors.database.outbox import OutboxJob
from processors.database.statements import housekeeping as statements
from processors.services.cleanup_run import Run
from processors.settings.retention import RetentionSettings
from schemas.messages import DeliverNotification, FlushDigest

if TYPE_CHECKING:
    import asyncpg

NOTIFICATION = "notification"

LOST_MAX = 500
PACES_DAYS = 29
"""Longer than any throttle remembers, as its settings are bounded."""

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
            late = self._now - timedelta(seconds=self._settings.overdue_s)
            deliveries = await connection.fetch(statements.LOST_DELIVERIES, late, LOST_MAX)
            digests = await connection.fetch(statements.LOST_DIGESTS, late, LOST_MAX)
            self._run.count(deliveries_put_anew=len(deliveries), digests_put_anew=len(digests))

    async def _enqueue_lost(self) -> None:
        """Put jobs anew whose deliveries or digests are past their time."""
        if self._run.order.part > 1:
            return
        late = self._now - timedelta(seconds=self._settings.overdue_s)
        async with self._run.step() as connection:
            if self._run.record.after:
                # An attempt that was killed since has put them.
                return
            self._run.record.after = "put"
            deliveries = await connection.fetch(statements.LOST_DELIVERIES, late, LOST_MAX)
            digests = await connection.fetch(statements.LOST_DIGESTS, late, LOST_MAX)
            span = int(self._now.timestamp()) // AGAIN_S
            jobs = [_delivery(row, span) for row in deliveries]
            jobs += [_digest(row, span) for row in digests]
            await outbox.enqueue_many(connection, jobs)
            self._run.count(deliveries_put_anew=len(deliveries), digests_put_anew=len(digests))

    async def _prune(self, prune: Prune) -> bool:
        before = self._now - timedelta(days=prune.days)
        while room := self._run.room():
            async with self._run.step() as connection:
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


def _digest(row: asyncpg.Record, span: int) -> OutboxJob:
    user_id, channel, conversation_id = row["user_id"], row["channel"], row["conversation_id"]
    return OutboxJob(
        type=NOTIFICATION,
        queue=NOTIFICATION,
        data=FlushDigest(user_id=user_id, channel=channel, conversation_id=conversation_id),
        id=f"anew:{user_id}:{channel}:{conversation_id}:{span}",
    )
