"""Dead letters by group."""

from __future__ import annotations

from typing import Annotated

import msgspec

from engine.admin import GroupQuery
from engine.dashboard.routes import Ask, Route
from engine.dashboard.site import Site
from schemas.dead import DeadGroupPage, DeadPage


class DeadQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Which groups of dead letters are listed.

    Attributes:
        queue: The queue; empty for all.
        type: Their type.
        reason: Why they are dead.
        text: Text within their type or error, whatever its case.
        from_ms: A job of theirs died at this Unix ms or later.
        limit: Most groups to return.
    """

    queue: str = ""
    type: str = ""
    reason: str = ""
    text: Annotated[str, msgspec.Meta(max_length=200)] = ""
    from_ms: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = msgspec.field(default=0, name="from")
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 100


def routes(site: Site) -> list[Route]:
    """List this subject's routes."""
    admin = site.state.admin

    async def groups(ask: Ask) -> DeadPage:
        asked = msgspec.structs.asdict(ask.query)
        site.redactor.check_error_text(ask.query.text, ask.query.type)
        quotes = not site.redactor.hides_errors
        page = await admin.dead_page(GroupQuery(**asked, quotes=quotes))
        shown = {name: site.redactor.dead(row) for name, row in page.rows.items()}
        return msgspec.structs.replace(page, rows=shown)

    async def group(ask: Ask) -> DeadGroupPage:
        page = await admin.dead_group(ask.path["queue"], ask.path["fingerprint"])
        return site.redactor.dead_group(page, ask.caller)

    return [
        Route(
            path="/api/dead",
            scope="read",
            summary="List groups of dead letters over all queues, the largest first.",
            answer=groups,
            query=DeadQuery,
            returns=DeadPage,
            live=True,
        ),
        Route(
            path="/api/dead/{queue}/{fingerprint}",
            scope="read",
            summary="Show one group of dead letters, some of its jobs, and operations on it.",
            answer=group,
            returns=DeadGroupPage,
            live=True,
        ),
    ]
