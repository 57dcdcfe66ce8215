"""
Events that wait to be published, committed together with their cause.

A relay claims rows for a short while in a transaction of its own, so that none spans a call to
Redis; rows that are locked or claimed by another are skipped, never waited for. Rows are chosen by
being there, not by an id above a cursor: ids are given out before commits, so a cursor would pass
over a row that commits late.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from processors.database.pool import Database
from processors.database.statements import outbox as statements

if TYPE_CHECKING:
    from processors.database.pool import Connection

CHANNELS: Final = {"conversation": "conv:{%s}", "user": "user:{%s}"}
"""Pub/sub channel by topic; the braces keep one conversation's channel on one cluster shard."""


class Event(NamedTuple):
    """
    One event to publish.

    Attributes:
        id: Its row.
        channel: The pub/sub channel.
        payload: JSON text.
    """

    id: int
    channel: str
    payload: str


def channel(topic: str, key: str) -> str:
    """Name the pub/sub channel of a topic and key."""
    return CHANNELS[topic] % key


async def claim(database: Database, *, events_max: int, claim_ms: int) -> list[Event]:
    """Take the oldest free events for a while; they are the caller's to delete or release."""
    rows = await database.fetch(statements.CLAIM, list(CHANNELS), events_max, claim_ms)
    events = [Event(row["id"], channel(row["topic"], row["key"]), row["payload"]) for row in rows]
    return sorted(events)


async def delete(database: Database, ids: Sequence[int]) -> None:
    """Remove events that were published."""
    await database.execute(statements.DELETE, ids)


async def release(database: Database, ids: Sequence[int]) -> None:
    """Give events back that could not be published, so that any relay may take them at once."""
    await database.execute(statements.RELEASE, ids)


async def insert(connection: Connection, topic: str, key: str, payload: Any) -> None:
    """Add an event to the transaction of its cause."""
    assert topic in CHANNELS
    await connection.execute(statements.INSERT, topic, key, payload)
