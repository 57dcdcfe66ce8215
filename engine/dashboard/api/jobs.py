"""Jobs: pages of a queue's jobs by state, one job's story, and orders about it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from engine.admin import Admin, Query, job_actions
from engine.dashboard.api import bodies
from engine.dashboard.routes import Answer, Ask, Route
from engine.dashboard.site import Site
from schemas.job import JobState
from schemas.looks import JobAction, JobLook, PayloadShown
from schemas.rules import LANES
from schemas.story import JobOrder, JobPage

BASE = "/api/queues/{queue}/jobs"
SEARCH_MAX = 2_000
"""Jobs of one state that an order looks at, where its hint and the job's id do not lead there."""

Moment = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class JobsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Which jobs of a queue are listed.

    Attributes:
        state: Their state.
        type: Their type.
        id: Their id.
        text: Text within them or their error, whatever its case.
        lane: Their lane.
        from_ms: Came, due or ended at this Unix ms or later.
        to_ms: Came, due or ended before this one.
        limit: Most jobs to return.
        cursor: Where an earlier page ended.
    """

    state: JobState = "waiting"
    type: str = ""
    id: str = ""
    text: Annotated[str, msgspec.Meta(max_length=200)] = ""
    lane: Literal["", "critical", "high", "normal", "low"] = ""
    from_ms: Moment = msgspec.field(default=0, name="from")
    to_ms: Moment = msgspec.field(default=0, name="to")
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50
    cursor: str = ""


class JobQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Where a job was seen.

    Attributes:
        at: As a list's row says it.
    """

    at: str = ""


def routes(site: Site) -> list[Route]:
    """List this subject's routes."""
    return [
        Route(
            path=BASE,
            scope="read",
            summary="List a queue's jobs of one state; a search goes on where its cursor says.",
            answer=_Looks(site).page,
            query=JobsQuery,
            returns=JobPage,
        ),
        Route(
            path=f"{BASE}/{{id}}",
            scope="read",
            summary="Tell one job's whole story, why it is where it is, and what may be done.",
            answer=_Looks(site).job,
            query=JobQuery,
            returns=JobLook,
            live=True,
        ),
        *_orders(_Orders(site)),
    ]


class _Looks:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._state = site.state

    async def page(self, ask: Ask) -> JobPage:
        wanted = ask.query
        query = Query(
            type=wanted.type,
            id=wanted.id,
            text=wanted.text,
            sealed=self._site.redactor.sealed(ask.caller),
            lanes=(wanted.lane,) if wanted.lane else LANES,
            # Of what has ended, the newest matter; of what has not, what is next.
            newest=wanted.state in {"done", "dead"},
            limit=wanted.limit,
            cursor=wanted.cursor,
            after_ms=wanted.from_ms,
            before_ms=wanted.to_ms,
        )
        async with self._site.scans.budget(ask, self._state.clock) as budget:
            page = await self._state.admin.jobs(
                ask.path["queue"], wanted.state, query, budget=budget
            )
        return msgspec.structs.replace(page, jobs=self._site.redactor.rows(page.jobs))

    async def job(self, ask: Ask) -> JobLook:
        async with self._site.scans.budget(ask, self._state.clock) as budget:
            story, now_ms = await self._state.admin.story(
                ask.path["queue"], ask.path["id"], hint=ask.query.at, budget=budget
            )
        shown, payload = self._site.redactor.story(story, ask.caller)
        return JobLook(
            story=shown, payload=payload, actions=_able(job_actions(story), payload), now_ms=now_ms
        )


def _able(actions: list[JobAction], payload: PayloadShown) -> list[JobAction]:
    """Take from the actions what nobody can do well who does not see all of the payload."""
    if payload.shown and not payload.redacted:
        return actions
    why = "its payload is not shown whole, so it cannot be edited here"
    return [
        msgspec.structs.replace(each, able=False, why=each.why or why)
        if each.verb == "edit-retry"
        else each
        for each in actions
    ]


class _Orders:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._state = site.state

    def _verbs(self, ask: Ask) -> tuple[Admin, dict[str, Any]]:
        """Return the verbs as the caller's, and what all of them are told."""
        told = {
            "queue": ask.path["queue"],
            "hint": ask.body.at,
            "reason": ask.body.reason,
            "search_max": SEARCH_MAX,
        }
        return self._state.admin.acting_as(ask.caller.name), told

    async def run_now(self, ask: Ask) -> JobOrder:
        verbs, told = self._verbs(ask)
        return await verbs.run_now(ask.path["id"], **told)

    async def retry(self, ask: Ask) -> JobOrder:
        verbs, told = self._verbs(ask)
        return await verbs.retry_one(ask.path["id"], **told)

    async def cancel(self, ask: Ask) -> JobOrder:
        verbs, told = self._verbs(ask)
        return await verbs.cancel(ask.path["id"], **told)

    async def discard(self, ask: Ask) -> JobOrder:
        verbs, told = self._verbs(ask)
        return await verbs.discard_one(ask.path["id"], **told)

    async def priority(self, ask: Ask) -> JobOrder:
        verbs, told = self._verbs(ask)
        return await verbs.change_priority(ask.path["id"], ask.body.lane, **told)

    async def reschedule(self, ask: Ask) -> JobOrder:
        verbs, told = self._verbs(ask)
        at_ms, in_ms = ask.body.at_ms, ask.body.in_ms
        return await verbs.reschedule(ask.path["id"], at_ms=at_ms, in_ms=in_ms, **told)

    async def edit_retry(self, ask: Ask) -> JobOrder:
        verbs, told = self._verbs(ask)
        self._site.redactor.check_new(ask.caller, ask.body.data)
        data = ask.body.data.encode("utf-8", "surrogatepass")
        return await verbs.edit_retry(ask.path["id"], data, judge=self._state.judge, **told)


def _orders(orders: _Orders) -> list[Route]:
    return [
        _order("run-now", "Let a job start now that waits for its time.", orders.run_now),
        _order("retry", "Bring a dead job back to its lane.", orders.retry),
        _order("cancel", "End a job for good, wherever it is.", orders.cancel),
        _order("discard", "Drop a dead job for good.", orders.discard),
        _order("priority", "Move a job to another lane.", orders.priority, bodies.ToLane),
        _order("reschedule", "Let a job wait until a time.", orders.reschedule, bodies.ToTime),
        _order(
            "edit-retry",
            "Bring a dead job back with another payload, which is checked before anything moves.",
            orders.edit_retry,
            bodies.NewPayload,
        ),
    ]


def _order(verb: str, summary: str, answer: Answer, body: Any = bodies.ForJob) -> Route:
    return Route(
        method="POST",
        path=f"{BASE}/{{id}}/{verb}",
        scope="operate",
        summary=summary,
        answer=answer,
        body=body,
        returns=JobOrder,
    )
