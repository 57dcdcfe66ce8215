"""What a job waits for that has children, and what becomes of it after them. Pure."""

from __future__ import annotations

from engine.core import outcome as was
from engine.wire.codec import Envelope
from schemas.flow import ChildFailure
from schemas.job import ErrorRecord

ERROR_CHARS_MAX = 500


def for_children(envelope: Envelope) -> was.Outcome | None:
    """Say whether a job must wait for its children, or why it cannot run after them."""
    family = envelope.family
    if family is None:
        return was.HasChildren()
    if family.how in {"complete", "continued"}:
        return None
    if envelope.meta is not None and envelope.meta.redrives > family.redrives:
        # An operator wants it tried again: those that are not done, then itself.
        return was.HasChildren()
    if family.how == "cancelled":
        error = ErrorRecord(kind="Cancelled", message="while it waited for its children")
        return was.Cancelled(error=error, ordered=True, started=False)
    cause = family.failures[0] if family.failures else None
    return was.ChildFailed(error=ErrorRecord(kind="ChildFailed", message=_told(cause)))


def waits_for_children(envelope: Envelope) -> bool:
    """Tell whether a job cannot run before its children have ended."""
    return envelope.children > 0 and isinstance(for_children(envelope), was.HasChildren)


def _told(failure: ChildFailure | None) -> str:
    if failure is None:
        return "one of its children ended dead"
    who = f"child {failure.number}, {failure.id} ({failure.type} in {failure.queue})"
    error = f": {failure.error}" if failure.error else ""
    return f"{who}, ended dead: {failure.reason}{error}"[:ERROR_CHARS_MAX]
