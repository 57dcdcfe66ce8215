"""
Sessions of the page.

A browser keeps a random name of 256 bits in a cookie that scripts cannot read; the server of the
queues keeps whose it is, under the name's hash. So logging out ends a session on every engine
behind one address, and none is lost when an engine ends. What was found is trusted for some
seconds, and while the server is away, so that the page goes on showing what is known.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
from collections import OrderedDict
from typing import Protocol

import msgspec

from engine.clock import Clock
from engine.dashboard.guard import Guard, caller_of, mark_of
from engine.dashboard.routes import Caller
from engine.errors import StoreError
from engine.tokens import Token
from schemas.access import PageSession

NAME_BYTES = 32
IDLE_MS = 12 * 3_600_000
AGE_MS_MAX = 7 * 86_400_000
"""How old a session may become, however much it is used."""

TRUST_S = 5.0
"""Time for which a session is not looked up again; so long another engine's logout may take."""
TRUST_AWAY_S = 900.0
"""The same while the server of the queues is away."""
KEEP_S = 300.0
"""Time between two notes that a session is used."""
KNOWN_MAX = 1_024


class Keeps(Protocol):
    """Where sessions are kept; :class:`engine.admin.Admin` satisfies it."""

    async def begin_session(self, digest: str, session: PageSession, *, idle_ms: int) -> None:
        """Begin a session."""

    async def session(self, digest: str) -> PageSession | None:
        """Find a session."""

    async def keep_session(self, digest: str, *, idle_ms: int) -> None:
        """Put a session's end off."""

    async def end_session(self, digest: str) -> None:
        """End a session."""


class Found(msgspec.Struct, frozen=True):
    """
    A session.

    Attributes:
        caller: Whose it is.
        csrf: What its requests that change something must carry.
    """

    caller: Caller
    csrf: str


class _Known(msgspec.Struct):
    session: PageSession
    seen_s: float
    kept_s: float


class Sessions:
    """
    All sessions.

    Args:
        keeps: Where they are kept.
        guard: Knows the tokens.
        clock: Ends them.
    """

    def __init__(self, keeps: Keeps, guard: Guard, clock: Clock) -> None:
        self._keeps = keeps
        self._guard = guard
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def begin(self, token: Token) -> tuple[str, Found]:
        """
        Begin a session with a token; returns what the browser keeps.

        Raises:
            StoreError: It could not be kept.
        """
        name = secrets.token_urlsafe(NAME_BYTES)
        session = PageSession(name=token.name, token=mark_of(token), begun_ms=self._clock.now_ms())
        await self._keeps.begin_session(_digest(name), session, idle_ms=IDLE_MS)
        return name, Found(caller_of(token), _csrf(name))

    async def find(self, name: str) -> Found | None:
        """
        Find a session by what the browser keeps; None where it ended, or its token was taken away.

        Raises:
            StoreError: The server is away, and nothing is known of the session.
        """
        session = await self._look_up(_digest(name))
        if session is None or self._clock.now_ms() - session.begun_ms > AGE_MS_MAX:
            return None
        token = self._guard.token_of(session.name, session.token)
        return None if token is None else Found(caller_of(token), _csrf(name))

    async def end(self, name: str) -> None:
        """End a session."""
        digest = _digest(name)
        self._known.pop(digest, None)
        await self._keeps.end_session(digest)

    async def _look_up(self, digest: str) -> PageSession | None:
        now_s = self._clock.monotonic()
        known = self._known.get(digest)
        if known is not None and now_s - known.seen_s < TRUST_S:
            return known.session
        try:
            session = await self._keeps.session(digest)
        except StoreError:
            if known is not None and now_s - known.seen_s < TRUST_AWAY_S:
                return known.session
            raise
        if session is None:
            self._known.pop(digest, None)
            return None
        if known is None or now_s - known.kept_s >= KEEP_S:
            await self._put_off(digest)
            known = _Known(session, now_s, now_s)
        known.session, known.seen_s = session, now_s
        self._known[digest] = known
        self._known.move_to_end(digest)
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return session

    async def _put_off(self, digest: str) -> None:
        """Put a session's end off; a server that takes no writes now lets people look on."""
        with contextlib.suppress(StoreError):
            await self._keeps.keep_session(digest, idle_ms=IDLE_MS)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _csrf(name: str) -> str:
    """Derive it from the session's name, which other sites do not know either."""
    return hmac.new(name.encode("utf-8", "surrogatepass"), b"csrf", "sha256").hexdigest()[:32]
