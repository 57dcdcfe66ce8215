"""
Who has a client open, and which conversation is in front there.

Each user has a sorted set of sockets by the time at which they count as gone. The gateway that
holds a socket puts that time off as long as the socket lives; a gateway that dies leaves its
sockets behind until their time has passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple
from uuid import UUID

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from engine import Clock
from processors.rules.pauses import LogGate
from processors.services.protocols import Present

log = structlog.get_logger("processors.presence")

LOOK_S_MAX: Final = 2.0
WRITE_S_MAX: Final = 5.0
AT_ONCE: Final = 1_000
LOG_EVERY_S: Final = 30.0

Outage = (RedisError, OSError, TimeoutError)


class Here(NamedTuple):
    """
    One open socket.

    Attributes:
        user_id: Whose it is.
        socket_id: Its name, different from all others.
        conversation_id: The conversation in front there, if any.
    """

    user_id: UUID
    socket_id: str
    conversation_id: UUID | None = None

    @property
    def member(self) -> str:
        """How the set of the user names it."""
        return f"{self.socket_id}|{self.conversation_id or ''}"


class PresenceService:
    """
    Keeps presence in Redis; implements :class:`processors.services.protocols.Presence`.

    Args:
        client: Where it is kept.
        clock: Tells when a socket counts as gone.
        ttl_ms: How long a socket counts as open after its gateway last said so.
    """

    def __init__(self, client: redis.asyncio.Redis, clock: Clock, *, ttl_ms: int) -> None:
        self._client = client
        self._clock = clock
        self._ttl_ms = ttl_ms
        self._gate = LogGate(LOG_EVERY_S)

    async def look(
        self, user_ids: Sequence[UUID], conversation_id: UUID | None = None
    ) -> dict[UUID, Present]:
        """Look several users up in one round trip; away are those not listed, all in an outage."""
        people = list(dict.fromkeys(user_ids))
        try:
            async with asyncio.timeout(LOOK_S_MAX):
                found = await self._sockets(people)
        except Outage as error:
            if self._gate.passes(self._clock.monotonic()):
                log.warning("presence_unknown", error=type(error).__name__, users=len(people))
            return {}
        self._gate.reset()
        # Without a conversation to ask about, none is in front.
        ending = f"|{conversation_id}".encode() if conversation_id is not None else b"\n"
        return {
            user_id: Present(
                is_online=True, is_active=any(each.endswith(ending) for each in sockets)
            )
            for user_id, sockets in zip(people, found, strict=True)
            if sockets
        }

    async def change(self, *, gone: Iterable[Here] = (), here: Iterable[Here] = ()) -> None:
        """
        Say which sockets are closed, and which are open.

        One whose conversation in front changed is gone and here in the same call.

        Raises:
            RedisError: It could not be said for all of them; it may be said again.
        """
        now_ms = self._clock.now_ms()
        changes = [(each, False) for each in gone] + [(each, True) for each in here]
        for start in range(0, len(changes), AT_ONCE):
            async with asyncio.timeout(WRITE_S_MAX), self._client.pipeline() as pipe:
                for each, is_here in changes[start : start + AT_ONCE]:
                    key = f"gateway:here:{each.user_id}"
                    if not is_here:
                        pipe.zrem(key, each.member)
                        continue
                    # What dead gateways left of a user who is connected elsewhere goes with this.
                    pipe.zremrangebyscore(key, "-inf", now_ms)
                    pipe.zadd(key, {each.member: now_ms + self._ttl_ms})
                    pipe.pexpire(key, self._ttl_ms)
                await pipe.execute()

    async def _sockets(self, user_ids: Sequence[UUID]) -> list[list[bytes]]:
        now_ms = self._clock.now_ms()
        async with self._client.pipeline(transaction=False) as pipe:
            for user_id in user_ids:
                pipe.zrangebyscore(f"gateway:here:{user_id}", f"({now_ms}", "+inf")
            return await pipe.execute()
