"""What queues did over time, for charts."""

from __future__ import annotations

import msgspec

from engine.dashboard.routes import Ask, Route
from engine.dashboard.site import Site
from schemas.numbers import Range, Series


class SeriesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Which numbers.

    Attributes:
        queue: The queue; empty for all together.
        range: Over the last hour, day or week.
    """

    queue: str = ""
    range: Range = "1h"


def routes(site: Site) -> list[Route]:
    """List this subject's routes."""

    async def series(ask: Ask) -> Series:
        return await site.state.admin.series(ask.query.queue, ask.query.range)

    return [
        Route(
            path="/api/series",
            scope="read",
            summary="Tell what a queue, or all, did over an hour, a day or a week, step by step.",
            answer=series,
            query=SeriesQuery,
            returns=Series,
        )
    ]
