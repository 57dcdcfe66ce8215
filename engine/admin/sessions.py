"""Sessions of the page: begun with a token, ended by hand, shared by all engines."""

from __future__ import annotations

from engine.admin.base import AdminBase
from schemas.access import PageSession


class SessionVerbs(AdminBase):
    """What the page keeps of those who logged in."""

    async def begin_session(self, digest: str, session: PageSession, *, idle_ms: int) -> None:
        """
        Begin a session.

        Args:
            digest: Hash of what the browser holds.
            session: Whose it is.
            idle_ms: Time without use after which it ends.
        """
        await self._store.sessions.put(digest, session, idle_ms=idle_ms)

    async def session(self, digest: str) -> PageSession | None:
        """Find a session; None where it has ended."""
        return await self._store.sessions.get(digest)

    async def keep_session(self, digest: str, *, idle_ms: int) -> None:
        """Put a session's end off, since it was used."""
        await self._store.sessions.keep(digest, idle_ms=idle_ms)

    async def end_session(self, digest: str) -> None:
        """End a session, on all engines."""
        await self._store.sessions.drop(digest)
