"""
Bulk operations on dead letters: pace, canary and states. Pure.

A retry goes ``canary → watching → releasing → following → finished``, without the first two where
no canary was asked for; a discard goes ``waiting → discarding → finished``. Whatever lives can be
``stopped``; a retry goes on from there, or is taken back: ``undoing → undone``.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from schemas.operations import OperationRecord, OperationState, Verb

LIVE = frozenset(
    ("waiting", "discarding", "canary", "watching", "releasing", "following", "undoing")
)
"""States in which an engine has something to do for it."""

MOVING = frozenset(("discarding", "canary", "releasing"))
STOPPABLE = frozenset(("waiting", "discarding", "canary", "watching", "releasing"))

AHEAD_MS = 10_000
"""How far ahead of their time jobs are moved: so much goes on while nobody drives."""

STEP_MS = 250
"""An operation that waits for its pace is looked at so often."""

COMMIT_MS = 10_000
"""A discard may be taken back for so long."""

FOLLOW_MS_MAX = 86_400_000
"""Jobs that were moved are followed for so long; then it counts as finished."""

RATE_MIN = 0.001
RATE_MAX = 10_000.0
CANARY_MAX = 10_000

Verdict = Literal["wait", "good", "bad"]


class Pace(msgspec.Struct):
    """
    When the next job is due.

    Attributes:
        per_s: Jobs per second.
        next_ms: Due time of the next one; fractions count, or high rates would be rounded away.
    """

    per_s: float
    next_ms: float = 0.0

    def room(self, now_ms: int, *, ahead_ms: int) -> int:
        """Count the jobs that may be moved now."""
        ahead = now_ms + ahead_ms - max(self.next_ms, now_ms)
        return int(ahead * self.per_s / 1e3) + 1 if ahead >= 0 else 0

    def take(self, now_ms: int, jobs: int) -> list[int]:
        """
        Give the next jobs their due times.

        What was missed while nobody drove is not made up for: a burst would follow.
        """
        self.next_ms = max(self.next_ms, float(now_ms))
        step = 1e3 / self.per_s
        dues = [int(self.next_ms + step * number) for number in range(jobs)]
        self.next_ms += step * jobs
        return dues


def ahead_ms(action: Verb) -> int:
    """Tell how far ahead of their time jobs are moved; dropped ones, as far as the next look."""
    return STEP_MS if action == "discard" else AHEAD_MS


def duration_ms(jobs: int, rate: float, canary: int) -> int:
    """Tell how long it takes to release so many jobs; the canary goes at once."""
    return int(max(0, jobs - canary) * 1e3 / rate)


def judge_canary(*, moved: int, done: int, dead: int, dead_max: float) -> Verdict:
    """
    Judge the first jobs of a retry.

    Args:
        moved: How many there are.
        done: How many are done.
        dead: How many died again.
        dead_max: Share of them that may.
    """
    if dead > dead_max * moved:
        return "bad"
    return "good" if done + dead >= moved else "wait"


def lost_canary(lost: int, moved: int) -> str:
    """Say why a canary is not judged: who deletes jobs has to say what that means."""
    return f"the canary cannot be judged: somebody deleted {lost} of its {moved} jobs"


def lost_jobs(lost: int) -> str:
    """Say why an operation ends though not all of its jobs did."""
    return f"{lost} of its jobs were deleted by somebody before they ended"


def kept_jobs(keyed: int, others: int) -> str:
    """Say which jobs an undo has not made dead letters again, and why."""
    told = [f"{others} that had started"] if others else []
    if keyed:
        # Others may be behind them by now, so they are left where they are.
        told.append(f"{keyed} with an ordering key that had come to their place in its order")
    return f"not taken back: {'; '.join(told)}" if told else ""


def first_state(action: Verb, canary: int) -> OperationState:
    """Return the state in which an operation starts."""
    if action == "discard":
        return "waiting"
    return "canary" if canary else "releasing"


def can(record: OperationRecord, *, undoable: int) -> list[str]:
    """Tell what may be done with an operation: ``stop``, ``resume``, ``undo``."""
    possible = []
    if record.state in STOPPABLE:
        possible.append("stop")
    if record.state == "stopped":
        possible.append("resume")
    if record.action == "discard":
        if record.state == "waiting":
            possible.append("undo")
    elif undoable and record.state not in {"undoing", "undone", "finished"}:
        possible.append("undo")
    return possible


def moved_by(record: OperationRecord) -> int:
    """Count the jobs that an operation that ended has moved, or taken back."""
    return record.counts.get("undone" if record.state == "undone" else "moved", 0)


def told_of(record: OperationRecord) -> dict[str, Any]:
    """
    Say what the audit stream tells of an operation's end.

    It follows from the record alone, so whoever writes it writes the same.
    """
    what = {"finished": "end", "stopped": "stop", "undone": "undone"}[record.state]
    detail = {"operation": record.id, "jobs": moved_by(record)}
    return {
        "who": record.who,
        "what": f"{record.action}-{what}",
        "queue": record.queue,
        "detail": detail | {"diedAgain": record.counts.get("dead", 0)},
        "reason": record.why or record.reason,
    }


def resumed(record: OperationRecord) -> OperationState:
    """Return the state in which a stopped one goes on: a canary that failed was overruled."""
    return "discarding" if record.action == "discard" else "releasing"
