"""Who looks at the page, and what it follows."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from aiohttp import web

from engine.dashboard.access import Visitor, clear_cookies, set_cookie
from engine.dashboard.guard import caller_of
from engine.dashboard.live import Live, LiveQuery
from engine.dashboard.routes import Ask, Refused, Route, Scope, as_json
from engine.dashboard.sessions import AGE_MS_MAX
from engine.dashboard.site import Site
from engine.logs import get_logger
from engine.tokens import CHARS_MAX
from schemas.stats import View

log = get_logger("http")


class Me(View, frozen=True, kw_only=True):
    """
    Who asks, and of whom.

    Attributes:
        name: As the audit stream shows it.
        scope: The most that it may do.
        payloads: Whether it is shown payloads.
        csrf: What requests that change something must carry as ``X-CSRF-Token``; empty where
            there is no session.
        engine: The engine that answers.
        version: Its version.
        now_ms: Unix ms by the engine.
        place: What the page calls this place, such as PRODUCTION.
    """

    name: str
    scope: Scope
    payloads: bool
    csrf: str
    engine: str
    version: str
    now_ms: int
    place: str


class LogIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What a person shows to log in.

    Attributes:
        token: The token.
    """

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=CHARS_MAX)]


def routes(site: Site, live: Live) -> list[Route]:
    """List this subject's routes."""
    sessions = _Sessions(site)
    return [
        Route(
            path="/api/me",
            scope="read",
            summary="Tell who asks, and what it may do.",
            answer=sessions.me,
            returns=Me,
        ),
        Route(
            method="POST",
            path="/api/session",
            scope="open",
            summary="Log in: begin a session of the browser with a token.",
            answer=sessions.begin,
            body=LogIn,
            returns=Me,
        ),
        Route(
            method="DELETE",
            path="/api/session",
            scope="open",
            summary="Log out: end the session, on all engines.",
            answer=sessions.end,
            returns=dict[str, bool],
        ),
        Route(
            path="/api/live",
            scope="read",
            summary="Follow a live route by server-sent events: snapshot, patch, same, trouble.",
            answer=live.answer,
            gives=("text/event-stream",),
            query=LiveQuery,
        ),
    ]


class _Sessions:
    def __init__(self, site: Site) -> None:
        self._state = site.state
        self._access = site.access

    async def me(self, ask: Ask) -> Any:
        return self._me(Visitor(ask.caller, ask.csrf))

    async def begin(self, ask: Ask) -> web.Response:
        assert ask.request is not None
        if self._access.guard.is_open:
            raise Refused(400, "no token is set here: everybody who reaches the page may use it")
        self._access.check_failures(ask.request)
        token = self._access.guard.token(ask.body.token)
        if token is None:
            self._access.note_failure(ask.request)
            raise Refused(401, "this token is not known here")
        if not caller_of(token).may("read"):
            raise Refused(403, f"{token.name}'s token may read metrics alone, and not this page")
        name, found = await self._access.sessions.begin(token)
        log.info("http_session_begun", who=token.name, remote=ask.request.remote)
        response = as_json(self._me(Visitor(found.caller, found.csrf)))
        set_cookie(response, ask.request, name, max_age_s=AGE_MS_MAX // 1_000)
        return response

    async def end(self, ask: Ask) -> web.Response:
        assert ask.request is not None
        found = await self._access.session(ask.request)
        if found is not None:
            self._access.check_csrf(ask.request, found.csrf)
            await self._access.sessions.end(self._access.cookie(ask.request))
            log.info("http_session_ended", who=found.caller.name)
        response = as_json({"ended": found is not None})
        clear_cookies(response)
        return response

    def _me(self, visitor: Visitor) -> Me:
        state = self._state
        return Me(
            name=visitor.caller.name,
            scope=visitor.caller.scope,
            payloads=visitor.caller.may(state.payloads),
            csrf=visitor.csrf,
            engine=state.engine,
            version=state.version,
            now_ms=state.clock.now_ms(),
            place=state.place,
        )
