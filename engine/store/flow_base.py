"""
The verbs of flows, as a protocol; see :mod:`engine.store.base`.

A flow's state lies in its parent's queue, its children in theirs. No script touches both: what
travels between them is sent at least once and applied once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

FLOW_WHO = "flow "
"""How the names of those begin who cancel on behalf of a flow."""

SOUGHT_AMONG_MAX = 5_000
"""Jobs of a queue, in all places, among which children are sought; with more, none is."""

SOUGHT_BYTES_MAX = 16 * 1_048_576
"""Memory that those jobs may take, about: one script goes through them all."""


class Opened(msgspec.Struct, frozen=True):
    """
    A flow that a settlement opens.

    Attributes:
        flow: Its name.
        fields: What is known of it: names and values of its hash in turn.
    """

    flow: str
    fields: list[bytes]


class FlowTask(msgspec.Struct, frozen=True):
    """
    A flow that has children to send or to cancel, ours until a moment.

    Attributes:
        flow: Its name.
        until_ms: Unix ms by the server's clock from which on another engine may take it.
        job: The parent: lane, then its fields; empty where the flow is gone.
        states: What is known of each child, one letter each.
        closed: How the flow was closed, or an empty string.
    """

    flow: str
    until_ms: int
    job: list[bytes]
    states: str
    closed: str


class ChildJob(msgspec.Struct, frozen=True):
    """
    A child on its way to its lane.

    Attributes:
        marker: Names it among all children that were sent to its queue.
        lane: Its lane.
        fields: Its fields.
    """

    marker: str
    lane: str
    fields: list[bytes]


class ChildNote(msgspec.Struct, frozen=True):
    """
    A child's end, as it is noted in its parent's flow.

    Attributes:
        number: The child, from 0; -1 for the cancelling of the parent itself.
        letter: One of :mod:`schemas.flow`.
        closes: How it closes the flow at once, or an empty string.
        result: JSON, or nothing.
        failure: JSON of a :class:`schemas.flow.ChildFailure`, or nothing.
    """

    number: int
    letter: str
    closes: str = ""
    result: bytes = b""
    failure: bytes = b""


class SoughtChild(msgspec.Struct, frozen=True):
    """
    A child that was sent and has not ended as far as its parent's flow knows.

    Attributes:
        marker: Names it among all children that were sent to its queue.
        id: Its job id.
        type: Its type.
        message: What its parent is told if it is nowhere any more.
    """

    marker: str
    id: str
    type: str
    message: bytes


class Applied(msgspec.Struct, frozen=True):
    """
    What became of ends of children.

    Attributes:
        closed: How they closed their parent's flow just now, or an empty string.
        later: Numbers of children whose ends are to be told again soon.
    """

    closed: str = ""
    later: frozenset[int] = frozenset()


class FlowStore(Protocol):
    """What an engine asks of its queues for jobs that wait for other jobs."""

    async def flow_tasks(self, queue: str, *, count: int, lease_ms: int) -> list[FlowTask]:
        """Take flows that have something to do; others leave them alone for ``lease_ms``."""

    async def flow_send(
        self, queue: str, children: Sequence[ChildJob], *, until_ms: int
    ) -> list[bool]:
        """
        Append children to lanes of their queue, each once however often it is sent.

        Returns:
            For each, whether it is in its lane or has been; empty where it is too late to send.
        """

    async def flow_cancel(
        self, queue: str, children: Sequence[tuple[str, str]], *, who: str, reason: str
    ) -> int:
        """
        Write tombstones for children, given as marker and job id, whose ends are not known.

        Only whoever holds their flow may call this, so that none is sent afterwards.
        """

    async def flows_of(self, queue: str, job_ids: Sequence[str]) -> list[FlowTask]:
        """Look at the flows whose parents have these ids and wait."""

    async def flow_children(
        self, queue: str, places: Sequence[tuple[str, bytes]]
    ) -> dict[tuple[str, bytes], str]:
        """Find the markers of children by the lanes and entries in which they were sent."""

    async def flow_sweep(self, queue: str, *, ms: int) -> bool:
        """Take the right to look for lost children of the queue's flows, which lasts so long."""

    async def flows_after(self, queue: str, after: str, *, count: int) -> list[FlowTask]:
        """Look at flows whose parents wait, in the order of their names."""

    async def flow_lost(self, queue: str, children: Sequence[SoughtChild]) -> list[str]:
        """
        Find children that are nowhere in their queue any more, and leave messages to their parents.

        A child that may live is never found: not one that an engine has, nor one that goes from
        place to place meanwhile; with over :data:`SOUGHT_AMONG_MAX` jobs, or
        :data:`SOUGHT_BYTES_MAX` of them, none is looked for.

        Returns:
            The markers of those whose parents are told now.
        """

    async def flow_mark(
        self, queue: str, flow: str, sent: Sequence[int], *, until_ms: int, over: bool = False
    ) -> str:
        """
        Note which children were sent, or that a closed flow is over; returns how it closed.

        Nothing is noted where another engine has taken the flow, which was ours to ``until_ms``.
        """

    async def flow_ends(self, queue: str, *, after: bytes, count: int) -> list[tuple[bytes, bytes]]:
        """Read messages of children that ended in this queue, as entry and message."""

    async def flow_apply(self, queue: str, flow: str, notes: Sequence[ChildNote]) -> Applied:
        """
        Note ends of children, and bring the parent to its lane once it waits no more.

        A child that is not known to be sent while an engine may be sending it is put off, lest
        it be sent again once its own queue has forgotten it.
        """

    async def flow_clean(self, queue: str, ends: Sequence[tuple[bytes, str, str]]) -> int:
        """
        Forget messages, given with their children's markers and job ids.

        A tombstone that a flow laid for such a child goes as well.

        Returns:
            How many messages there were.
        """
