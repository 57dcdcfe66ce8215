"""``batch-message``: one message to many recipients, each in their own conversation."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec

from schemas.messages.common import Content
from schemas.messages.sending import MessageKind

RECIPIENTS_MAX = 10_000
"""Most recipients of one batch."""

Recipients = Annotated[
    tuple[UUID, ...],
    msgspec.Meta(
        min_length=1, max_length=RECIPIENTS_MAX, description="Users, repeated ones count once."
    ),
]
Rate = Annotated[
    int, msgspec.Meta(ge=1, le=100_000, description="Messages queued per second, at most.")
]


class StartBatch(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="action",
    tag="start",
):
    """
    Begin a batch: keep its recipients, and queue the job that works through them.

    Attributes:
        sender_id: The author, in the direct conversation with each recipient.
        recipient_ids: Who gets the message, 1 to 10,000.
        content: The text, at most 16 KiB of UTF-8.
        kind: What clients make of it.
        batch_id: The batch's id; left out, one that follows from the job's id. The same one again
            is the same batch; with another message or other recipients it is refused.
        rate_per_s: Messages queued per second; left out, as the settings have it.
    """

    sender_id: UUID
    recipient_ids: Recipients
    content: Content
    kind: MessageKind = MessageKind.TEXT
    batch_id: UUID | None = None
    rate_per_s: Rate | None = None


class RunBatch(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="action",
    tag="run",
):
    """
    Work through a batch until it has finished; ``start`` queues this job by itself.

    Attributes:
        batch_id: The batch.
    """

    batch_id: UUID


class CancelBatch(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="action",
    tag="cancel",
):
    """
    Send to nobody else; what has been sent stays.

    Attributes:
        batch_id: The batch.
    """

    batch_id: UUID


BatchMessage = StartBatch | RunBatch | CancelBatch
"""Payload of ``batch-message``."""


class BatchProgress(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    How far a batch is; of one that has finished, its summary.

    Attributes:
        batch_id: The batch.
        state: ``running``, ``cancelling``, ``cancelled`` or ``finished``.
        total: Recipients.
        waiting: Recipients whose message has not been queued.
        queued: Recipients whose message is queued and has not ended.
        sent: Recipients whose message is in their conversation.
        failed: Recipients who cannot get it.
        cancelled: Recipients who are not sent it, since the batch was cancelled.
        percent: How much has ended one way or the other, 0 to 100.
        errors: Failed recipients by error code.
    """

    batch_id: UUID
    state: str
    total: int
    waiting: int
    queued: int
    sent: int
    failed: int
    cancelled: int
    percent: float
    errors: dict[str, int] = {}


class BatchStarted(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Result of ``batch-message`` with the action ``start``.

    Attributes:
        batch_id: The batch.
        total: Its recipients, each counted once.
        duplicates: Recipients that were named again.
    """

    batch_id: UUID
    total: int
    duplicates: int
