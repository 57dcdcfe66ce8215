"""What may follow an outcome. The store applies decisions; nothing else changes a job."""

from __future__ import annotations

import msgspec


class Acknowledge(msgspec.Struct, frozen=True):
    """The job is done."""


class RetryAt(msgspec.Struct, frozen=True):
    """
    The job goes to the delayed set.

    Attributes:
        at_ms: Unix ms from which it may start again.
        attempts: Attempts spent so far, to be carried along.
        why: ``backoff``, ``snooze``, ``delay``, ``debounce`` or ``version``.
    """

    at_ms: int
    attempts: int
    why: str


class DeadLetter(msgspec.Struct, frozen=True):
    """The job is dead, for a reason of :class:`schemas.job.DeadRecord`."""

    reason: str
    attempts: int


class SetAside(msgspec.Struct, frozen=True):
    """The job waits with the others of its held type."""

    attempts: int


class WaitFor(msgspec.Struct, frozen=True):
    """The job waits until a limit lets it through."""

    limit: str
    attempts: int


class Fold(msgspec.Struct, frozen=True):
    """The job is done without having run: another one stands for it."""

    by: str
    replaced: bool


class HandBack(msgspec.Struct, frozen=True):
    """The job goes back to its lane as if it had not been delivered."""


class RunAgain(msgspec.Struct, frozen=True):
    """The job is run under the lease that was just taken over."""


class OpenFlow(msgspec.Struct, frozen=True):
    """The job leaves its lane until its children have ended; they are sent."""

    attempts: int


Decision = (
    Acknowledge | RetryAt | DeadLetter | SetAside | WaitFor | Fold | OpenFlow | HandBack | RunAgain
)
