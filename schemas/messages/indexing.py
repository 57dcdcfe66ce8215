"""``indexing``: one job type with several verbs, told apart by ``action``."""

from __future__ import annotations

from typing import Annotated, TypeAlias
from uuid import UUID

import msgspec

from schemas.messages.common import MESSAGES_MAX

MessageIds = Annotated[
    tuple[UUID, ...],
    msgspec.Meta(min_length=1, max_length=MESSAGES_MAX, description="At most 500 messages."),
]
Cursor = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=400,
        description="Where an earlier job of the same run stopped; set by that job.",
    ),
]


class IndexMessages(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="action",
    tag="index",
):
    """
    Bring messages into the search index as they are now.

    Attributes:
        message_ids: The messages, at most 500. What may not be found any more is taken out.
    """

    message_ids: MessageIds


class UpdateIndexed(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="action",
    tag="update",
):
    """
    Bring edited messages into the index; the same work as ``index``.

    Attributes:
        message_ids: The messages, at most 500.
    """

    message_ids: MessageIds


class DeleteIndexed(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="action",
    tag="delete",
):
    """
    Take messages out of the index.

    Attributes:
        message_ids: The messages, at most 500, whether or not they exist.
    """

    message_ids: MessageIds


class Reindex(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="action",
    tag="reindex",
):
    """
    Index all messages anew, or those of one conversation, chunk by chunk.

    Attributes:
        conversation_id: That conversation alone.
        cursor: Where to go on; each job hands it to the next one.
    """

    conversation_id: UUID | None = None
    cursor: Cursor | None = None


class AuditIndex(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="action",
    tag="audit",
):
    """
    Compare the index with the messages, all of them or those of one conversation.

    Attributes:
        conversation_id: That conversation alone.
        repair: Put right what is found.
        cursor: Where to go on; each job hands it to the next one.
    """

    conversation_id: UUID | None = None
    repair: bool = False
    cursor: Cursor | None = None


Indexing: TypeAlias = IndexMessages | UpdateIndexed | DeleteIndexed | Reindex | AuditIndex
"""Payload of ``indexing``."""


class IndexResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Result of ``index`` and ``update``.

    Attributes:
        indexed: Messages that are in the index as they are now.
        written: Those of them whose entry changed by this job.
        removed: Entries taken out, of messages that may not be found any more.
        skipped: Messages that are not searchable: unknown, deleted, changed meanwhile, or in a
            conversation that is not searched.
        undecryptable: Messages that could not be decrypted.
    """

    indexed: int = 0
    written: int = 0
    removed: int = 0
    skipped: int = 0
    undecryptable: int = 0


class UnindexResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Result of ``delete``.

    Attributes:
        removed: Entries taken out.
    """

    removed: int


class ReindexResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Result of ``reindex``: the sums of the run so far.

    Attributes:
        messages: Messages looked at.
        written: Entries that changed.
        removed: Entries taken out.
        undecryptable: Messages that could not be decrypted.
        next_job_id: The job that goes on; null once the run is complete.
    """

    messages: int
    written: int
    removed: int
    undecryptable: int
    next_job_id: str | None


class AuditResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Result of ``audit``: the sums of the run so far.

    Attributes:
        messages: Messages looked at.
        missing: Messages without an entry.
        stale: Entries of another version or language than the message has now.
        superfluous: Entries of messages that may not be found.
        misplaced: Entries of the wrong kind, such as words of a conversation that is encrypted.
        repaired: Entries put right.
        next_job_id: The job that goes on; null once the run is complete.
    """

    messages: int
    missing: int
    stale: int
    superfluous: int
    misplaced: int
    repaired: int
    next_job_id: str | None
