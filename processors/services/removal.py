"""
Removal of message rows with all that hangs on them, in one transaction with its ledger.

Attachments are let go, not deleted: one that another message holds stays, and the keys of those
that nothing holds any more go into the ledger of objects to delete.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from processors.database import outbox
from processors.database.outbox import OutboxJob
from processors.database.statements import attachments, retention
from schemas.messages import DeleteIndexed
from schemas.messages.common import MESSAGES_MAX

if TYPE_CHECKING:
    import asyncpg

    from processors.database.pool import Connection

INDEXING = "indexing"
DELIVERIES_MAX = 20_000
"""Delivery rows that go with the messages of one transaction, but for a single message's."""


class Removed(NamedTuple):
    """
    What one transaction removed.

    Attributes:
        messages: Messages.
        attachments: Attachments that nothing holds any more.
        objects: Their objects, to be deleted.
    """

    messages: int
    attachments: int
    objects: int


def light(rows: Sequence[asyncpg.Record]) -> Sequence[asyncpg.Record]:
    """Take as many messages as have few enough delivery rows together, at least one."""
    deliveries = 0
    for at, row in enumerate(rows):
        deliveries += row["n_recipients"] or 0
        if at and deliveries > DELIVERIES_MAX:
            return rows[:at]
    return rows


async def remove_messages(connection: Connection, ids: Sequence[UUID], now: datetime) -> Removed:
    """
    Remove messages, except those that somebody else has in hand or that have notifications.

    Rows are locked before any is deleted, deliveries before messages as everywhere, and nobody is
    waited for.
    """
    rows = await connection.fetch(retention.LOCK, ids)
    free = [row["id"] for row in rows]
    if not free:
        return Removed(0, 0, 0)
    gone, objects = await let_go(connection, free, now)
    row = await connection.fetchrow(retention.REMOVE, free)
    assert row is not None
    return Removed(row["removed"], gone, objects)


async def let_go(
    connection: Connection, messages: Sequence[UUID], now: datetime
) -> tuple[int, int]:
    """
    Take the attachments from messages.

    Returns:
        Attachments that nothing holds any more, which are gone, and their objects.
    """
    rows = await connection.fetch(attachments.DETACH, messages)
    return await release(connection, {row["attachment_id"] for row in rows}, now)


async def unindex(connection: Connection, messages: Sequence[UUID]) -> None:
    """Have messages taken out of an index that is not in the database; jobs do it."""
    await outbox.enqueue_many(
        connection,
        [
            OutboxJob(
                type=INDEXING,
                queue=INDEXING,
                lane="low",
                data=DeleteIndexed(message_ids=tuple(messages[start : start + MESSAGES_MAX])),
            )
            for start in range(0, len(messages), MESSAGES_MAX)
        ],
    )


async def release(
    connection: Connection, attachment_ids: set[UUID], now: datetime
) -> tuple[int, int]:
    """Remove those attachments that no message holds, and write their objects into the ledger."""
    if not attachment_ids:
        return 0, 0
    ids = sorted(attachment_ids)
    await connection.execute(attachments.LOCK, ids)
    row = await connection.fetchrow(attachments.RELEASE, ids, now)
    assert row is not None
    return row["attachments"], row["objects"]
