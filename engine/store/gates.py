"""
What jobs ask for before they start, and what they give back at their end.

A job that asks for something (a key, a unique value, a limit, an id that must be new) is *gated*:
before its handler starts, the engine asks :meth:`GateStore.admit`. The answer is the same however
often it is asked. What waits is taken out of its lane and comes back through the lane's stream of
jobs that were let through, by the settlement that made room or by :meth:`GateStore.release`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from engine.wire.packing import pack
from schemas.rules import LANES

Word = Literal[
    "run", "parked", "full", "lost", "again", "duplicate", "replaced", "conflict", "wait"
]
How = Literal["free", "dead", "keep", "early", "back"]


class Question(msgspec.Struct, kw_only=True, gc=False):
    """
    May this job start?

    Attributes:
        entry: Its stream entry.
        deliveries: The delivery count of its lease.
        ticket: Its place in the lane's order, where it has one already.
        key: Its ordering key, or an empty string.
        job_id: Its id.
        unique: Its unique value, or an empty string.
        mode: How the value is taken; see :class:`engine.wire.claims.Claim`.
        ms: Likewise.
        ms_max: Likewise.
        wakes: The time of a debounced job has come.
        own_id: The producer's id where it must be new, or an empty string.
        body: Hash of the payload, to tell a repeat from a conflict.
        limits: Names of the limits that it goes by.
    """

    entry: bytes
    deliveries: int = 1
    ticket: str = ""
    key: str = ""
    job_id: str = ""
    unique: str = ""
    mode: str = ""
    ms: int = 0
    ms_max: int = 0
    wakes: bool = False
    own_id: str = ""
    body: str = ""
    limits: tuple[str, ...] = ()


def is_plain(stream: str, question: Question) -> bool:
    """Tell whether a job asks for nothing but the turn of its key, where its XADD put it."""
    return bool(
        question.key
        and question.deliveries == 1
        and stream in LANE_NUMBERS
        and not (question.ticket or question.unique or question.own_id or question.limits)
    )


class Answer(msgspec.Struct, frozen=True):
    """
    What the store says.

    Attributes:
        word: ``run``; ``parked``: it has left its stream and will come back; ``full``: too many
            wait behind its key; ``lost``: the lease is another's; ``again``: ask once more;
            ``duplicate``, ``replaced``, ``conflict``: it is not to run; ``wait``: not yet.
        detail: The other job's id, or until when to wait in Unix ms.
        other: For ``wait``, the id of the job that this one replaces.
    """

    word: Word
    detail: str = ""
    other: str = ""


class Leave(msgspec.Struct, frozen=True, gc=False):
    """
    An entry goes through its end past the gates.

    Attributes:
        entry: The stream entry.
        how: ``free`` or ``dead`` where the job has ended; ``keep`` where it comes back and keeps
            its turn; ``early`` where it comes back and gives the turn away; ``back`` where the
            entry is handed back, and keeps its turn alone.
        key: Its key.
        ticket: Its place in the order.
        unique: Its unique value.
        job_id: Its id.
    """

    entry: bytes
    how: How
    key: str = ""
    ticket: str = ""
    unique: str = ""
    job_id: str = ""


class Behind(msgspec.Struct, frozen=True, gc=False):
    """
    A job whose handler met a limit and waits for it.

    Attributes:
        lane: Its lane.
        limit: The limit.
        member: Line, ticket and packed job, as the zset of parked jobs keeps them.
    """

    lane: str
    limit: str
    member: bytes


def behind(lane: str, limit: str, ticket: str, head: Sequence[str], fields: list[bytes]) -> Behind:
    """
    Put a job behind a limit.

    Args:
        lane: Its lane.
        limit: The limit.
        ticket: Its place in the order.
        head: Its key, unique value and id, and the limits that it goes by, joined by spaces.
        fields: The entry's fields with the engine's own.
    """
    packed = pack(["\0".join(head).encode(), *fields])
    return Behind(lane, limit, f"l{limit}\0{ticket}\0".encode() + packed)


def ticket_of(entry: bytes) -> str:
    """Write an entry's place in its lane so that it sorts as text."""
    ms, _, number = entry.decode().partition("-")
    return f"{ms:0>15}-{number:0>10}"


class Released(msgspec.Struct):
    """
    What limits let through.

    Attributes:
        moved: Jobs moved.
        next_ms: Milliseconds until a limit may open; None where no time opens one.
    """

    moved: int
    next_ms: int | None


class GateStore(Protocol):
    """What an engine asks of the gates; part of :class:`engine.store.base.Store`."""

    async def admit(
        self,
        queue: str,
        stream: str,
        questions: Sequence[Question],
        *,
        id_window_ms: int,
        line_max: int,
    ) -> list[Answer]:
        """Ask for jobs of one stream whether they may start; answers in the order of questions."""

    async def limit(
        self, queue: str, stream: str, question: Question, name: str, *, shut_ms: int = 0
    ) -> Literal["open", "shut", "lost"]:
        """
        Take a place and a token of a named limit for a running job, or shut the limit.

        Args:
            queue: The queue.
            stream: The job's stream.
            question: The job.
            name: The limit.
            shut_ms: Above 0, nobody is let through for so long.
        """

    async def release(self, queue: str, *, count: int, every: bool = False) -> Released:
        """
        Let through what limits may let through by now.

        Args:
            queue: The queue.
            count: Most jobs to move.
            every: Look at all limits that somebody waits for, as after a change of their rules.
        """

    async def declare_limits(self, queue: str, rules: dict[str, str]) -> None:
        """Write down the limits of the code, where no operator has said otherwise."""


LANE_NUMBERS = {lane: number + 1 for number, lane in enumerate(LANES)}
