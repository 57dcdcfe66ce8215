"""The verbs of flows over the model, for :class:`engine.testing.memory_store.MemoryStore`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from engine.store.flow_base import Applied, ChildJob, ChildNote, FlowTask, SoughtChild
from engine.testing.queue_model import QueueModel

Answer = TypeVar("Answer")


class FlowMemory:
    """See :class:`engine.store.flow_base.FlowStore`."""

    def _queue(self, name: str) -> QueueModel:
        raise NotImplementedError

    async def _apply(self, verb: str, act: Callable[[], Answer]) -> Answer:
        raise NotImplementedError

    async def flow_tasks(self, queue: str, *, count: int, lease_ms: int) -> list[FlowTask]:
        """Take flows that have something to do."""
        model = self._queue(queue)
        return await self._apply(
            "flow_tasks", lambda: model.flow_tasks(count=count, lease_ms=lease_ms)
        )

    async def flow_send(
        self, queue: str, children: Sequence[ChildJob], *, until_ms: int
    ) -> list[bool]:
        """Append children to their lanes."""
        model = self._queue(queue)
        return await self._apply("flow_send", lambda: model.flow_send(children, until_ms=until_ms))

    async def flow_cancel(
        self, queue: str, children: Sequence[tuple[str, str]], *, who: str, reason: str
    ) -> int:
        """Write tombstones for children."""
        model = self._queue(queue)
        return await self._apply(
            "flow_cancel", lambda: model.flow_cancel(children, who=who, reason=reason)
        )

    async def flows_of(self, queue: str, job_ids: Sequence[str]) -> list[FlowTask]:
        """Look at the flows of these parents."""
        return await self._apply("flows_of", lambda: self._queue(queue).flows_of(job_ids))

    async def flow_sweep(self, queue: str, *, ms: int) -> bool:
        """Take the right to look for lost children."""
        return await self._apply("flow_sweep", lambda: self._queue(queue).flow_sweep(ms=ms))

    async def flows_after(self, queue: str, after: str, *, count: int) -> list[FlowTask]:
        """Look at flows in the order of their names."""
        model = self._queue(queue)
        return await self._apply("flows_after", lambda: model.flows_after(after, count=count))

    async def flow_lost(self, queue: str, children: Sequence[SoughtChild]) -> list[str]:
        """Find children that are nowhere any more."""
        model = self._queue(queue)
        return await self._apply("flow_lost", lambda: model.flow_lost(children))

    async def flow_children(
        self, queue: str, places: Sequence[tuple[str, bytes]]
    ) -> dict[tuple[str, bytes], str]:
        """Find children by the entries in which they were sent."""
        model = self._queue(queue)
        return await self._apply("flow_children", lambda: model.flow_children(places))

    async def flow_mark(
        self, queue: str, flow: str, sent: Sequence[int], *, until_ms: int, over: bool = False
    ) -> str:
        """Note which children were sent."""
        model = self._queue(queue)
        return await self._apply(
            "flow_mark", lambda: model.flow_mark(flow, sent, until_ms=until_ms, over=over)
        )

    async def flow_ends(self, queue: str, *, after: bytes, count: int) -> list[tuple[bytes, bytes]]:
        """Read messages of children that ended."""
        model = self._queue(queue)
        return await self._apply("flow_ends", lambda: model.flow_ends(after=after, count=count))

    async def flow_apply(self, queue: str, flow: str, notes: Sequence[ChildNote]) -> Applied:
        """Note ends of children."""
        model = self._queue(queue)
        return await self._apply("flow_apply", lambda: model.flow_apply(flow, notes))

    async def flow_clean(self, queue: str, ends: Sequence[tuple[bytes, str, str]]) -> int:
        """Forget messages."""
        return await self._apply("flow_clean", lambda: self._queue(queue).flow_clean(ends))
