"""Schedules: what they are, when they fire next, and what operators do with them."""

from __future__ import annotations

import msgspec

from engine.admin import Admin
from engine.dashboard.api import bodies
from engine.dashboard.routes import Answer, Ask, Route
from engine.dashboard.site import Site
from schemas.schedule import ScheduleChanged, ScheduleView
from schemas.stats import View

BASE = "/api/queues/{queue}/schedules/{name}"


class Schedules(View, frozen=True, kw_only=True):
    """
    The schedules of all queues.

    Attributes:
        schedules: By queue and name.
        now_ms: The server's clock.
    """

    schedules: list[ScheduleView]
    now_ms: int


class SchedulesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Whose schedules are listed.

    Attributes:
        queue: The only queue; empty for all.
    """

    queue: str = ""


def routes(site: Site) -> list[Route]:
    """List this subject's routes."""
    state = site.state

    def verbs(ask: Ask) -> Admin:
        return state.admin.acting_as(ask.caller.name)

    async def listing(ask: Ask) -> Schedules:
        names = (ask.query.queue,) if ask.query.queue else ()
        found = await state.admin.schedules(names)
        told = [site.redactor.schedule(each, ask.caller) for each in found]
        return Schedules(schedules=told, now_ms=await state.admin.now_ms())

    def shown(ask: Ask, told: ScheduleChanged) -> ScheduleChanged:
        if told.now is None:
            return told
        return msgspec.structs.replace(told, now=site.redactor.schedule(told.now, ask.caller))

    async def run(ask: Ask) -> ScheduleChanged:
        queue, name = ask.path["queue"], ask.path["name"]
        return shown(ask, await verbs(ask).schedule_run(queue, name, reason=ask.body.reason))

    async def pause(ask: Ask) -> ScheduleChanged:
        queue, name = ask.path["queue"], ask.path["name"]
        return shown(ask, await verbs(ask).schedule_pause(queue, name, reason=ask.body.reason))

    async def resume(ask: Ask) -> ScheduleChanged:
        queue, name = ask.path["queue"], ask.path["name"]
        return shown(ask, await verbs(ask).schedule_resume(queue, name, reason=ask.body.reason))

    return [
        Route(
            path="/api/schedules",
            scope="read",
            summary="List schedules: their times in words, when they fire next, and what is wrong.",
            answer=listing,
            query=SchedulesQuery,
            returns=Schedules,
            live=True,
        ),
        _order("run", "Enqueue one job of a schedule now, beside its ticks.", run),
        _order("pause", "Fire no ticks of a schedule until it is resumed.", pause),
        _order("resume", "Let a schedule go on from now.", resume),
    ]


def _order(verb: str, summary: str, answer: Answer) -> Route:
    return Route(
        method="POST",
        path=f"{BASE}/{verb}",
        scope="operate",
        summary=summary,
        answer=answer,
        body=bodies.Because,
        returns=ScheduleChanged,
    )
