"""One queue: how it is, and everything that operators set for it."""

from __future__ import annotations

from typing import Any

from engine.admin import Admin, make_rule
from engine.dashboard.api import bodies
from engine.dashboard.routes import Answer, Ask, Route
from engine.dashboard.site import Site
from schemas.looks import QueueLook
from schemas.stats import Change, GateChange

BASE = "/api/queues/{queue}"


def routes(site: Site) -> list[Route]:
    """List this subject's routes."""
    state = site.state

    async def look(ask: Ask) -> QueueLook:
        return await state.admin.look(
            ask.path["queue"], backlog_age_ms_max=state.backlog_age_ms_max
        )

    return [
        Route(
            path=BASE,
            scope="read",
            summary="Show one queue: what it holds, how it is and why, its lanes and types.",
            answer=look,
            returns=QueueLook,
            live=True,
        ),
        *_settings(site),
        *_gates(site),
    ]


def _settings(site: Site) -> list[Route]:
    def verbs(ask: Ask) -> Admin:
        return site.state.admin.acting_as(ask.caller.name)

    async def pause(ask: Ask) -> Change:
        return await verbs(ask).pause(ask.path["queue"], reason=ask.body.reason)

    async def resume(ask: Ask) -> Change:
        return await verbs(ask).resume(ask.path["queue"], reason=ask.body.reason)

    async def concurrency(ask: Ask) -> Change:
        jobs, reason = ask.body.jobs, ask.body.reason
        return await verbs(ask).concurrency(ask.path["queue"], jobs, reason=reason)

    async def hold(ask: Ask) -> Change:
        job_type, reason = ask.body.type, ask.body.reason
        return await verbs(ask).hold(ask.path["queue"], job_type, reason=reason)

    async def release(ask: Ask) -> Change:
        job_type, reason = ask.body.type, ask.body.reason
        return await verbs(ask).release(ask.path["queue"], job_type, reason=reason)

    async def bounds(ask: Ask) -> Change:
        body = ask.body
        return await verbs(ask).bounds(
            ask.path["queue"],
            jobs=body.jobs,
            size=body.bytes,
            clear=body.clear,
            reason=body.reason,
        )

    return [
        _order("pause", "Start nothing new in a queue.", pause, bodies.Because),
        _order("resume", "Undo a pause.", resume, bodies.Because),
        _order("concurrency", "Set jobs at a time per engine.", concurrency, bodies.Slots),
        _order("hold", "Set the jobs of a type aside.", hold, bodies.Hold),
        _order("release", "End the hold of a type.", release, bodies.Hold),
        _order("bounds", "Bound what a queue may hold.", bounds, bodies.Bound),
    ]


def _gates(site: Site) -> list[Route]:
    def verbs(ask: Ask) -> Admin:
        return site.state.admin.acting_as(ask.caller.name)

    async def order(ask: Ask) -> GateChange:
        return await verbs(ask).order(ask.path["queue"], ask.body.on_dead, reason=ask.body.reason)

    async def limit(ask: Ask) -> GateChange:
        body = ask.body
        rule = make_rule(
            body.name,
            rate=body.rate,
            per_s=body.per_ms / 1_000,
            burst=body.burst,
            concurrency=body.concurrency,
            by=body.by,
        )
        return await verbs(ask).set_limit(ask.path["queue"], body.name, rule, reason=body.reason)

    async def clear(ask: Ask) -> GateChange:
        queue, body = ask.path["queue"], ask.body
        return await verbs(ask).clear_limit(queue, body.name, reason=body.reason)

    async def shut(ask: Ask) -> GateChange:
        queue, body = ask.path["queue"], ask.body
        return await verbs(ask).shut_limit(queue, body.name, for_ms=body.for_ms, reason=body.reason)

    async def open_(ask: Ask) -> GateChange:
        queue, body = ask.path["queue"], ask.body
        return await verbs(ask).open_limit(queue, body.name, reason=body.reason)

    return [
        _order("order", "Set what a dead job does to its key.", order, bodies.Order, GateChange),
        _order("limits", "Set what a limit allows.", limit, bodies.Limit, GateChange),
        _order("limits/clear", "Take a limit away.", clear, bodies.NamedLimit, GateChange),
        _order("limits/shut", "Let nobody through.", shut, bodies.NamedLimit, GateChange),
        _order("limits/open", "Open a shut limit.", open_, bodies.NamedLimit, GateChange),
    ]


def _order(verb: str, summary: str, answer: Answer, body: Any, returns: Any = Change) -> Route:
    return Route(
        method="POST",
        path=f"{BASE}/{verb}",
        scope="operate",
        summary=summary,
        answer=answer,
        body=body,
        returns=returns,
    )
