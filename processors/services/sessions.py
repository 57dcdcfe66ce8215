"""
Sessions that were revoked while their sockets may still be open.

A revocation is published, so that gateways close sockets at once, and it is recorded, so that a
gateway that missed the event finds it when it looks the next time. Times are those of Redis's
clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, NamedTuple
from uuid import UUID

import redis.asyncio

from processors.services.tickets import redis_now_ms

KEY: Final = "gateway:revoked"
REDIS_S_MAX: Final = 5.0
ALL: Final = ""
"""The session id that stands for every session of a user."""


class Revocation(NamedTuple):
    """
    Sessions that ended.

    Attributes:
        user_id: Whose.
        session_id: Which; empty for all.
        at_ms: When; tickets issued later are not meant.
    """

    user_id: UUID
    session_id: str
    at_ms: int

    def covers(self, session_id: str, issued_ms: int) -> bool:
        """Say whether it ends a session whose ticket was issued then."""
        return issued_ms <= self.at_ms and self.session_id in (ALL, session_id)


class RevocationService:
    """
    Records revocations.

    Args:
        client: Where they are kept.
        keep_ms: How long; sockets must not outlive it.
    """

    def __init__(self, client: redis.asyncio.Redis, *, keep_ms: int) -> None:
        self._client = client
        self._keep_ms = keep_ms

    async def revoke(self, user_id: UUID, session_id: str = ALL) -> Revocation:
        """
        End one session of a user, or all, for every ticket issued up to now.

        Raises:
            RedisError: It may not be recorded.
        """
        async with asyncio.timeout(REDIS_S_MAX):
            at_ms = await redis_now_ms(self._client)
            async with self._client.pipeline() as pipe:
                pipe.zadd(KEY, {f"{user_id}|{session_id}": at_ms})
                pipe.zremrangebyscore(KEY, "-inf", at_ms - self._keep_ms)
                pipe.pexpire(KEY, self._keep_ms)
                await pipe.execute()
        return Revocation(user_id, session_id, at_ms)

    async def since(self, at_ms: int) -> list[Revocation]:
        """
        List what was revoked at a time or later, oldest first.

        Raises:
            RedisError: The server does not answer.
        """
        async with asyncio.timeout(REDIS_S_MAX):
            found = await self._client.zrangebyscore(KEY, at_ms, "+inf", withscores=True)
        return list(_read(found))


def _read(found: Iterable[Any]) -> Iterable[Revocation]:
    for member, score in found:
        user, _, session_id = member.decode().partition("|")
        yield Revocation(UUID(user), session_id, int(score))
