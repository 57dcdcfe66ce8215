"""
Tickets that let a client open a socket.

The application's back end knows its users; it asks for a ticket for one of them and hands it to the
client, which shows it to the gateway. A ticket is 256 bits of chance, works once and for a short
while, and only its hash is stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from typing import Annotated, Final
from uuid import UUID

import msgspec
import redis.asyncio
from redis.exceptions import RedisError

from processors.errors import Refused, ServiceUnavailable

TICKET_BYTES: Final = 32
TICKET_CHARS_MAX: Final = 64
SESSION_CHARS_MAX: Final = 128
REDIS_S_MAX: Final = 5.0

SessionId = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_.:-]{0,128}\Z")]


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a ticket stands for.

    Attributes:
        user_id: Who may open a socket with it.
        session_id: The application's own name of the user's session, by which it can be revoked.
        issued_ms: When it was issued, by the clock of Redis in Unix ms.
    """

    user_id: UUID
    session_id: SessionId = ""
    issued_ms: int = 0


class TicketService:
    """
    Issues and redeems tickets.

    Args:
        client: Where they are kept.
        ttl_ms: How long one may be redeemed.
    """

    def __init__(self, client: redis.asyncio.Redis, *, ttl_ms: int) -> None:
        self._client = client
        self.ttl_ms = ttl_ms

    async def issue_ticket(self, user_id: UUID, session_id: str = "") -> str:
        """
        Issue a ticket for a user, who is looked up when it is redeemed.

        Raises:
            Refused: ``session-id``: it is too long or has other characters than ``A-Za-z0-9_.:-``.
            ServiceUnavailable: Redis cannot store it now.
        """
        try:
            asked = msgspec.convert({"user_id": user_id, "session_id": session_id}, Grant)
        except msgspec.ValidationError:
            raise Refused(
                "session-id", f"at most {SESSION_CHARS_MAX} of A-Z a-z 0-9 _ . : and - are allowed"
            ) from None
        ticket = secrets.token_urlsafe(TICKET_BYTES)
        try:
            async with asyncio.timeout(REDIS_S_MAX):
                # Asked before it is stored: what is revoked in between covers this ticket too.
                grant = msgspec.structs.replace(asked, issued_ms=await redis_now_ms(self._client))
                await self._client.set(_key(ticket), msgspec.json.encode(grant), px=self.ttl_ms)
        except (RedisError, OSError, TimeoutError) as error:
            raise ServiceUnavailable("redis", f"{type(error).__name__}: {error}") from error
        return ticket

    async def redeem(self, ticket: str) -> Grant | None:
        """
        Take a ticket and return what it stands for; None for one that is unknown, used or late.

        Raises:
            ServiceUnavailable: Redis does not answer; the ticket may have been taken.
        """
        if not ticket or len(ticket) > TICKET_CHARS_MAX or not ticket.isascii():
            return None
        try:
            async with asyncio.timeout(REDIS_S_MAX):
                stored = await self._client.getdel(_key(ticket))
        except (RedisError, OSError, TimeoutError) as error:
            raise ServiceUnavailable("redis", f"{type(error).__name__}: {error}") from error
        return None if stored is None else msgspec.json.decode(stored, type=Grant)


async def redis_now_ms(client: redis.asyncio.Redis) -> int:
    """Ask the server's clock, the one that all processes share."""
    seconds, micros = await client.time()
    return int(seconds) * 1_000 + int(micros) // 1_000


def _key(ticket: str) -> str:
    return f"gateway:ticket:{hashlib.sha256(ticket.encode()).hexdigest()}"
