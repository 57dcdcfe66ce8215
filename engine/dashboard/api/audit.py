"""Who changed what, when and why."""

from __future__ import annotations

from typing import Annotated

import msgspec

from engine.dashboard.routes import Ask, Route
from engine.dashboard.site import Site
from schemas.access import AuditPage


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Which changes are listed.

    Attributes:
        queue: Of this queue alone; empty for all.
        who: By this one alone; empty for everybody.
        limit: Most changes to return.
        cursor: Where an earlier page ended.
    """

    queue: Annotated[str, msgspec.Meta(max_length=64)] = ""
    who: Annotated[str, msgspec.Meta(max_length=200)] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50
    cursor: Annotated[str, msgspec.Meta(max_length=64)] = ""


def routes(site: Site) -> list[Route]:
    """List this subject's routes."""

    async def page(ask: Ask) -> AuditPage:
        wanted = ask.query
        found = await site.state.admin.audit_page(
            queue=wanted.queue, who=wanted.who, limit=wanted.limit, cursor=wanted.cursor
        )
        shown = [site.redactor.audited(each, ask.caller) for each in found.entries]
        return msgspec.structs.replace(found, entries=shown)

    return [
        Route(
            path="/api/audit",
            scope="read",
            summary="List who changed what and why, the newest first; go on where the cursor says.",
            answer=page,
            query=AuditQuery,
            returns=AuditPage,
            live=True,
        )
    ]
