"""``cleanup``: retention of messages, deleted conversations, attachments, and housekeeping."""

from __future__ import annotations

from typing import TypedDict, assert_never

from engine import EngineError, Job, Registry
from processors.errors import ConfigurationError
from processors.services.bundle import Services
from processors.settings.retention import RetentionSettings
from schemas.messages import (
    Cleanup,
    CleanupDeletedConversations,
    CleanupExpiredAttachments,
    CleanupOldMessages,
    CleanupResult,
    Housekeeping,
    ReconcileObjects,
)


class Sent(TypedDict):
    """Which job it is: an id may come again for a new one."""

    job_id: str
    sent_ms: int


async def cleanup(job: Job, payload: Cleanup, services: Services) -> CleanupResult:
    """
    Do one action, and return its statistics.

    Safe to run twice: each step commits what it did with its record under the job's id, and what
    is done already is passed over.
    """
    retention = services.retention
    sent = Sent(job_id=job.id, sent_ms=job.enqueued_ms)
    match payload:
        case CleanupOldMessages():
            return await retention.purge_messages(payload, **sent)
        case CleanupDeletedConversations():
            return await retention.purge_conversations(payload, **sent)
        case CleanupExpiredAttachments():
            return await retention.expire_attachments(payload, **sent)
        case ReconcileObjects():
            return await retention.reconcile_objects(payload, **sent)
        case Housekeeping():
            return await retention.keep_house(payload, **sent)
        case _:
            assert_never(payload)


def declare_schedules(types: Registry, settings: RetentionSettings) -> None:
    """
    Declare when cleanup runs by itself; a time that is empty or 0 is none.

    Raises:
        ConfigurationError: A cron expression or the time zone does not fit.
    """
    by_cron = {
        "messages-cleanup": (settings.messages_cron, CleanupOldMessages()),
        "objects-reconcile": (settings.reconcile_cron, ReconcileObjects()),
    }
    by_interval = {
        "conversations-cleanup": (settings.conversations_every_s, CleanupDeletedConversations()),
        "attachments-cleanup": (settings.attachments_every_s, CleanupExpiredAttachments()),
        "housekeeping": (settings.housekeeping_every_s, Housekeeping()),
    }
    try:
        for name, (cron, order) in by_cron.items():
            if cron:
                types.schedule(name, "cleanup", order, cron=cron, tz=settings.tz, lane="low")
        for name, (every_s, order) in by_interval.items():
            if every_s:
                # What one run leaves, the next finds: ticks need not be made up for.
                types.schedule(name, "cleanup", order, every_s=every_s, lane="low", catch_up="none")
    except EngineError as error:
        raise ConfigurationError(f"PROCESSORS_RETENTION_*: {error}") from error
