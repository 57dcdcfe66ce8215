"""What a job gives back to the gates when its attempt ends, and what it keeps. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from engine.core import decision as to
from engine.core import outcome as was
from engine.core.limits import SHARE
from engine.runtime.jobs import LiveJob
from engine.store.gates import How, Leave
from engine.wire.keys import READY

_GATED = frozenset({b"key", b"unique"})
"""Fields for which something may be held before any engine asks: a client has taken a value."""


class Decided(Protocol):
    """The end of an attempt, and what becomes of the job."""

    @property
    def job(self) -> LiveJob: ...
    @property
    def outcome(self) -> was.Outcome: ...
    @property
    def decision(self) -> to.Decision: ...


def leaves_of(
    successes: Sequence[LiveJob], endings: Sequence[Decided], *, gates: bool
) -> list[Leave]:
    """
    Say which entries may hold something of the gates: a turn, a place, a unique value.

    Args:
        successes: Jobs that are done.
        endings: All other ends.
        gates: Jobs of the queue have asked for gates.
    """
    leaves = []
    if gates:
        leaves = [_leave(job, "free") for job in successes if job.lease.gated]
    for ending in endings:
        if not _may_hold(ending, gates=gates):
            continue
        job, how = ending.job, _how(ending.decision)
        if isinstance(ending.outcome, was.Cancelled) and ending.outcome.ordered:
            # Who cancels a job does not want others to wait for it.
            how = "free"
        elif how == "dead" and (isinstance(ending.outcome, was.Trimmed) or not _key_of(job)):
            # Nobody could bring it back, or tell the key that it would keep.
            how = "free"
        leave = _leave(job, how)
        if _stands_back(ending.decision):
            # Another job of its id may have taken the value.
            leave = msgspec.structs.replace(leave, unique="")
        leaves.append(leave)
    return leaves


def _may_hold(ending: Decided, *, gates: bool) -> bool:
    """Tell whether there may be anything to give back."""
    lease = ending.job.lease
    if lease.gated or isinstance(ending.decision, to.WaitFor):
        # Whoever waits for a limit is put behind it by the settlement that knows of gates.
        return True
    # An entry that could not be read may have been noted by its key all the same.
    told = gates and len(lease.fields) != 4
    return told or not _GATED.isdisjoint(lease.fields[::2])


def _key_of(job: LiveJob) -> str:
    return job.envelope.key if job.envelope is not None else ""


def _how(decision: to.Decision) -> How:
    match decision:
        case to.RetryAt(why=why):
            return "early" if why in {"delay", "debounce"} else "keep"
        case to.OpenFlow():
            # It takes its place in the order anew when its children have ended.
            return "early"
        case to.SetAside() | to.WaitFor():
            return "keep"
        case to.DeadLetter():
            return "dead"
        case to.HandBack():
            return "back"
    return "free"


def _stands_back(decision: to.Decision) -> bool:
    """Tell whether an earlier job with the same id or value keeps what both ask for."""
    if isinstance(decision, to.Fold):
        return True
    return isinstance(decision, to.DeadLetter) and decision.reason == "id-conflict"


def _leave(job: LiveJob, how: How) -> Leave:
    envelope = job.envelope
    if envelope is None:
        return Leave(job.lease.entry, how, job_id=job.id)
    return Leave(
        job.lease.entry,
        how,
        key=envelope.key,
        ticket=job.ticket,
        unique=envelope.unique,
        job_id=job.id,
    )


def comes_back_to(job: LiveJob, decision: to.Decision) -> str:
    """Name the stream to which a job comes back: with its turn, past the backlog of its lane."""
    has_turn = job.envelope is not None and job.envelope.key and _how(decision) == "keep"
    return READY[job.lane] if has_turn else job.lane


def head_of(job: LiveJob, limit: str) -> list[str]:
    """What a job asks for that waits for a limit: this one, and those that it began under."""
    envelope = job.envelope
    key, unique = (envelope.key, envelope.unique) if envelope is not None else ("", "")
    limits = job.lease.limits
    if limit not in (each.partition(SHARE)[0] for each in limits):
        limits = (*limits, limit)
    return [key, unique, job.id, " ".join(limits)]


def ticket_kept(job: LiveJob, decision: to.Decision) -> str:
    """The place in the order that a job keeps; one that was put off gives it up."""
    if isinstance(decision, to.WaitFor):
        return job.ticket
    envelope = job.envelope
    if envelope is None or not (envelope.key or (envelope.meta and envelope.meta.ticket)):
        return ""
    return job.ticket if _how(decision) == "keep" else ""
