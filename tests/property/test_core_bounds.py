"""Bounds that hold for whatever the core is given."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from engine.core import decision as to
from engine.core import outcome as was
from engine.core.backoff import retry_delay_ms
from engine.core.capacity import count_by_bytes, prefetch
from engine.core.decide import decide
from engine.core.fingerprint import fingerprint
from engine.core.lanes import LanePlan
from engine.core.leases import RELEASED_IDLE_MS, ReclaimGate
from engine.core.policy import RetryPolicy, TypePolicy
from schemas.job import ErrorRecord
from schemas.rules import DELAY_MS_MAX, LANES
from tests.support.jobs import JobFacts

NOW_MS = 1_763_769_600_000
ERROR = ErrorRecord(kind="E")
millis = st.integers(0, 10**13)
anything = st.integers() | st.floats(allow_nan=False)
draws = st.floats(0, 1, exclude_max=True)
outcomes = st.one_of(
    st.sampled_from(
        [
            was.Completed(),
            was.Failed(ERROR),
            was.TimedOut(ERROR),
            was.Retried(ERROR),
            was.Cancelled(ERROR),
            was.Held(),
            was.Held(ERROR),
            was.Interrupted(),
            was.Vanished(),
            was.Broken("rule", "path", ERROR),
            was.Trimmed(),
            was.Late(),
            was.UnknownVersion(3),
            was.HasChildren(),
            was.ChildFailed(ERROR),
        ]
    ),
    st.builds(was.Retried, st.just(ERROR), anything),
    st.builds(was.Snoozed, st.just(ERROR), anything),
    st.builds(was.Early, millis),
)


@st.composite
def retry_policies(draw: st.DrawFn) -> RetryPolicy:
    cap_ms = draw(st.integers(0, 10**9))
    return RetryPolicy(
        attempts_max=draw(st.integers(1, 100)),
        base_ms=draw(st.integers(0, cap_ms)),
        cap_ms=cap_ms,
        jitter=draw(st.floats(0, 1)),
    )


policies = st.builds(TypePolicy, retry=retry_policies(), deliveries_lost_max=st.integers(0, 10))
jobs = st.builds(
    JobFacts,
    attempt=st.integers(1, 10**6),
    attempts_max=st.integers(1, 100),
    lost=st.integers(0, 100),
    enqueued_ms=millis,
)


@given(jobs, outcomes, policies, draws)
def test_every_outcome_of_every_job_has_a_decision_that_can_be_stored(
    job: JobFacts, outcome: was.Outcome, policy: TypePolicy, draw: float
) -> None:
    """
    Goal: `decide` is total, and bounded in what it hands to the store.

    Method: whatever comes in, attempts never exceed those made, times are whole and lie no more
    than the longest delay ahead, and only a failure that is not the last one waits for a backoff.
    """
    decision = decide(job, outcome, policy, now_ms=NOW_MS, draw=draw)

    assert isinstance(decision, to.Decision)
    if isinstance(decision, to.RetryAt | to.DeadLetter | to.SetAside):
        assert job.attempt - 1 <= decision.attempts <= job.attempt
    if isinstance(decision, to.RetryAt):
        assert isinstance(decision.at_ms, int)
        assert 0 <= decision.at_ms <= max(10**13, NOW_MS + DELAY_MS_MAX)
    if isinstance(decision, to.RetryAt) and decision.why == "backoff":
        assert job.attempt < job.attempts_max
        assert decision.attempts == job.attempt


@given(st.integers(1, 100), policies, st.lists(draws, min_size=100, max_size=100))
def test_a_job_that_always_fails_ends_after_its_attempts(
    attempts_max: int, policy: TypePolicy, chance: list[float]
) -> None:
    attempt, decision = 0, None
    while not isinstance(decision, to.DeadLetter):
        attempt += 1
        job = JobFacts(attempt=attempt, attempts_max=attempts_max, lost=0, enqueued_ms=NOW_MS)
        drawn = chance[attempt - 1]
        decision = decide(job, was.Failed(ERROR), policy, now_ms=NOW_MS, draw=drawn)

    assert attempt == attempts_max


@given(st.integers(1, 10**6), retry_policies(), draws)
def test_a_delay_lies_between_its_bounds(attempt: int, policy: RetryPolicy, draw: float) -> None:
    bound = min(policy.cap_ms, policy.base_ms * 2 ** min(attempt - 1, 64))

    delay_ms = retry_delay_ms(attempt, policy, draw)

    assert round(bound * (1 - policy.jitter)) - 1 <= delay_ms <= bound


@given(st.integers(1, 200), retry_policies(), draws)
def test_a_later_attempt_never_waits_less(attempt: int, policy: RetryPolicy, draw: float) -> None:
    assert retry_delay_ms(attempt, policy, draw) <= retry_delay_ms(attempt + 1, policy, draw)


weights = st.fixed_dictionaries({lane: st.integers(1, 1_000) for lane in LANES[1:]})
waitings = st.dictionaries(st.sampled_from(LANES), st.integers(-5, 10_000))


@given(weights, st.lists(st.tuples(waitings, st.integers(0, 5_000)), min_size=1, max_size=30))
def test_a_split_is_exact_strict_and_work_conserving(
    shares: dict[str, int], rounds: list[tuple[dict[str, int], int]]
) -> None:
    plan = LanePlan(shares)
    for waiting, budget in rounds:
        counts = plan.split(waiting, budget)

        available = {lane: max(0, n) for lane, n in waiting.items()}
        assert sum(counts.values()) == min(budget, sum(available.values()))
        assert all(0 < n <= available[lane] for lane, n in counts.items())
        assert counts.get("critical", 0) == min(budget, available.get("critical", 0))


@given(weights, st.lists(st.integers(1, 50), min_size=50, max_size=50))
def test_no_waiting_lane_is_starved(shares: dict[str, int], budgets: list[int]) -> None:
    """
    Goal: over time each lane that keeps waiting gets its share to within a few jobs.

    Method: all lanes stay full under changing budgets; whatever the weights, what a lane got
    never differs from its share by more than one job per lane.
    """
    plan = LanePlan(shares)
    full = dict.fromkeys(shares, 10**9)
    total: Counter[str] = Counter()
    spent = 0
    for budget in budgets * 3:
        total.update(plan.split(full, budget))
        spent += budget
        for lane, weight in shares.items():
            assert abs(total[lane] - spent * weight / sum(shares.values())) <= len(shares)


@given(weights, st.data())
def test_lanes_that_come_and_go_do_not_starve_one_that_stays(
    shares: dict[str, int], data: st.DataObject
) -> None:
    plan = LanePlan(shares)
    low = 0
    rounds = 3 * sum(shares.values()) // shares["low"] + 3
    for _ in range(min(rounds, 300)):
        busy = data.draw(st.booleans())
        waiting = {"high": 10**6 * busy, "normal": 10**6, "low": 10**6}
        low += plan.split(waiting, 1).get("low", 0)

    if rounds <= 300:
        assert low >= 1


@given(st.floats(0, 10**9), st.integers(1, 10_000), st.integers(1, 10_000), st.floats(0, 10**9))
def test_buffers_stay_within_their_bounds(
    rate: float, prefetch_max: int, wanted: int, bytes_per_job: float
) -> None:
    assert 1 <= prefetch(rate, prefetch_max) <= prefetch_max
    assert 1 <= count_by_bytes(wanted, bytes_per_job, 2**24) <= wanted


@given(st.text(), st.text(), st.text(), st.text())
def test_a_fingerprint_is_short_and_stable(
    job_type: str, reason: str, kind: str, message: str
) -> None:
    found = fingerprint(job_type, reason, kind, message)

    assert len(bytes.fromhex(found)) == 6
    assert found == fingerprint(job_type, reason, kind, message)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_number_in_the_text_makes_no_difference(one: int, two: int) -> None:
    assert fingerprint("t", "r", "E", f"no row {one}") == fingerprint(
        "t", "r", "E", f"no row {two}"
    )


@st.composite
def observations(draw: st.DrawFn) -> list[tuple[str, float, float, float]]:
    """A server's answers over time: restarts, steps of its clock, pauses."""
    seen = []
    now_ms, server_ms, uptime_ms, run = 0.0, 1e12, 1e9, 0
    for _ in range(draw(st.integers(1, 30))):
        passed = draw(st.floats(0, 60_000))
        now_ms += passed
        uptime_ms += passed
        server_ms += passed + draw(st.sampled_from([0.0, 0.0, 0.0, 3.6e6, -3.6e6, 50.0]))
        if draw(st.integers(0, 4)) == 0:
            run += 1
            uptime_ms = draw(st.floats(0, 60_000))
        seen.append((f"run-{run}", server_ms, uptime_ms, now_ms))
    return seen


@given(observations())
def test_idle_times_are_believed_one_lease_after_the_last_doubt(
    seen: list[tuple[str, float, float, float]],
) -> None:
    gate = ReclaimGate(30_000)
    for number, (run_id, server_ms, uptime_ms, now_ms) in enumerate(seen):
        gate.observe(run_id=run_id, server_ms=server_ms, uptime_ms=uptime_ms, monotonic_ms=now_ms)
        changed = number and run_id != seen[number - 1][0]
        if changed:
            assert gate.idle_ms_min(now_ms) == RELEASED_IDLE_MS // 2
        assert gate.idle_ms_min(now_ms + 30_001) == 30_000
