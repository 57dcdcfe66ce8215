"""Orders about single jobs: cancel, reschedule, run now, change priority."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from engine.admin.base import AdminBase, checked_queue
from engine.admin.explain import span
from engine.errors import EngineError, NotFound, WrongState
from engine.failpoint import failpoint
from engine.store.operator import Found
from engine.store.operator.entry import behind_what
from engine.store.operator.orders import Moved, lane_of
from engine.wire.tombstones import TOMBSTONES_MAX, describe
from schemas.rules import DELAY_MS_MAX, ID_CHARS_MAX, LANES
from schemas.stats import QueueStats
from schemas.story import JobOrder

SEARCH_MAX = 100_000
"""Jobs of one state that are looked at to find the one that is meant, if not told otherwise."""

TRIES = 5
"""How often a job is looked for again that slipped away between the look and the move."""

COMES = frozenset({"delayed", "held", "parked"})
"""States of jobs that wait beside their lane: the order to cancel brings them to it."""


class Place(NamedTuple):
    """A job, and the queue that it was found in."""

    found: Found
    stats: QueueStats

    def order(self, what: str, told: str, *, changed: bool = True, lane: str = "") -> JobOrder:
        """Say what an order about this job did."""
        job = self.found
        return JobOrder(
            id=job.id,
            queue=job.queue,
            what=what,
            changed=changed,
            state=job.state,
            lane=lane or lane_of(job),
            told=told,
        )


class OrderVerbs(AdminBase):
    """
    The verbs that change what becomes of one job.

    Each looks for the job by its id, in the queue that is named or else in all known ones, and may
    raise :class:`~engine.errors.NotFound`, and :class:`~engine.errors.WrongState` where the job's
    state does not allow it. Jobs keep their ids, attempts and stories.
    """

    async def cancel(
        self,
        job_id: str,
        *,
        queue: str = "",
        reason: str = "",
        even_if_absent: bool = False,
        search_max: int = SEARCH_MAX,
        hint: str = "",
    ) -> JobOrder:
        """
        End a job for good: as dead with the reason ``cancelled``, wherever it is.

        Args:
            job_id: Its id.
            queue: The only queue to look in.
            reason: Why; the job's record says so.
            even_if_absent: Where there is no such job, let the order stand for an hour, for one
                that comes later. Needs the queue.
            search_max: Most entries of one state to look at.
            hint: Where it was seen, as a list's row says it.
        """
        if even_if_absent and not queue:
            raise EngineError("say in which queue the job is to be cancelled, should it come")
        try:
            place = await self._locate(job_id, queue, search_max, hint)
        except NotFound:
            if not even_if_absent:
                raise
            return await self._cancel_ahead(checked_queue(queue), job_id, reason)
        job, stats = place
        if job.state == "done":
            raise WrongState(f"job {job.id} is done already, so there is nothing to cancel")
        if job.state == "dead":
            why = job.record.reason if job.record else "unreadable"
            return place.order("cancel", f"is dead already ({why})", changed=False)
        before = await self._store.orders.tombstone(job.queue, job.id)
        if before is not None and before.stops(job.enqueued_ms):
            return place.order("cancel", f"was {describe(before)} already", changed=False)
        tombstone = await self._lay(job.queue, job.id, reason)
        await self._record(job.queue, "cancel", {"id": job.id, "state": job.state}, reason)
        comes = "its handler is being ended"
        if job.state != "active":
            comes = _until_it_ends(job, stats)
        # Should this not come about, engines do the same within seconds.
        failpoint("C1")
        if job.state in COMES:
            await self._store.orders.to_end(job, tombstone)
        return place.order("cancel", f"is cancelled; {comes}")

    async def _cancel_ahead(self, queue: str, job_id: str, reason: str) -> JobOrder:
        if not 1 <= len(job_id) <= ID_CHARS_MAX:
            raise EngineError(f"{job_id!r} is no job id")
        await self._lay(queue, job_id, reason, ahead=True)
        await self._record(queue, "cancel", {"id": job_id, "state": ""}, reason)
        told = "is not here; one that comes within an hour ends as cancelled"
        return JobOrder(
            id=job_id, queue=queue, what="cancel", changed=True, state="", lane="", told=told
        )

    async def _lay(self, queue: str, job_id: str, reason: str, *, ahead: bool = False) -> bytes:
        laid = await self._store.orders.cancel(
            queue, [job_id], who=self._who, reason=reason, ahead=ahead
        )
        if not laid:
            raise EngineError(
                f"queue {queue} has {TOMBSTONES_MAX} cancelled jobs that have not ended yet; "
                "try again when engines have ended some"
            )
        return laid

    async def reschedule(
        self,
        job_id: str,
        *,
        at_ms: int = 0,
        in_ms: int = 0,
        queue: str = "",
        reason: str = "",
        search_max: int = SEARCH_MAX,
        hint: str = "",
    ) -> JobOrder:
        """
        Let a job that has not started wait until another time.

        Args:
            job_id: Its id.
            at_ms: The time, Unix ms by the server's clock.
            in_ms: The same from now on, in place of ``at_ms``.
            queue: The only queue to look in.
            reason: Why, for the audit stream.
            search_max: Most entries of one state to look at.
            hint: Where it was seen, as a list's row says it.
        """
        now_ms = await self._store.now_ms()
        due_ms = at_ms or now_ms + in_ms
        if not now_ms - DELAY_MS_MAX <= due_ms <= now_ms + DELAY_MS_MAX:
            raise EngineError(f"the time must be within {span(DELAY_MS_MAX)} of now")

        async def move(place: Place) -> Moved:
            _refuse(place.found, {"active", "waiting-children", "done", "dead"}, "rescheduled")
            return await self._store.orders.to_delayed(place.found, due_ms, why="reschedule")

        place = await self._move((job_id, queue, hint), search_max, move)
        detail = {"id": place.found.id, "state": place.found.state, "due_ms": due_ms}
        await self._record(place.found.queue, "reschedule", detail, reason)
        left = due_ms - now_ms
        told = (
            f"is rescheduled; it starts {f'in {span(left)}' if left > 0 else 'as soon as it can'}"
        )
        order = place.order("reschedule", told + _expiry(place.found, due_ms))
        return msgspec.structs.replace(order, due_ms=due_ms)

    async def run_now(
        self,
        job_id: str,
        *,
        queue: str = "",
        reason: str = "",
        search_max: int = SEARCH_MAX,
        hint: str = "",
    ) -> JobOrder:
        """Let a job start now that waits for its time: delayed, snoozed or backing off."""

        async def move(place: Place) -> Moved:
            if place.found.state in {"waiting", "active"}:
                return "moved"
            _refuse(place.found, {"parked", "held", "waiting-children", "done", "dead"}, "run now")
            return await self._store.orders.to_lane(place.found, lane_of(place.found))

        place = await self._move((job_id, queue, hint), search_max, move)
        if place.found.state == "active":
            return place.order("run-now", "runs already", changed=False)
        if place.found.state == "waiting":
            told = f"waits in lane {place.found.lane} already; `priority` moves it to another"
            return place.order("run-now", told, changed=False)
        detail = {"id": place.found.id, "due_ms": place.found.at_ms}
        await self._record(place.found.queue, "run-now", detail, reason)
        return place.order("run-now", f"is in lane {lane_of(place.found)} now")

    async def change_priority(
        self,
        job_id: str,
        lane: str,
        *,
        queue: str = "",
        reason: str = "",
        search_max: int = SEARCH_MAX,
        hint: str = "",
    ) -> JobOrder:
        """Move a job that has not started to the end of another lane, or let it go there later."""
        if lane not in LANES:
            raise EngineError(f"{lane!r} is no lane; there are {', '.join(LANES)}")

        async def move(place: Place) -> Moved:
            states = {"active", "waiting-children", "done", "dead"}
            _refuse(place.found, states, "moved to another lane")
            if lane_of(place.found) == lane:
                return "moved"
            return await self._store.orders.change_lane(place.found, lane)

        place = await self._move((job_id, queue, hint), search_max, move)
        if lane_of(place.found) == lane:
            return place.order("priority", f"is in lane {lane} already", changed=False)
        detail = {"id": place.found.id, "before": place.found.lane, "after": lane}
        await self._record(place.found.queue, "priority", detail, reason)
        where = "is in" if place.found.state in {"waiting", "parked"} else "will go to"
        return place.order("priority", f"{where} lane {lane} now", lane=lane)

    async def _move(
        self,
        named: tuple[str, str, str],
        search_max: int,
        move: Callable[[Place], Awaitable[Moved]],
    ) -> Place:
        """Move a job, looking again where it slipped away meanwhile."""
        job_id, queue, hint = named
        for _ in range(TRIES):
            place = await self._locate(job_id, queue, search_max, hint)
            job = place.found
            tombstone = await self._store.orders.tombstone(job.queue, job.id)
            if tombstone is not None and tombstone.stops(job.enqueued_ms):
                raise WrongState(f"job {job.id} was {describe(tombstone)}; it is about to end")
            if await move(place) == "moved":
                return place
        raise WrongState(f"job {job_id} is on the move; try again")

    async def _locate(self, job_id: str, queue: str, search_max: int, hint: str = "") -> Place:
        """Find a job; where several have the id, the first on the way that jobs go."""
        all_stats = await self.queues([queue] if queue else ())
        complete = True
        for stats in all_stats:
            types = [held.type for held in stats.held]
            page = await self._store.jobs.find(
                stats.queue, job_id, types=types, search_max=search_max, hint=hint
            )
            if page.jobs:
                return Place(page.jobs[0], stats)
            complete = complete and not page.cursor
        if not all_stats:
            raise NotFound(f"job {job_id}: no queue is known; name one with --queue")
        extent = "" if complete else f" among the first {search_max} of each state"
        raise NotFound(f"no job {job_id} in {', '.join(s.queue for s in all_stats)}{extent}")


def _refuse(job: Found, states: set[str], what: str) -> None:
    """
    Refuse an order that a job's state does not allow.

    Raises:
        WrongState: It is in one of these states.
    """
    if job.state not in states:
        return
    instead = {
        "active": "cancel it instead",
        "parked": f"it waits {behind_what(job.line)}",
        "held": f"release its type with `resume {job.queue} --type {job.type}`",
        "waiting-children": "it waits for its children",
        "done": "it has run",
        "dead": f"bring it back with `dead retry {job.queue} {job.id}`",
    }
    raise WrongState(f"job {job.id} is {job.state}: it cannot be {what}; {instead[job.state]}")


def _until_it_ends(job: Found, stats: QueueStats) -> str:
    if stats.paused:
        return "it ends once the queue is resumed"
    if not stats.engines:
        return "it ends once an engine serves the queue, and none does now"
    if job.state in COMES:
        return "it comes to its lane at once, and ends there"
    return "it ends when its turn comes"


def _expiry(job: Found, due_ms: int) -> str:
    return ", but it expires before that" if 0 < job.expires_ms < due_ms else ""
