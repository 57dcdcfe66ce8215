"""
Jobs of messaging from an application's code, and the handles to its queues.

Each method takes the payload as a struct of :mod:`schemas.messages` or as a mapping with the names
of the wire, judged as engines judge it, and returns the job as it was enqueued. A job that has to
be there if and only if rows are goes through :mod:`processors.database.outbox` instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from engine import Client, Enqueued, Shed
from engine.admin import Admin
from schemas.messages import DeliveryConfirmation
from schemas.stats import Change, QueueStats

Priority = Literal["critical", "high", "normal", "low"]
Payload = msgspec.Struct | Mapping[str, Any]


class MessageQueueService:
    """
    Adds jobs to the queues of messaging, and looks at, pauses and resumes these.

    All ``add_…`` methods take the same options and raise the same errors.

    Options:
        priority: The lane: ``critical``, ``high``, ``normal`` or ``low``.
        delay_ms: Not before so many ms from now.
        id: The job's id; the same one with the same payload is folded within five minutes.
        ttl_ms: Ends dead as expired if it has not started so many ms from now.
        key: Jobs of one key run one at a time, in order.

    Raises:
        JobRefused: The job breaks a rule, or the payload is not one of its type.
        QueueFull: The queue has no room.
        EnqueueError: The server did not take it; ``EnqueueUnsure`` where that is not known.

    Args:
        client: Enqueues; it knows the app's registry.
        admin: Looks at queues, and is named in the audit stream.
    """

    def __init__(self, client: Client, admin: Admin) -> None:
        self._client = client
        self._admin = admin

    async def add_message_delivery_job(self, payload: Payload, **options: Any) -> Enqueued | Shed:
        """Send a message (``SendMessage``), or record receipts (``DeliveryConfirmation``)."""
        is_receipt = isinstance(payload, DeliveryConfirmation) or (
            isinstance(payload, Mapping) and "content" not in payload and "userId" in payload
        )
        job_type = "delivery-confirmation" if is_receipt else "send-message"
        return await self._add(job_type, "message-delivery", payload, **options)

    async def add_notification_job(self, payload: Payload, **options: Any) -> Enqueued | Shed:
        """Notify users: ``NotifyEvent``, or another action of ``notification``."""
        return await self._add("notification", "notification", payload, **options)

    async def add_encryption_job(self, payload: Payload, **options: Any) -> Enqueued | Shed:
        """Encrypt, decrypt, rotate or shred: an action of ``encryption``."""
        return await self._add("encryption", "encryption", payload, **options)

    async def add_indexing_job(self, payload: Payload, **options: Any) -> Enqueued | Shed:
        """Index messages or conversations: an action of ``indexing``."""
        return await self._add("indexing", "indexing", payload, **options)

    async def add_batch_message_job(self, payload: Payload, **options: Any) -> Enqueued | Shed:
        """Begin, run or cancel a batch: ``StartBatch``, ``RunBatch``, ``CancelBatch``."""
        return await self._add("batch-message", "batch-message", payload, **options)

    async def add_cleanup_job(self, payload: Payload, **options: Any) -> Enqueued | Shed:
        """Remove what is over its time: an action of ``cleanup``."""
        return await self._add("cleanup", "cleanup", payload, **options)

    async def get_queue_metrics(self, queues: Sequence[str] = ()) -> list[QueueStats]:
        """
        Count what queues hold and what came of their jobs.

        Args:
            queues: Which; empty for those of messaging and of all running engines.

        Raises:
            StoreError: The server did not answer.
        """
        return await self._admin.queues(queues)

    async def pause_queue(self, queue: str, *, reason: str = "") -> Change:
        """
        Start nothing new in a queue, on all engines, within a second; jobs are still taken in.

        Raises:
            StoreError: The server did not answer.
        """
        return await self._admin.pause(queue, reason=reason)

    async def resume_queue(self, queue: str, *, reason: str = "") -> Change:
        """
        Undo :meth:`pause_queue`.

        Raises:
            StoreError: The server did not answer.
        """
        return await self._admin.resume(queue, reason=reason)

    async def _add(
        self,
        job_type: str,
        queue: str,
        payload: Payload,
        *,
        priority: Priority = "normal",
        delay_ms: int | None = None,
        id: str | None = None,  # noqa: A002 - the name of the wire
        ttl_ms: int | None = None,
        key: str | None = None,
    ) -> Enqueued | Shed:
        return await self._client.enqueue(
            job_type,
            payload,
            queue=queue,
            lane=priority,
            delay_ms=delay_ms,
            id=id,
            ttl_ms=ttl_ms,
            key=key,
        )
