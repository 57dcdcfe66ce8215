"""Keeps the page's sessions, for all engines that serve it."""

from __future__ import annotations

import msgspec

from engine.store.operator.link import OperatorLink
from engine.wire.keys import PAGE_SESSION
from schemas.access import PageSession


class PageSessions:
    """Keeps sessions by the hash of what the browser holds, until nobody used them for a while."""

    def __init__(self, link: OperatorLink) -> None:
        self._link = link

    async def put(self, digest: str, session: PageSession, *, idle_ms: int) -> None:
        """Begin a session."""
        value = msgspec.json.encode(session)
        await self._link.script("keep", [PAGE_SESSION + digest], value, idle_ms)

    async def get(self, digest: str) -> PageSession | None:
        """Find a session."""
        raw: bytes | None = await self._link.one(b"GET", PAGE_SESSION + digest)
        try:
            return msgspec.json.decode(raw, type=PageSession) if raw else None
        except msgspec.MsgspecError:
            # What somebody else wrote there is no session.
            return None

    async def keep(self, digest: str, *, idle_ms: int) -> None:
        """Put its end off, since it was used."""
        await self._link.one(b"PEXPIRE", PAGE_SESSION + digest, idle_ms)

    async def drop(self, digest: str) -> None:
        """End a session."""
        await self._link.one(b"DEL", PAGE_SESSION + digest)
