"""The API, described for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.dashboard.openapi import PATH, document
from engine.dashboard.routes import Ask, Route
from engine.dashboard.site import Site


def route(site: Site, others: Sequence[Route]) -> Route:
    """Describe the other routes, and itself."""
    made: dict[str, Any] = {}

    async def describe(_: Ask) -> dict[str, Any]:
        if not made:
            made.update(document([*others, itself], version=site.state.version))
        return made

    itself = Route(
        path=PATH,
        scope="read",
        summary="Describe this API as OpenAPI 3.1 has it.",
        answer=describe,
        returns=dict[str, Any],
    )
    return itself
