"""Who looks at the page, and what it follows."""

from __future__ import annotations

from typing import Any

from engine.dashboard.live import Live, LiveQuery
from engine.dashboard.routes import Ask, Route, Scope
from engine.dashboard.site import Site
from schemas.stats import View


class Me(View, frozen=True, kw_only=True):
    """
    Who asks, and of whom.

    Attributes:
        name: As the audit stream shows it.
        scope: The most that it may do.
        csrf: What requests that change something must carry as ``X-CSRF-Token``.
        engine: The engine that answers.
        version: Its version.
        now_ms: Unix ms by the engine.
    """

    name: str
    scope: Scope
    csrf: str
    engine: str
    version: str
    now_ms: int


def routes(site: Site, live: Live) -> list[Route]:
    """List this subject's routes."""
    state = site.state

    async def me(ask: Ask) -> Any:
        return Me(
            name=ask.caller.name,
            scope=ask.caller.scope,
            csrf="",
            engine=state.engine,
            version=state.version,
            now_ms=state.clock.now_ms(),
        )

    return [
        Route(
            path="/api/me",
            scope="read",
            summary="Tell who asks, and what it may do.",
            answer=me,
            returns=Me,
        ),
        Route(
            path="/api/live",
            scope="read",
            summary="Follow a live route by server-sent events: snapshot, patch, same, trouble.",
            answer=live.answer,
            query=LiveQuery,
        ),
    ]
