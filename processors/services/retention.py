"""
Retention and cleanup: what each action of a ``cleanup`` job does.

Every action may run at any time, on any number of engines, over and over: what is done is passed
over, what others have in hand is left to them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from engine import Clock
from processors.database.pool import Database
from processors.database.statements import retention as statements
from processors.rules.retention import Bounds, Kept, instant_of
from processors.services.cleanup_run import AlreadyEnded, Overtaken, Pace, Run
from processors.services.housekeeping import HousekeepingService
from processors.services.object_cleanup import ObjectCleanup
from processors.services.objects import ObjectStore
from processors.services.purge import Defaults, MessagePurge
from processors.services.purge_conversations import ConversationPurge
from processors.services.retention_plan import RetentionPlan
from processors.settings import ProcessorSettings
from schemas.messages import (
    Cleanup,
    CleanupDeletedConversations,
    CleanupExpiredAttachments,
    CleanupOldMessages,
    CleanupResult,
    Housekeeping,
    ReconcileObjects,
)

log = structlog.get_logger("processors.cleanup")


class RetentionService:
    """
    Runs cleanup jobs; each has an id, and the time when it was sent, for an id that comes again.

    Args:
        database: Where everything is but the objects.
        objects: The object store; None where none is set.
        own: The sections on retention and objects count.
        clock: The time.
        committed: Called after a commit that left something in the outbox.
    """

    def __init__(
        self,
        database: Database,
        objects: ObjectStore | None,
        own: ProcessorSettings,
        *,
        clock: Clock,
        committed: Callable[[], None],
    ) -> None:
        self._database = database
        self._objects = objects
        self._settings = settings = own.retention
        self._object_settings = own.objects
        self._index_elsewhere = bool(own.search.index)
        self._clock = clock
        self._committed = committed
        self._pace = Pace(
            rows_max=settings.job_rows_max,
            ms_max=settings.job_ms_max,
            batch_rows=settings.batch_rows,
            pause_ms=settings.pause_ms,
        )

    async def purge_messages(
        self, order: CleanupOldMessages, *, job_id: str, sent_ms: int = 0
    ) -> CleanupResult:
        """Clear messages that are older than their policy keeps them, and remove cleared rows."""
        run = self._run(order, job_id, sent_ms)
        now = instant_of(self._clock.now_ms())
        purge = MessagePurge(self._database, run, await self._defaults(order), now)
        if order.dry_run:
            complete = await RetentionPlan(run, purge, now).make(order.conversation_id)
            return await run.end(complete=complete)
        return await self._ended(run, lambda: purge.run(order.conversation_id))

    async def purge_conversations(
        self, order: CleanupDeletedConversations, *, job_id: str, sent_ms: int = 0
    ) -> CleanupResult:
        """Remove conversations that were deleted long enough ago."""
        run = self._run(order, job_id, sent_ms)
        now = instant_of(self._clock.now_ms())
        grace = (
            timedelta(hours=self._settings.conversation_grace_hours)
            if order.older_than_days is None
            else timedelta(days=order.older_than_days)
        )
        purge = ConversationPurge(
            self._database, run, now - grace, now, index_elsewhere=self._index_elsewhere
        )
        if order.dry_run:
            await purge.plan(order.conversation_id)
            return await run.end(complete=True)
        return await self._ended(run, lambda: purge.run(order.conversation_id))

    async def expire_attachments(
        self, order: CleanupExpiredAttachments, *, job_id: str, sent_ms: int = 0
    ) -> CleanupResult:
        """
        Remove uploads that no message claimed, and delete the objects that the ledger names.

        Raises:
            ServiceUnavailable: The object store cannot serve; what was done by then is recorded.
            ConfigurationError: The object store refuses.
        """
        run = self._run(order, job_id, sent_ms)
        cleanup = self._object_cleanup(run)
        if order.dry_run:
            await cleanup.plan()
            return await run.end(complete=True)

        async def all_of_it() -> bool:
            return await cleanup.expire() and await cleanup.drain()

        return await self._ended(run, all_of_it)

    async def drain_object_deletions(self, *, job_id: str, sent_ms: int = 0) -> CleanupResult:
        """Delete the objects that the ledger names; as :meth:`expire_attachments`, second half."""
        run = self._run(CleanupExpiredAttachments(), job_id, sent_ms)
        return await self._ended(run, self._object_cleanup(run).drain)

    async def reconcile_objects(
        self, order: ReconcileObjects, *, job_id: str, sent_ms: int = 0
    ) -> CleanupResult:
        """
        Compare the object store with the database, and delete objects that have no row.

        Raises:
            ServiceUnavailable: The object store cannot serve; what was done by then is recorded.
            ConfigurationError: The object store refuses.
        """
        run = self._run(order, job_id, sent_ms)
        hours = order.older_than_hours or self._object_settings.orphan_hours
        cleanup = self._object_cleanup(run)
        return await self._ended(
            run,
            lambda: cleanup.reconcile(older_than=timedelta(hours=hours), force=order.force),
        )

    async def keep_house(
        self, order: Housekeeping, *, job_id: str, sent_ms: int = 0
    ) -> CleanupResult:
        """Prune what the back end keeps for itself, and put jobs anew that got lost."""
        run = self._run(order, job_id, sent_ms)
        service = HousekeepingService(run, self._settings, instant_of(self._clock.now_ms()))
        if order.dry_run:
            await service.plan()
            return await run.end(complete=True)
        return await self._ended(run, service.run)

    async def _ended(self, run: Run, work: Callable[[], Awaitable[bool]]) -> CleanupResult:
        """Do the work, unless another run of the same job has ended it, and end the job."""
        try:
            complete = await work()
        except AlreadyEnded:
            complete = True
        except Overtaken:
            complete = False
        result = await run.end(complete=complete)
        log.info(
            "cleanup_done",
            job_id=run.job_id,
            action=result.action,
            complete=result.complete,
            dry_run=result.dry_run,
            follow_up=result.follow_up,
            **result.counts,
        )
        return result

    def _run(self, order: Cleanup, job_id: str, sent_ms: int) -> Run:
        return Run(
            self._database,
            self._clock,
            order,
            job_id=job_id,
            sent_ms=sent_ms,
            pace=self._pace,
            committed=self._committed,
        )

    def _object_cleanup(self, run: Run) -> ObjectCleanup:
        return ObjectCleanup(self._database, self._objects, self._object_settings, run, self._clock)

    async def _defaults(self, order: CleanupOldMessages) -> Defaults:
        """What holds where neither conversation nor tenant has a policy."""
        if order.older_than_days is not None:
            kept = Kept(order.older_than_days)
        else:
            row = await self._database.fetchrow(statements.DEFAULT_POLICY)
            kept = Kept(row["days"] if row is not None else self._settings.days or None)
        return Defaults(
            kept=kept,
            bounds=Bounds(self._settings.days_min, self._settings.days_max or None),
            grace=timedelta(hours=self._settings.grace_hours),
            index_elsewhere=self._index_elsewhere,
        )
