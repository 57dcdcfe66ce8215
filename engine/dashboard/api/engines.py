"""Engines: all of them, and one with what it runs."""

from __future__ import annotations

import msgspec

from engine.dashboard.glance import engine_badness, engine_glance
from engine.dashboard.routes import Ask, Route
from engine.dashboard.site import Site
from schemas.engines import EngineLook, Engines


def routes(site: Site) -> list[Route]:
    """List this subject's routes."""
    state = site.state

    async def engines(_: Ask) -> Engines:
        found = sorted(map(engine_glance, await state.admin.engines()), key=engine_badness)
        return Engines(
            engines={each.beat.name: each for each in found},
            order=[each.beat.name for each in found],
        )

    async def engine(ask: Ask) -> EngineLook:
        found = await state.admin.engine(ask.path["name"])
        mine = found.beat.name == state.engine and ask.caller.may("operate")
        taken = await state.admin.in_flight(found)
        return EngineLook(
            engine=engine_glance(found),
            in_flight=msgspec.structs.replace(taken, jobs=site.redactor.rows(taken.jobs)),
            settings=list(state.settings) if mine else [],
        )

    return [
        Route(
            path="/api/engines",
            scope="read",
            summary="List the engines heard of within the last minute, the worst first.",
            answer=engines,
            returns=Engines,
            live=True,
        ),
        Route(
            path="/api/engines/{name}",
            scope="read",
            summary="Show one engine, the jobs that it has taken, and its settings if it answers.",
            answer=engine,
            returns=EngineLook,
            live=True,
        ),
    ]
