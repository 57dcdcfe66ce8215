"""Everything at a glance."""

from __future__ import annotations

from engine.dashboard.overview import Seen
from engine.dashboard.routes import Ask, Refused, Route
from engine.dashboard.site import Site


def routes(site: Site) -> list[Route]:
    """List this subject's routes."""

    async def overview(_: Ask) -> Seen:
        seen = await site.overviews.latest()
        if seen.overview is None:
            raise Refused(503, seen.trouble)
        return seen

    return [
        Route(
            path="/api/overview",
            scope="read",
            summary="Show queues, engines and what is wrong, the worst first.",
            answer=overview,
            returns=Seen,
            live=True,
        )
    ]
