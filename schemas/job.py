"""
What the engine itself writes beside a producer's fields.

Both records are JSON, so that a person with ``redis-cli`` can read them. Fields may be added;
none is renamed or given another meaning, since entries of older engines must decode for ever
(``tests/golden``).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""Whatever is counted or dated; numbers that JSON readers everywhere can hold."""

JobState = Literal[
    "waiting", "parked", "active", "delayed", "held", "waiting-children", "done", "dead"
]


class ErrorRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    One thing that went wrong, shortened for storage.

    Attributes:
        kind: The error's class, or a word of the engine's such as ``timeout``.
        message: Its text, at most 500 characters.
        traceback: The innermost frames, at most 4,000 characters; empty for engine errors.
    """

    kind: str
    message: str = ""
    traceback: str = ""


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    One finished attempt in a job's story.

    Attributes:
        number: The attempt, from 1.
        at_ms: When it ended, in Unix ms.
        run_ms: How long it ran.
        engine: Which engine ran it.
        outcome: ``failed``, ``timeout``, ``retry``, ``snooze``, ``hold`` or ``lost``.
        error: What went wrong, where something did.
    """

    number: Count
    at_ms: Count
    run_ms: Count
    engine: str
    outcome: str
    error: ErrorRecord | None = None


class Meta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    The engine's own field ``_engine`` of an entry that has been through it before.

    Attributes:
        id: The job's id, fixed at its first delivery.
        enqueued_ms: Unix ms of the producer's XADD.
        attempts: Attempts spent so far.
        lost: Deliveries lost with their engines before the present stream entry.
        snoozes: How often it was put off without spending an attempt.
        redrives: How often an operator brought it back from the dead.
        ticket: Its place in the order of its lane, once it waited behind a gate or had its turn.
        why: Why it waited last: ``delay``, ``backoff``, ``snooze``, ``version``, ``hold``,
            ``limit``, ``debounce``, ``redrive`` or ``reschedule``; ``moved`` if an operator moved
            it before any engine had judged it.
        history: The last attempts, oldest first, at most ten.
        cancelled: The tombstone in hexadecimal digits, of a job that is in its lane just to end: no
            engine must start it, not even one that has not heard of the order yet.
        operation: The bulk operation that brought it back, and the id of its dead letter's entry:
            ``<operation>/<entry>``.
    """

    id: str
    enqueued_ms: Count
    attempts: Count = 0
    lost: Count = 0
    snoozes: Count = 0
    redrives: Count = 0
    ticket: str = ""
    why: str = ""
    history: tuple[AttemptRecord, ...] = ()
    cancelled: str = ""
    operation: str = ""


class Tombstone(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    Who cancelled a job; kept in ``mq:{queue}:cancelled`` by the job's id until the job has ended.

    Attributes:
        who: A person or a program.
        reason: Why.
        at_ms: Unix ms by the server's clock; 0 where it was written by hand.
        ahead: It also stops a job of this id that is enqueued later.
    """

    who: str = ""
    reason: str = ""
    at_ms: int = 0
    ahead: bool = False

    def stops(self, enqueued_ms: int) -> bool:
        """Tell whether a job of this id is meant: an id may be used again after the cancel."""
        return self.ahead or not self.at_ms or enqueued_ms <= self.at_ms


class DeadRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    The field ``_dead`` that opens an entry of the dead stream; the job's own fields follow it.

    Attributes:
        id: The job's id, or the id it would have had.
        type: The job's type, or ``other`` where the entry does not name a known one.
        lane: The lane it came through.
        entry: Its last stream entry id.
        reason: Why it is dead: ``exhausted``, ``timeout``, ``cancelled``, ``expired``,
            ``crash-loop``, ``malformed``, ``version-unknown``, ``trimmed``, ``child-failed``,
            ``id-conflict`` or ``line-full``.
        error: The last error.
        rule: The rule of the wire that it broke, if malformed.
        path: Where in the payload, as a JSONPath.
        attempts: Attempts spent.
        lost: Deliveries lost with their engines.
        redrives: How often it had been brought back before.
        ticket: Its place in the order of its key.
        enqueued_ms: Unix ms of the producer's XADD.
        died_ms: Unix ms of this end.
        fingerprint: What this death has in common with others.
        history: The last attempts, oldest first.
        cut: Bytes of the entry that were too many to keep; its SHA-256 stands in their place.
        sha256: The hash of what was cut.
    """

    id: str
    type: str
    lane: str
    entry: str
    reason: str
    error: ErrorRecord
    rule: str = ""
    path: str = ""
    attempts: int = 0
    lost: int = 0
    redrives: int = 0
    ticket: str = ""
    enqueued_ms: int
    died_ms: int
    fingerprint: str
    history: tuple[AttemptRecord, ...] = ()
    cut: int = 0
    sha256: str = ""
