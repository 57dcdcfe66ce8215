"""What runs here, and how a job is sent to it."""

from __future__ import annotations

from collections import Counter

from engine.dashboard.examples import example_of, has_examples
from engine.dashboard.routes import Ask, Route
from engine.dashboard.site import Site
from engine.errors import EngineError
from schemas.about import About, TypeAbout
from schemas.rules import LANES

REDIS_URL = "ENGINE_REDIS_URL"


def routes(site: Site) -> list[Route]:
    """List this subject's routes."""
    state = site.state
    types = [
        TypeAbout(
            type=name,
            queue=schema.get("x-queue", ""),
            version=schema.get("x-version", 1),
            schema=dict(schema),
            example=example_of(schema),
            tried=has_examples(schema),
        )
        for name, schema in state.schemas.items()
    ]

    url = next((each.value for each in state.settings if each.name == REDIS_URL), "")

    async def about(ask: Ask) -> About:
        versions: Counter[str] = Counter()
        server = ""
        try:
            versions.update(each.beat.version for each in await state.admin.engines())
            server = (await state.admin.server()).version
        except EngineError:
            # How a job is sent can be read while the server is away.
            pass
        return About(
            engine=state.engine,
            version=state.version,
            versions=dict(sorted(versions.items())),
            server=server,
            url=url if ask.caller.may("operate") else "",
            lanes=list(LANES),
            types=types,
        )

    return [
        Route(
            path="/api/about",
            scope="read",
            summary="Tell which job types there are, what each takes, and what runs here.",
            answer=about,
            returns=About,
        )
    ]
