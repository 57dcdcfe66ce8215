"""Bulk operations on dead letters: what is planned, what is kept of one, what people see of it."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.stats import DeadFilter, View
from schemas.story import JobRow

Verb = Literal["retry", "discard"]

OperationState = Literal[
    "waiting",
    "discarding",
    "canary",
    "watching",
    "releasing",
    "following",
    "stopped",
    "undoing",
    "finished",
    "undone",
]


class OperationRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    What ``mq:{queue}:operations`` keeps of one operation; it changes with the state alone.

    Attributes:
        id: Its name.
        queue: The queue.
        action: ``retry`` or ``discard``.
        filter: Which dead letters are meant.
        until: Entry id of the newest dead letter when it was planned; later ones are left out.
        rate: Jobs per second.
        canary: Jobs that go first; 0 for none.
        canary_dead_max: Share of these that may die again, 0 to 1.
        planned: How many jobs the plan counted.
        exact: Whether the plan had looked at all of them.
        who: Who started it.
        reason: Why.
        started_ms: Unix ms by the server's clock.
        commit_ms: Before this, a discard does nothing.
        state: ``waiting`` until a discard commits; ``discarding``; ``canary`` while the first jobs
            of a retry are moved, ``watching`` until they have ended; ``releasing`` the others;
            ``following`` those that were moved until they end; ``stopped``, ``undoing``,
            ``finished``, ``undone``.
        since_ms: Unix ms of its last change of state.
        why: Why it is stopped.
        counts: How far it was when it ended; see :class:`Operation`.
        audited: Its last change of state stands in the audit stream; until then an engine has to
            see to that.
    """

    id: str
    queue: str
    action: Verb
    filter: DeadFilter
    until: str
    rate: float
    canary: int = 0
    canary_dead_max: float = 0.2
    planned: int = 0
    exact: bool = True
    who: str = ""
    reason: str = ""
    started_ms: int = 0
    commit_ms: int = 0
    state: OperationState = "canary"
    since_ms: int = 0
    why: str = ""
    counts: dict[str, int] = {}
    audited: bool = True


class Plan(View, frozen=True, kw_only=True):
    """
    What an operation would do.

    Attributes:
        id: What starts it.
        queue: The queue.
        action: ``retry`` or ``discard``.
        filter: Which dead letters are meant.
        until: Entry id of the newest dead letter that is meant.
        rate: Jobs per second.
        canary: Jobs that go first.
        count: Jobs that would be changed, among those that were looked at.
        unable: Those that cannot be, by why.
        searched: Dead letters looked at.
        total: Dead letters that there are to look at.
        complete: Every one was looked at, so that ``count`` is exact; else ask again with the id.
        estimate: Jobs that would be changed in all, as far as is known.
        samples: The first jobs that would be changed.
        duration_ms: How long it will take at this rate, without the canary's own time.
        confirm: The queue's name must be typed to start it.
        expires_ms: Unix ms until which it can be started.
    """

    id: str
    queue: str
    action: Verb
    filter: DeadFilter
    until: str
    rate: float
    canary: int
    count: int = 0
    unable: dict[str, int] = msgspec.field(default_factory=dict)
    searched: int = 0
    total: int = 0
    complete: bool = False
    estimate: int = 0
    samples: list[JobRow] = msgspec.field(default_factory=list)
    duration_ms: int = 0
    confirm: bool = False
    expires_ms: int = 0


class Operation(View, frozen=True, kw_only=True):
    """
    One operation and how far it is.

    Attributes:
        record: What was asked for, and its state.
        moved: Jobs that left the dead letters, for the delayed set or for good.
        waiting: Those of them whose time has not come.
        released: Those of them that went to their lanes.
        done: Those of them that are done.
        died_again: Those of them that are dead again.
        undone: Those that are dead letters again as they were.
        gone: Jobs that somebody else had taken meanwhile.
        unable: Jobs that cannot be brought back, by why.
        left: Jobs of the plan that are still to be moved, as far as is known.
        undoable: Jobs that undoing it now would bring back, at most.
        can: Which of ``stop``, ``resume`` and ``undo`` are possible now.
        now_ms: Unix ms by the server's clock.
    """

    record: OperationRecord
    moved: int = 0
    waiting: int = 0
    released: int = 0
    done: int = 0
    died_again: int = 0
    undone: int = 0
    gone: int = 0
    unable: dict[str, int] = msgspec.field(default_factory=dict)
    left: int = 0
    undoable: int = 0
    can: list[str] = msgspec.field(default_factory=list)
    now_ms: int = 0


class Operations(View, frozen=True, kw_only=True):
    """
    Operations, the latest first.

    Attributes:
        operations: At most as many as were asked for.
        more: How many others there are.
    """

    operations: list[Operation]
    more: int = 0
