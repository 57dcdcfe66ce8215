"""
Events and jobs that wait to be published, committed together with their cause.

:func:`enqueue` and :func:`enqueue_many` put jobs into the caller's transaction, on any connection
of asyncpg; other languages call the SQL function ``enqueue_job``. The jobs' relay keeps its own
half in :mod:`processors.database.job_outbox`.

The events' relay claims rows for a short while in a transaction of its own, so that none spans a
call to Redis; rows that are locked or claimed by another are skipped, never waited for. Rows are
chosen by being there, not by an id above a cursor: ids are given out before commits, so a cursor
would pass over a row that commits late.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from processors.database.pool import Database
from processors.database.statements import outbox as statements

if TYPE_CHECKING:
    from processors.database.pool import BaseConnection, Connection

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


class OutboxJob(msgspec.Struct, frozen=True, kw_only=True):
    """
    A job to commit with its cause.

    Attributes:
        type: The job's type.
        data: Its payload: a msgspec struct, a dict, a dataclass.
        queue: Its queue.
        lane: ``critical``, ``high``, ``normal`` or ``low``.
        id: Its id; left out, one of its own. The same one again is a duplicate.
        delay_ms: Not before so many ms from the start of the transaction.
        ttl_ms: Ends dead as expired if it has not started so many ms from then.
        key: Ordering key.
    """

    type: str
    data: Any
    queue: str
    lane: str = "normal"
    id: str | None = None
    delay_ms: int | None = None
    ttl_ms: int | None = None
    key: str | None = None

    def row(self) -> tuple[Any, ...]:
        """Return the arguments of ``enqueue_job``."""
        data = msgspec.json.encode(self.data).decode()
        lane, delay_ms, ttl_ms = self.lane, self.delay_ms, self.ttl_ms
        return (self.queue, self.type, data, lane, self.id, delay_ms, ttl_ms, self.key)


async def enqueue(
    connection: Connection | BaseConnection,
    job_type: str,
    data: Any,
    *,
    queue: str,
    lane: str = "normal",
    id: str | None = None,  # noqa: A002 - the name of the wire
    delay_ms: int | None = None,
    ttl_ms: int | None = None,
    key: str | None = None,
) -> str:
    """
    Add a job to the caller's transaction, and return its id; :class:`OutboxJob` has the arguments.

    Raises:
        asyncpg.InvalidParameterValueError: It breaks a rule of the wire.
    """
    job = OutboxJob(
        type=job_type,
        data=data,
        queue=queue,
        lane=lane,
        id=id,
        delay_ms=delay_ms,
        ttl_ms=ttl_ms,
        key=key,
    )
    row = await connection.fetchrow(statements.ENQUEUE, *job.row())
    assert row is not None
    return str(row["id"])


async def enqueue_many(
    connection: Connection | BaseConnection, jobs: Sequence[OutboxJob]
) -> list[str]:
    """
    Add jobs to the caller's transaction with one statement, and return their ids in order.

    Raises:
        asyncpg.InvalidParameterValueError: One of them breaks a rule of the wire; none is added.
    """
    if not jobs:
        return []
    columns = zip(*(job.row() for job in jobs), strict=True)
    rows = await connection.fetch(statements.ENQUEUE_MANY, *map(list, columns))
    return [row["id"] for row in rows]
