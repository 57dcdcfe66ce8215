"""Orders about one dead job: bring it back, bring it back with another payload, drop it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from engine.admin.orders import SEARCH_MAX, OrderVerbs, Place
from engine.errors import EngineError, WrongState
from engine.store.operator import Found
from engine.store.operator.orders import lane_of
from engine.wire.payload import payload_decoder
from schemas.story import JobOrder

PayloadJudge = Callable[[str, bytes], str]
"""Says what is wrong with a payload of a type; nothing where it is well, or not known."""

_decode_any = payload_decoder(object)


class DeadJobVerbs(OrderVerbs):
    """
    The verbs that end what a dead letter is.

    Each may raise :class:`~engine.errors.NotFound`, and :class:`~engine.errors.WrongState` for a
    job that is not dead or cannot come back; nothing is changed then.
    """

    async def retry_one(
        self,
        job_id: str,
        *,
        queue: str,
        hint: str = "",
        reason: str = "",
        search_max: int = SEARCH_MAX,
    ) -> JobOrder:
        """Bring one dead job back to its lane, as if it was enqueued now."""
        place = await self._dead(job_id, queue, hint, search_max, "retried")
        _refuse_unable(place.found)
        await self._redrive(place.found, None)
        detail = {"id": place.found.id, "entry": place.found.entry}
        await self._record(queue, "retry", detail, reason)
        return place.order("retry", f"is back in lane {lane_of(place.found)}")

    async def edit_retry(
        self,
        job_id: str,
        data: bytes,
        *,
        queue: str,
        judge: PayloadJudge,
        hint: str = "",
        reason: str = "",
        search_max: int = SEARCH_MAX,
    ) -> JobOrder:
        """
        Bring one dead job back with another payload, in one step; id and story stay.

        Args:
            job_id: Its id.
            data: The payload, as JSON.
            queue: Its queue.
            judge: Asked about the payload before anything moves.
            hint: Where it was seen.
            reason: Why, for the audit stream.
            search_max: Most entries of one state to look at.

        Raises:
            EngineError: The payload is no JSON, or not one of the job's type.
        """
        place = await self._dead(job_id, queue, hint, search_max, "edited")
        found = place.found
        _refuse_unable(found)
        _decode_any(data)
        wrong = judge(found.type, data)
        if wrong:
            raise EngineError(f"type {found.type} does not take this payload: {wrong}")
        before = found.field(b"data")
        if before == data:
            raise EngineError("the payload is what it was; retry the job as it is")
        await self._redrive(found, data)
        detail = {
            "id": found.id,
            "entry": found.entry,
            "type": found.type,
            "before_sha256": hashlib.sha256(before).hexdigest() if before is not None else "",
            "after_sha256": hashlib.sha256(data).hexdigest(),
            "before_bytes": len(before or b""),
            "after_bytes": len(data),
        }
        await self._record(queue, "edit-retry", detail, reason)
        return place.order("edit-retry", f"is back in lane {lane_of(found)} with its new payload")

    async def discard_one(
        self,
        job_id: str,
        *,
        queue: str,
        hint: str = "",
        reason: str = "",
        search_max: int = SEARCH_MAX,
    ) -> JobOrder:
        """Drop one dead job for good."""
        place = await self._dead(job_id, queue, hint, search_max, "discarded")
        found = place.found
        if not await self._store.dead.discard(queue, [found]):
            raise WrongState(f"job {found.id} was taken by somebody else meanwhile")
        await self._record(queue, "discard", {"id": found.id, "entry": found.entry}, reason)
        return place.order("discard", "is gone for good")

    async def _dead(self, job_id: str, queue: str, hint: str, search_max: int, what: str) -> Place:
        place = await self._locate(job_id, queue, search_max, hint)
        if place.found.state != "dead":
            raise WrongState(
                f"job {place.found.id} is {place.found.state}: only dead jobs can be {what}"
            )
        return place

    async def _redrive(self, found: Found, data: bytes | None) -> None:
        redriven = await self._store.dead.redrive(found.queue, [found], data=data)
        if redriven.refused:
            raise WrongState(f"the lane of job {found.id} refused it; it is dead still")
        if not redriven.moved:
            raise WrongState(f"job {found.id} was taken by somebody else meanwhile")


def _refuse_unable(found: Found) -> None:
    unable = found.unable()
    if unable:
        raise WrongState(f"job {found.id} cannot be brought back: {unable}")
