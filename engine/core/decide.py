"""Outcome → decision. The rule for giving up stands here and nowhere else."""

from __future__ import annotations

from typing import Protocol, assert_never

from engine.core import decision as to
from engine.core import outcome as was
from engine.core.backoff import retry_delay_ms
from engine.core.policy import TypePolicy
from schemas.rules import DELAY_MS_MAX


class Facts(Protocol):
    """
    What the decision needs to know of a job.

    Attributes:
        attempt: The attempt that just ended, from 1.
        attempts_max: The last attempt's number: the job's own wish, or its type's.
        lost: Deliveries of this job that were lost with their engines.
        enqueued_ms: Unix ms of the producer's XADD.
    """

    @property
    def attempt(self) -> int: ...
    @property
    def attempts_max(self) -> int: ...
    @property
    def lost(self) -> int: ...
    @property
    def enqueued_ms(self) -> int: ...


def decide(  # noqa: C901, PLR0912 - one case per outcome, each a line or two
    job: Facts, outcome: was.Outcome, policy: TypePolicy, *, now_ms: int, draw: float
) -> to.Decision:
    """
    Choose what becomes of a job once one attempt has ended.

    Args:
        job: The job as leased; ``attempt`` includes the attempt that just ended.
        outcome: How the attempt ended.
        policy: Limits and delays of the job's type.
        now_ms: Unix time in milliseconds.
        draw: Uniform number in [0, 1) that spreads the retry delay.

    Returns:
        The decision for the store to apply.
    """
    assert job.attempt >= 1
    unspent = job.attempt - 1
    match outcome:
        case was.Failed() | was.TimedOut() | was.Retried():
            return _retry_or_give_up(job, outcome, policy, now_ms=now_ms, draw=draw)
        case was.Completed():
            return to.Acknowledge()
        case was.Snoozed(after_ms=after_ms):
            # The handler chose to wait, so the attempt is given back.
            return to.RetryAt(at_ms=now_ms + _bounded(after_ms), attempts=unspent, why="snooze")
        case was.Cancelled(started=started):
            return to.DeadLetter(reason="cancelled", attempts=job.attempt if started else unspent)
        case was.Held():
            return to.SetAside(attempts=unspent)
        case was.Interrupted():
            return to.HandBack()
        case was.Vanished() if job.lost >= policy.deliveries_lost_max:
            return to.DeadLetter(reason="crash-loop", attempts=unspent)
        case was.Vanished():
            return to.RunAgain()
        case was.Broken():
            return to.DeadLetter(reason="malformed", attempts=unspent)
        case was.Trimmed():
            return to.DeadLetter(reason="trimmed", attempts=unspent)
        case was.Early(due_ms=due_ms):
            return to.RetryAt(at_ms=due_ms, attempts=unspent, why="delay")
        case was.Late():
            return to.DeadLetter(reason="expired", attempts=unspent)
        case was.UnknownVersion() if now_ms >= job.enqueued_ms + policy.version_grace_ms:
            return to.DeadLetter(reason="version-unknown", attempts=unspent)
        case was.UnknownVersion():
            at_ms = now_ms + policy.version_recheck_ms
            return to.RetryAt(at_ms=at_ms, attempts=unspent, why="version")
        case was.HasChildren() if job.lost >= policy.deliveries_lost_max:
            return to.DeadLetter(reason="crash-loop", attempts=unspent)
        case was.HasChildren():
            return to.OpenFlow(attempts=unspent)
        case was.ChildFailed():
            return to.DeadLetter(reason="child-failed", attempts=unspent)
        case was.Duplicate() | was.Refused() | was.Limited() | was.Debounced():
            return _kept_back(outcome, unspent)
        case _:
            assert_never(outcome)


def _kept_back(
    outcome: was.Duplicate | was.Refused | was.Limited | was.Debounced, unspent: int
) -> to.Decision:
    """What a gate keeps back spends no attempt."""
    match outcome:
        case was.Duplicate(by=by, replaced=replaced):
            return to.Fold(by=by, replaced=replaced)
        case was.Refused(reason=reason):
            return to.DeadLetter(reason=reason, attempts=unspent)
        case was.Limited(limit=limit):
            return to.WaitFor(limit=limit, attempts=unspent)
        case was.Debounced(due_ms=due_ms):
            return to.RetryAt(at_ms=due_ms, attempts=unspent, why="debounce")
        case _:
            assert_never(outcome)


def _retry_or_give_up(
    job: Facts,
    outcome: was.Failed | was.TimedOut | was.Retried,
    policy: TypePolicy,
    *,
    now_ms: int,
    draw: float,
) -> to.Decision:
    if job.attempt >= job.attempts_max:
        reason = "timeout" if isinstance(outcome, was.TimedOut) else "exhausted"
        return to.DeadLetter(reason=reason, attempts=job.attempt)
    if isinstance(outcome, was.Retried) and outcome.after_ms is not None:
        delay_ms = _bounded(outcome.after_ms)
    else:
        delay_ms = retry_delay_ms(job.attempt, policy.retry, draw)
    return to.RetryAt(at_ms=now_ms + delay_ms, attempts=job.attempt, why="backoff")


def _bounded(after_ms: float) -> int:
    """A handler's own delay; what is no number, or beyond any that a producer may ask, is cut."""
    # In this order the comparison with NaN leaves 0.
    return int(min(DELAY_MS_MAX, max(0, after_ms)))
