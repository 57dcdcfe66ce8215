"""
How the messages of a batch ended, as the engine tells it.

Each message's job names one stream of its batch for the answer. The engine appends to it in the
script that records the job's end, so no end is missed and none is made up, whoever dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
import redis.asyncio
from redis.exceptions import RedisError

from engine import reply_key
from processors.database.batch_rows import CANCELLED, FAILED, SENT, Mark
from processors.errors import ServiceUnavailable
from processors.rules.batches import error_code

SOCKET_S_MAX: Final = 5.0
READ_MAX: Final = 1_000
KEPT_MS: Final = 7 * 86_400_000
"""How long the answers of a batch stay that nobody works on."""

STOPPED: Final = "batch-cancelled"
"""Who takes queued messages back; stands in front of the error of a job that was cancelled so."""


class Answers(NamedTuple):
    """Ends, and the entries that told of them, which are more: some tell nothing."""

    ends: list[Mark]
    entries: list[bytes]


class BatchReplies:
    """
    Reads and removes answers.

    Args:
        client: The server of the queues.
        queue: The queue of the messages.
    """

    def __init__(self, client: redis.asyncio.Redis, queue: str) -> None:
        self._client = client
        self._queue = queue

    def key(self, batch_id: UUID) -> str:
        """Name the stream of a batch."""
        return reply_key(self._queue, f"batch-{batch_id}")

    async def read(self, batch_id: UUID) -> Answers:
        """
        Return the oldest answers.

        Raises:
            ServiceUnavailable: The server cannot be reached.
        """
        key = self.key(batch_id)
        async with _reachable(), self._client.pipeline(transaction=False) as pipe:
            pipe.xrange(key, count=READ_MAX)
            pipe.pexpire(key, KEPT_MS)
            entries, _ = await pipe.execute()
        ends = [end for _, fields in entries if (end := _end(fields)) is not None]
        return Answers(ends, [entry for entry, _ in entries])

    async def drop(self, batch_id: UUID, entries: Sequence[bytes]) -> None:
        """
        Remove answers that have been noted.

        Raises:
            ServiceUnavailable: The server cannot be reached; noting them again does no harm.
        """
        async with _reachable():
            await self._client.xdel(self.key(batch_id), *entries)

    async def forget(self, batch_id: UUID) -> None:
        """
        Remove all answers of a batch.

        Raises:
            ServiceUnavailable: The server cannot be reached.
        """
        async with _reachable():
            await self._client.delete(self.key(batch_id))


def _end(fields: dict[bytes, bytes]) -> Mark | None:
    """Read one answer; None where it tells of no end."""
    try:
        child_id = UUID(fields[b"id"].decode())
    except (KeyError, ValueError):
        return None
    if fields.get(b"outcome") == b"dead":
        reason = fields.get(b"reason", b"").decode("utf-8", "replace")
        code = error_code(reason, fields.get(b"error", b"").decode("utf-8", "replace"))
        return Mark(child_id, CANCELLED if code == STOPPED else FAILED, code)
    return _done(child_id, fields.get(b"result", b"null"))


def _done(child_id: UUID, result: bytes) -> Mark | None:
    try:
        found: Any = msgspec.json.decode(result)
    except msgspec.MsgspecError:
        found = None
    told = found if isinstance(found, dict) else {}
    if "duplicateOf" in told:
        # The same job stands in the queue already, and has its own end.
        return None
    if told.get("superseded"):
        return Mark(child_id, FAILED, "superseded")
    return Mark(child_id, SENT, None)


@asynccontextmanager
async def _reachable() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(SOCKET_S_MAX):
            yield
    except (RedisError, OSError, TimeoutError) as error:
        raise ServiceUnavailable("redis", f"{type(error).__name__}: {error}"[:200]) from error
