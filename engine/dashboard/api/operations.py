"""Bulk operations on dead letters: plan, start, watch, stop, take back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec

from engine.admin import Admin
from engine.dashboard.api import bodies
from engine.dashboard.routes import Ask, Refused, Route
from engine.dashboard.site import Site
from schemas.operations import Operation, Operations, Plan, Verb
from schemas.stats import DeadFilter

Moment = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Ids = Annotated[tuple[bodies.Name, ...], msgspec.Meta(max_length=500)]


class Meant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """
    Which dead letters are meant; every part that is given must fit.

    Attributes:
        ids: Job ids or entry ids.
        type: The job's type.
        reason: Why it is dead.
        fingerprint: Its group.
        text: Text within its id, error or fields, its children's apart, whatever the case.
        after_ms: Died at or after this Unix ms.
        before_ms: Died before this one.
    """

    ids: Ids = ()
    type: str = ""
    reason: str = ""
    fingerprint: str = ""
    text: Annotated[str, msgspec.Meta(max_length=200)] = ""
    after_ms: Moment = 0
    before_ms: Moment = 0


class Planned(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """
    What an operation is to do, or a plan whose count is to go on.

    Attributes:
        plan_id: The plan that goes on; the others are not needed then.
        queue: The queue.
        action: Bring them back, or drop them for good.
        filter: Which dead letters.
        rate: Jobs per second; 20 where it is left out.
        canary: Jobs of a retry that go first; none where it is left out.
    """

    plan_id: str = ""
    queue: str = ""
    action: Verb = "retry"
    filter: Meant = Meant()
    rate: Annotated[float, msgspec.Meta(ge=0.001, le=10_000)] | None = None
    canary: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None


class Start(bodies.Because, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """
    A plan that is to be carried out.

    Attributes:
        plan_id: The plan.
        confirm: The queue's name, where the plan asks for it.
    """

    plan_id: bodies.Name
    confirm: str = ""


class OperationsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Which operations are listed.

    Attributes:
        queue: The queue; empty for all.
        limit: Most to return.
    """

    queue: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50


def routes(site: Site) -> list[Route]:
    """List this subject's routes."""
    admin = site.state.admin

    async def listed(ask: Ask) -> Operations:
        found = await admin.operations(ask.query.queue, limit=ask.query.limit)
        shown = [site.redactor.operation(each, ask.caller) for each in found.operations]
        return msgspec.structs.replace(found, operations=shown)

    async def one(ask: Ask) -> Operation:
        found = await admin.operation(ask.path["queue"], ask.path["id"])
        return site.redactor.operation(found, ask.caller)

    return [
        Route(
            path="/api/operations",
            scope="read",
            summary="List bulk operations, the latest first.",
            answer=listed,
            query=OperationsQuery,
            returns=Operations,
            live=True,
        ),
        Route(
            path="/api/operations/{queue}/{id}",
            scope="read",
            summary="Show one bulk operation and how far it is.",
            answer=one,
            returns=Operation,
            live=True,
        ),
        *_changes(site),
        *_turns(site),
    ]


def _changes(site: Site) -> list[Route]:
    def verbs(ask: Ask) -> Admin:
        return site.state.admin.acting_as(ask.caller.name)

    def shown(ask: Ask, plan: Plan) -> Plan:
        samples = site.redactor.rows(plan.samples)
        wanted = site.redactor.wanted(plan.filter, ask.caller)
        return msgspec.structs.replace(plan, samples=samples, filter=wanted)

    async def planned(ask: Ask) -> Plan:
        body = ask.body
        if body.plan_id:
            more = verbs(ask).continue_plan(body.plan_id, rate=body.rate, canary=body.canary)
            return shown(ask, await more)
        if not body.queue:
            raise Refused(400, "body: a plan needs a queue, or the planId of one that goes on")
        # Counts by text would tell what stands in payloads, guess by guess.
        site.redactor.check_text(ask.caller, body.filter.text, body.filter.type)
        wanted = DeadFilter(**msgspec.structs.asdict(body.filter))
        plan = await verbs(ask).plan_operation(
            body.queue, body.action, wanted, rate=body.rate or 20.0, canary=body.canary or 0
        )
        return shown(ask, plan)

    async def start(ask: Ask) -> Operation:
        body = ask.body
        begin = verbs(ask).start_operation
        started = await begin(body.plan_id, reason=body.reason, confirm=body.confirm)
        return site.redactor.operation(started, ask.caller)

    return [
        Route(
            method="POST",
            path="/api/operations/plan",
            scope="operate",
            summary="Count what a bulk operation on dead letters would do; nothing is changed.",
            answer=planned,
            body=Planned,
            returns=Plan,
        ),
        Route(
            method="POST",
            path="/api/operations",
            scope="operate",
            summary="Carry out a plan, in the background; the same plan is carried out once.",
            answer=start,
            body=Start,
            returns=Operation,
        ),
    ]


def _turns(site: Site) -> list[Route]:
    def verbs(ask: Ask) -> Admin:
        return site.state.admin.acting_as(ask.caller.name)

    def shown(ask: Ask, operation: Operation) -> Operation:
        return site.redactor.operation(operation, ask.caller)

    async def stop(ask: Ask) -> Operation:
        return shown(ask, await verbs(ask).stop_operation(*_named(ask), reason=ask.body.reason))

    async def resume(ask: Ask) -> Operation:
        return shown(ask, await verbs(ask).resume_operation(*_named(ask), reason=ask.body.reason))

    async def undo(ask: Ask) -> Operation:
        return shown(ask, await verbs(ask).undo_operation(*_named(ask), reason=ask.body.reason))

    return [
        _turn("stop", "Move no further jobs.", stop),
        _turn("resume", "Let a stopped operation go on.", resume),
        _turn("undo", "Make its jobs that have not started dead letters again.", undo),
    ]


def _named(ask: Ask) -> tuple[str, str]:
    return ask.path["queue"], ask.path["id"]


def _turn(verb: str, summary: str, answer: Callable[[Ask], Awaitable[Operation]]) -> Route:
    return Route(
        method="POST",
        path=f"/api/operations/{{queue}}/{{id}}/{verb}",
        scope="operate",
        summary=summary,
        answer=answer,
        body=bodies.Because,
        returns=Operation,
    )
