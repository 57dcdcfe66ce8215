"""
Looks for children of flows that are nowhere any more, since somebody deleted their entries.

An entry that is deleted while no engine has it leaves no trace, so the parent would wait for ever.
One engine at a time looks, a few children at a time; see ``flow_lost.lua`` for why none is found
that lives.
"""

from __future__ import annotations

from engine.clock import Clock
from engine.errors import Malformed
from engine.logs import get_logger
from engine.runtime.flow_records import Child, by_queue, children_of
from engine.store.base import Store
from engine.store.flow_base import FlowTask, SoughtChild
from engine.wire import flows
from engine.wire.flows import PARENT
from schemas.flow import SENT, ChildEnd

log = get_logger("flows")

PASS_MS = 60_000
"""A queue's flows are gone through so often, by whichever engine comes first."""

FLOWS_MAX = 20
CHILDREN_MAX = 500
"""How many are looked at in one turn."""

ERROR = "its entry was deleted while it waited"


class FlowSweep:
    """
    Looks for lost children of one queue's flows.

    Args:
        store: The store.
        queue: The queue of the parents.
        clock: Time.
    """

    def __init__(self, store: Store, queue: str, clock: Clock) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        self._next_s = 0.0
        self._at: tuple[str, int] | None = None

    async def turn(self) -> None:
        """Look at some children, if a pass is under way here or is due."""
        at, self._at = self._at, None
        if at is None:
            if self._clock.monotonic() < self._next_s:
                return
            self._next_s = self._clock.monotonic() + PASS_MS / 2_000
            if not await self._store.flow_sweep(self._queue, ms=PASS_MS):
                return
            at = ("", 0)
        # A turn that fails ends the pass: the next one begins anew.
        self._at = await self._look(*at)

    async def _look(self, after: str, number: int) -> tuple[str, int] | None:
        """Look at the flows after one, the first of them from a child on; tells how far it came."""
        tasks = await self._store.flows_after(self._queue, after, count=FLOWS_MAX)
        left = CHILDREN_MAX
        for task in tasks:
            found = [child for child in self._sent(task) if child.number >= number]
            for part in by_queue(found[:left]):
                await self._seek(part)
            if len(found) > left:
                return after, found[left].number
            left -= len(found)
            after, number = task.flow, 0
        return (after, 0) if len(tasks) == FLOWS_MAX else None

    def _sent(self, task: FlowTask) -> list[Child]:
        if not task.job or task.closed or SENT not in task.states:
            return []
        try:
            return list(children_of(self._queue, task, SENT, now_ms=0))
        except Malformed:
            # Whoever sends them says so, and fails the flow.
            return []

    async def _seek(self, children: list[Child]) -> None:
        queue = children[0].queue
        sought = [_sought(child) for child in children]
        for marker in await self._store.flow_lost(queue, sought):
            log.warning("flow_child_lost", queue=queue, child=marker)


def _sought(child: Child) -> SoughtChild:
    fields = dict(zip(child.job.fields[::2], child.job.fields[1::2], strict=True))
    job_type = fields[b"type"].decode()
    end = ChildEnd(
        parent=flows.read_parent(fields[PARENT]),
        id=child.id,
        type=job_type,
        reason="trimmed",
        error=ERROR,
    )
    return SoughtChild(child.job.marker, child.id, job_type, flows.encode_end(end))
