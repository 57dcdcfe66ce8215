"""
What one queue's flows need: children sent to their queues, ends of children told to their parents,
the rest of a flow called back once its parent waits no more.

Every engine does it for the queues that it serves. A step that an engine did not finish is found
and finished by another: what is to be sent lies in the parent's queue, what is to be told in the
child's, and either is dropped there only after it has arrived where it goes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from engine.clock import Clock
from engine.errors import Malformed, StoreError, StoreRefused
from engine.failpoint import failpoint
from engine.logs import get_logger
from engine.runtime.flow_records import (
    Child,
    by_queue,
    children_of,
    chunks,
    marker,
    note_of,
    parent_of,
    read_marker,
)
from engine.runtime.flow_sweep import FlowSweep
from engine.runtime.outage import Outage
from engine.store.base import Control, Store
from engine.store.flow_base import FLOW_WHO, ChildNote, FlowTask
from engine.telemetry import QueueMeter
from engine.wire import flows
from schemas.flow import FAILED, PENDING, SENT, ChildEnd, ParentRecord
from schemas.job import Tombstone

log = get_logger("flows")

LEASE_MS_MAX = 10_000
"""How long a flow is left to the engine that took it; then another sends what is not sent."""

PAUSE_S = 1.0
SOON_S = 0.02
"""Pause before ends are told again that were put off."""

TASKS_MAX = 20
ENDS_MAX = 100
GONE = frozenset({"failed", "cancelled"})
"""Ways in which a flow closes that call its other children back."""


class FlowKeeper:
    """
    Keeps the flows of one queue going.

    Args:
        store: The store.
        queue: The queue.
        clock: Time.
        outage: Told of failures.
        meters: Count flows that closed, for each queue.
        lease_ms: Silence after which an engine counts as gone.
    """

    def __init__(
        self,
        store: Store,
        queue: str,
        clock: Clock,
        *,
        outage: Outage,
        meters: Mapping[str, QueueMeter],
        lease_ms: int,
    ) -> None:
        self._lease_ms = min(lease_ms, LEASE_MS_MAX)
        self._store = store
        self._queue = queue
        self._clock = clock
        self._outage = outage
        self._meters = meters
        self._rung = asyncio.Event()
        self._in_use = False
        self._soon = False
        self._cancelled: Mapping[str, Tombstone] = {}
        self._sweep = FlowSweep(store, queue, clock)

    def poke(self) -> None:
        """Look at once: a flow was opened here, or a child ended."""
        self._in_use = True
        self._rung.set()

    def follow(self, control: Control) -> None:
        """Learn whether there are flows at all, and which jobs were cancelled."""
        self._in_use = self._in_use or control.flows
        if control.cancelled.keys() - self._cancelled.keys():
            self._rung.set()
        self._cancelled = control.cancelled

    async def run(self) -> None:
        """Look whenever poked, and now and then for what other engines left behind."""
        where = f"{self._queue} flows"
        tries = 0
        while True:
            if not tries:
                pause_s = SOON_S if self._soon else PAUSE_S
                await self._sleep(pause_s * (0.5 + self._clock.draw()))
            self._rung.clear()
            if not self._in_use:
                continue
            self._soon = False
            try:
                while await self.step():
                    await self._clock.sleep(0)
            except StoreError as error:
                tries += 1
                await self._outage.wait(error, tries, where)
            else:
                self._outage.over(where)
                tries = 0

    async def step(self) -> bool:
        """Do what there is to do now, a bounded part of it; tells whether there was anything."""
        sent = await self._work()
        relayed = await self._relay()
        await self._sweep.turn()
        return relayed or sent

    async def finish(self) -> None:
        """Do all that there is to do now."""
        while self._in_use and await self.step():
            await self._clock.sleep(0)

    async def _sleep(self, seconds: float) -> None:
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        rung = asyncio.ensure_future(self._rung.wait())
        try:
            await asyncio.wait({sleep, rung}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            rung.cancel()

    # Parents of this queue.

    async def _work(self) -> bool:
        """Send what flows of this queue have to send."""
        if self._cancelled:
            await self._cancel_parents()
        tasks = await self._store.flow_tasks(self._queue, count=TASKS_MAX, lease_ms=self._lease_ms)
        if tasks:
            failpoint("F2")
        for task in tasks:
            if not task.job or task.closed in GONE:
                await self._call_back(task)
            else:
                await self._send(task)
        return len(tasks) == TASKS_MAX

    async def _cancel_parents(self) -> None:
        """Let parents that were cancelled while they wait go to their lane, where they end."""
        for task in await self._store.flows_of(self._queue, list(self._cancelled)):
            stone = self._cancelled.get(flows.job_of(task.flow))
            if stone is not None and stone.stops(parent_of(task).enqueued_ms):
                await self._apply(self._queue, task.flow, [ChildNote(-1, "", "cancelled")])

    async def _send(self, task: FlowTask) -> None:
        try:
            if PENDING not in task.states:
                # The last ones had ended before they were known to be sent.
                await self._store.flow_mark(self._queue, task.flow, (), until_ms=task.until_ms)
            for chunk in chunks(self._children(task, PENDING)):
                sent = [
                    number for part in by_queue(chunk) for number in await self._one(part, task)
                ]
                failpoint("F3")
                closed = await self._store.flow_mark(
                    self._queue, task.flow, sent, until_ms=task.until_ms
                )
                failpoint("F4")
                if closed in GONE or len(sent) < len(chunk):
                    # Its other children are called back from now on, or the time is over.
                    self._rung.set()
                    return
        except Malformed as error:
            await self._fail(task, error)

    async def _one(self, part: Sequence[Child], task: FlowTask) -> list[int]:
        """Send children to one queue; returns the numbers of those that are there."""
        try:
            told = await self._store.flow_send(
                part[0].queue, [child.job for child in part], until_ms=task.until_ms
            )
        except StoreRefused as error:
            # Something of that queue holds another type: others must not wait for it.
            log.error("flow_refused", queue=part[0].queue, flow=task.flow, error=str(error))
            return []
        return [child.number for child, is_there in zip(part, told, strict=False) if is_there]

    async def _call_back(self, task: FlowTask) -> None:
        """Cancel the children of a closed flow that have not ended, and forget the flow."""
        if task.job:
            who = FLOW_WHO + flows.job_of(task.flow)
            reason = (
                "another child failed" if task.closed == "failed" else "its parent was cancelled"
            )
            for chunk in chunks(self._children(task, PENDING + SENT)):
                for part in by_queue(chunk):
                    named = [(child.job.marker, child.id) for child in part]
                    await self._store.flow_cancel(part[0].queue, named, who=who, reason=reason)
            failpoint("F7")
        await self._store.flow_mark(self._queue, task.flow, (), until_ms=task.until_ms, over=True)

    def _children(self, task: FlowTask, letters: str) -> Iterable[Child]:
        return children_of(self._queue, task, letters, now_ms=task.until_ms - self._lease_ms)

    async def _fail(self, task: FlowTask, error: Malformed) -> None:
        """Fail a flow whose children cannot be read: no engine judged them."""
        log.error("flow_unreadable", queue=self._queue, flow=task.flow, error=str(error))
        await self._apply(self._queue, task.flow, [ChildNote(0, FAILED, "failed")])
        await self._store.flow_mark(self._queue, task.flow, (), until_ms=task.until_ms, over=True)

    # Children of this queue.

    async def fields_of(
        self, places: Sequence[tuple[str, bytes]]
    ) -> dict[tuple[str, bytes], list[bytes]]:
        """Tell what stood in entries that are gone, where children of flows were sent in them."""
        if not self._in_use or not places:
            return {}
        found = await self._store.flow_children(self._queue, places)
        return {place: await self._sent_as(*read_marker(name)) for place, name in found.items()}

    async def _sent_as(self, queue: str, flow: str, number: int) -> list[bytes]:
        parent_id = flows.job_of(flow)
        for task in await self._store.flows_of(queue, [parent_id]):
            if task.flow == flow:
                alone = msgspec.structs.replace(task, states=PENDING * number + SENT)
                with contextlib.suppress(Malformed):
                    for child in children_of(queue, alone, SENT, now_ms=0):
                        return child.job.fields
        # Its parent waits no more; its end has to be told all the same, or it is never forgotten.
        parent = ParentRecord(queue=queue, flow=flow, number=number)
        told = flows.encode_parent(parent)
        return [b"id", flows.child_id(parent_id, number).encode(), flows.PARENT, told]

    async def _relay(self) -> bool:
        """Tell parents of children that ended in this queue."""
        after = b""
        while True:
            found = await self._store.flow_ends(self._queue, after=after, count=ENDS_MAX)
            if not found:
                return False
            after = found[-1][0]
            failpoint("F5")
            for told in self._by_flow(found):
                await self._tell(*told)
            if len(found) < ENDS_MAX:
                return False

    async def _tell(
        self, queue: str, flow: str, told: Sequence[tuple[bytes, ChildEnd | None]]
    ) -> None:
        later: frozenset[int] = frozenset()
        notes = [note_of(end, self._queue) for _, end in told if end is not None]
        if notes:
            try:
                later = await self._apply(queue, flow, notes)
            except StoreRefused as error:
                if error.kind not in {"wrongtype", "other"}:
                    raise
                # That parent's keys are taken by something else: the others go on.
                log.error("flow_refused", queue=queue, flow=flow, error=str(error))
                return
            failpoint("F6")
        done = [
            (entry, marker(queue, flow, end.parent.number), end.id) if end else (entry, "", "")
            for entry, end in told
            if end is None or end.parent.number not in later
        ]
        if later:
            self._soon = True
        if done:
            await self._store.flow_clean(self._queue, done)

    async def _apply(self, queue: str, flow: str, notes: Sequence[ChildNote]) -> frozenset[int]:
        applied = await self._store.flow_apply(queue, flow, notes)
        if applied.closed:
            # An engine that does not serve the parent's queue counts it where it served the child.
            meter = self._meters.get(queue) or self._meters[self._queue]
            meter.flows_closed[applied.closed] += 1
            if queue == self._queue:
                self._rung.set()
        return applied.later

    def _by_flow(
        self, found: Sequence[tuple[bytes, bytes]]
    ) -> Iterable[tuple[str, str, list[tuple[bytes, ChildEnd | None]]]]:
        """Group messages by the flow that they are for; what cannot be read is for none."""
        groups: dict[tuple[str, str], list[tuple[bytes, ChildEnd | None]]] = {}
        for entry, message in found:
            try:
                end = flows.read_end(message)
            except Malformed as error:
                log.error("flow_end_unreadable", queue=self._queue, error=str(error))
                groups.setdefault(("", ""), []).append((entry, None))
            else:
                place = (end.parent.queue, end.parent.flow)
                groups.setdefault(place, []).append((entry, end))
        return [(*place, told) for place, told in groups.items()]
