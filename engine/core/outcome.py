"""How an attempt ends. Everything that can happen to a leased job is one of these."""

from __future__ import annotations

import msgspec

from schemas.job import ErrorRecord


class Completed(msgspec.Struct, frozen=True):
    """The handler returned."""


class Failed(msgspec.Struct, frozen=True):
    """The handler raised."""

    error: ErrorRecord


class TimedOut(msgspec.Struct, frozen=True):
    """The handler ran into its time limit."""

    error: ErrorRecord


class Retried(msgspec.Struct, frozen=True):
    """The handler asked for another try; ``after_ms`` None leaves the delay to the backoff."""

    error: ErrorRecord
    after_ms: int | None = None


class Snoozed(msgspec.Struct, frozen=True):
    """The handler put the job off without spending the attempt."""

    error: ErrorRecord
    after_ms: int


class Cancelled(msgspec.Struct, frozen=True):
    """
    The job was ended for good.

    Attributes:
        error: Who did and why.
        ordered: By an operator or a producer; else by its own handler.
        started: Its handler was running.
    """

    error: ErrorRecord
    ordered: bool = False
    started: bool = True


class Held(msgspec.Struct, frozen=True):
    """The type is held: by this handler's word, or already when the job's turn came."""

    error: ErrorRecord | None = None


class Interrupted(msgspec.Struct, frozen=True):
    """The engine is stopping; the job did nothing wrong."""


class Vanished(msgspec.Struct, frozen=True):
    """The engine that held the job is gone; this engine holds it now."""


class Broken(msgspec.Struct, frozen=True):
    """The entry breaks a rule of the wire, so no handler can take it."""

    rule: str
    path: str
    error: ErrorRecord


class Trimmed(msgspec.Struct, frozen=True):
    """The entry was deleted from its stream while it was leased."""


class Early(msgspec.Struct, frozen=True):
    """The producer asked for a later start."""

    due_ms: int


class Late(msgspec.Struct, frozen=True):
    """The job's time to live ran out before it started."""


class UnknownVersion(msgspec.Struct, frozen=True):
    """No handler here knows the payload's version."""

    version: int


class Duplicate(msgspec.Struct, frozen=True):
    """Another job stands for this one, so it is not to run."""

    by: str
    replaced: bool = False


class Refused(msgspec.Struct, frozen=True):
    """A gate does not let the job through, now or later."""

    reason: str
    error: ErrorRecord


class Limited(msgspec.Struct, frozen=True):
    """The handler met a limit."""

    limit: str
    error: ErrorRecord


class Debounced(msgspec.Struct, frozen=True):
    """The job waits for the end of a burst."""

    due_ms: int


class HasChildren(msgspec.Struct, frozen=True):
    """The job waits for other jobs, which have not been sent yet."""


class ChildFailed(msgspec.Struct, frozen=True):
    """A job that it waited for ended dead, and its producer wants it to fail then."""

    error: ErrorRecord


Outcome = (
    Completed
    | Failed
    | TimedOut
    | Retried
    | Snoozed
    | Cancelled
    | Held
    | Interrupted
    | Vanished
    | Broken
    | Trimmed
    | Early
    | Late
    | UnknownVersion
    | Duplicate
    | Refused
    | Limited
    | Debounced
    | HasChildren
    | ChildFailed
)
