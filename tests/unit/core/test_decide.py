"""Each outcome's decision, and the one rule for giving up."""

from __future__ import annotations

from typing import get_args

import pytest

from engine.core import decision as to
from engine.core import outcome as was
from engine.core.decide import decide
from engine.core.policy import RetryPolicy, TypePolicy
from schemas.job import ErrorRecord
from schemas.rules import DELAY_MS_MAX
from tests.support.jobs import JobFacts

NOW_MS = 1_763_769_600_000
ERROR = ErrorRecord(kind="ValueError")
POLICY = TypePolicy(
    retry=RetryPolicy(attempts_max=3, base_ms=1_000, cap_ms=60_000, jitter=0.0),
    deliveries_lost_max=3,
    version_grace_ms=600_000,
    version_recheck_ms=15_000,
)
FAILURES = [was.Failed(ERROR), was.TimedOut(ERROR), was.Retried(ERROR)]


def decided(
    outcome: was.Outcome,
    *,
    attempt: int = 1,
    attempts_max: int = 3,
    lost: int = 0,
    enqueued_ms: int = NOW_MS,
    draw: float = 0.5,
) -> to.Decision:
    job = JobFacts(attempt=attempt, attempts_max=attempts_max, lost=lost, enqueued_ms=enqueued_ms)
    return decide(job, outcome, POLICY, now_ms=NOW_MS, draw=draw)


def test_a_completed_job_is_done_at_any_attempt() -> None:
    assert decided(was.Completed(), attempt=3) == to.Acknowledge()


@pytest.mark.parametrize("outcome", FAILURES)
def test_a_failure_is_tried_again_after_the_backoff(outcome: was.Outcome) -> None:
    assert decided(outcome, attempt=2) == to.RetryAt(
        at_ms=NOW_MS + 2_000, attempts=2, why="backoff"
    )


@pytest.mark.parametrize(
    ("outcome", "reason"), [*zip(FAILURES, ["exhausted", "timeout", "exhausted"], strict=True)]
)
def test_the_last_attempt_gives_up(outcome: was.Outcome, reason: str) -> None:
    assert decided(outcome, attempt=3) == to.DeadLetter(reason=reason, attempts=3)


@pytest.mark.parametrize("outcome", FAILURES)
def test_more_attempts_than_allowed_give_up_too(outcome: was.Outcome) -> None:
    """A redeployed engine may allow fewer attempts than a job has spent."""
    assert isinstance(decided(outcome, attempt=9), to.DeadLetter)


def test_a_jobs_own_limit_wins_over_its_types() -> None:
    assert isinstance(decided(was.Failed(ERROR), attempt=1, attempts_max=1), to.DeadLetter)
    assert isinstance(decided(was.Failed(ERROR), attempt=3, attempts_max=100), to.RetryAt)


def test_a_handlers_own_delay_wins_over_the_backoff() -> None:
    outcome = was.Retried(ERROR, after_ms=7)

    assert decided(outcome) == to.RetryAt(at_ms=NOW_MS + 7, attempts=1, why="backoff")
    assert isinstance(decided(outcome, attempt=3), to.DeadLetter)


def test_a_snooze_spends_no_attempt_and_never_gives_up() -> None:
    outcome = was.Snoozed(ERROR, after_ms=50)

    for attempt in (1, 3, 50):
        assert decided(outcome, attempt=attempt) == to.RetryAt(
            at_ms=NOW_MS + 50, attempts=attempt - 1, why="snooze"
        )


@pytest.mark.parametrize("after_ms", [10**400, float("inf"), float("nan"), -5, 1.5])
def test_a_delay_that_makes_no_sense_is_bounded(after_ms: float) -> None:
    """The server would refuse such a score after the entry had left its lane."""
    for outcome in (
        was.Snoozed(ERROR, after_ms=after_ms),  # type: ignore[arg-type]
        was.Retried(ERROR, after_ms=after_ms),  # type: ignore[arg-type]
    ):
        found = decided(outcome)
        assert isinstance(found, to.RetryAt)
        assert isinstance(found.at_ms, int)
        assert NOW_MS <= found.at_ms <= NOW_MS + DELAY_MS_MAX


def test_a_cancelled_job_is_dead_at_its_first_attempt() -> None:
    assert decided(was.Cancelled(ERROR)) == to.DeadLetter(reason="cancelled", attempts=1)


def test_a_held_type_spends_no_attempt() -> None:
    assert decided(was.Held(), attempt=3) == to.SetAside(attempts=2)


def test_an_interrupted_job_goes_back_as_it_came() -> None:
    assert decided(was.Interrupted(), attempt=3) == to.HandBack()


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        (0, to.RunAgain()),
        (2, to.RunAgain()),
        (3, to.DeadLetter(reason="crash-loop", attempts=1)),
        (9, to.DeadLetter(reason="crash-loop", attempts=1)),
    ],
)
def test_a_job_may_lose_so_many_engines(lost: int, expected: to.Decision) -> None:
    assert decided(was.Vanished(), attempt=2, lost=lost) == expected


def test_losing_engines_counts_no_attempt() -> None:
    """Crashes and failures have bounds of their own."""
    assert decided(was.Vanished(), attempt=100, attempts_max=3, lost=1) == to.RunAgain()


def test_what_never_started_spends_no_attempt() -> None:
    broken = was.Broken(rule="data-json", path="", error=ERROR)

    assert decided(broken) == to.DeadLetter(reason="malformed", attempts=0)
    assert decided(was.Trimmed()) == to.DeadLetter(reason="trimmed", attempts=0)
    assert decided(was.Late(), attempt=2) == to.DeadLetter(reason="expired", attempts=1)
    assert decided(was.Early(due_ms=NOW_MS + 9)) == to.RetryAt(
        at_ms=NOW_MS + 9, attempts=0, why="delay"
    )


@pytest.mark.parametrize(("age_ms", "dead"), [(0, False), (599_999, False), (600_000, True)])
def test_an_unknown_version_waits_for_its_grace(age_ms: int, dead: bool) -> None:
    found = decided(was.UnknownVersion(version=9), enqueued_ms=NOW_MS - age_ms)

    if dead:
        assert found == to.DeadLetter(reason="version-unknown", attempts=0)
    else:
        assert found == to.RetryAt(at_ms=NOW_MS + 15_000, attempts=0, why="version")


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        (2, to.OpenFlow(attempts=1)),
        (3, to.DeadLetter(reason="crash-loop", attempts=1)),
    ],
)
def test_a_parent_waits_for_its_children_unless_it_kills_engines(
    lost: int, expected: to.Decision
) -> None:
    assert decided(was.HasChildren(), attempt=2, lost=lost) == expected


def test_a_failed_child_is_the_end_of_its_parent() -> None:
    assert decided(was.ChildFailed(ERROR)) == to.DeadLetter(reason="child-failed", attempts=0)


def test_what_a_gate_keeps_back_spends_no_attempt() -> None:
    refused = was.Refused(reason="id-conflict", error=ERROR)

    assert decided(refused, attempt=2) == to.DeadLetter(reason="id-conflict", attempts=1)
    assert decided(was.Debounced(due_ms=NOW_MS + 9), attempt=2) == to.RetryAt(
        at_ms=NOW_MS + 9, attempts=1, why="debounce"
    )
    assert decided(was.Limited("sms", ERROR), attempt=2) == to.WaitFor(limit="sms", attempts=1)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_duplicate_is_done_by_the_job_that_stands_for_it(replaced: bool) -> None:
    outcome = was.Duplicate(by="j1", replaced=replaced)

    assert decided(outcome, attempt=9) == to.Fold(by="j1", replaced=replaced)


def test_every_outcome_has_a_test_here() -> None:
    """A new outcome must be thought of; the property test makes one of each by hand."""
    assert len(get_args(was.Outcome)) == 20
