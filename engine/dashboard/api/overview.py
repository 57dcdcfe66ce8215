"""Everything at a glance."""

from __future__ import annotations

from engine.dashboard.routes import Ask, Refused, Route
from engine.dashboard.site import Site
from schemas.overview import Overview


def routes(site: Site) -> list[Route]:
    """List this subject's routes."""

    async def overview(_: Ask) -> Overview:
        found = await site.overviews.latest()
        if found is None:
            raise Refused(503, site.overviews.trouble)
        return found

    return [
        Route(
            path="/api/overview",
            scope="read",
            summary="Show queues, engines and what is wrong, the worst first.",
            answer=overview,
            returns=Overview,
            live=True,
        )
    ]
