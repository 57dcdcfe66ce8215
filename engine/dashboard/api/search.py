"""Jobs of all queues, by id or by text within them."""

from __future__ import annotations

from typing import Annotated

import msgspec

from engine.dashboard.routes import Ask, Route
from engine.dashboard.site import Site
from schemas.looks import Hits


class SearchQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What is looked for.

    Attributes:
        text: An id, or what stands within a job or its error.
        queue: The only queue to look in; empty for all.
        limit: Most jobs to return.
        cursor: Where an earlier part ended.
    """

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    queue: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50
    cursor: str = ""


def routes(site: Site) -> list[Route]:
    """List this subject's routes."""
    state = site.state

    async def search(ask: Ask) -> Hits:
        async with site.scans.budget(ask, state.clock) as budget:
            hits = await state.admin.search(
                ask.query.text,
                queue=ask.query.queue,
                cursor=ask.query.cursor,
                limit=ask.query.limit,
                budget=budget,
                sealed=site.redactor.sealed(ask.caller),
            )
        return msgspec.structs.replace(hits, jobs=site.redactor.rows(hits.jobs))

    return [
        Route(
            path="/api/search",
            scope="read",
            summary="Look for jobs by id or text in all queues; go on where the cursor says.",
            answer=search,
            query=SearchQuery,
            returns=Hits,
        )
    ]
