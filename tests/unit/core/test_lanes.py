"""Which lanes are read next, and how much from each."""

from __future__ import annotations

from collections import Counter

from engine.core.lanes import LanePlan

WEIGHTS = {"high": 16, "normal": 4, "low": 1}
FULL = {"critical": 0, "high": 10**6, "normal": 10**6, "low": 10**6}


def shares(plan: LanePlan, waiting: dict[str, int], budget: int, rounds: int) -> Counter[str]:
    """What each lane gets over many rounds in which as much keeps waiting."""
    total: Counter[str] = Counter()
    for _ in range(rounds):
        total.update(plan.split(waiting, budget))
    return total


def test_a_large_budget_is_split_by_weight() -> None:
    assert LanePlan(WEIGHTS).split(FULL, 210) == {"high": 160, "normal": 40, "low": 10}


def test_a_budget_of_one_is_split_by_weight_over_time() -> None:
    assert shares(LanePlan(WEIGHTS), FULL, 1, 21_000) == {
        "high": 16_000,
        "normal": 4_000,
        "low": 1_000,
    }


def test_critical_comes_before_all_else() -> None:
    waiting = {**FULL, "critical": 3}

    assert LanePlan(WEIGHTS).split(waiting, 3) == {"critical": 3}
    assert LanePlan(WEIGHTS).split(waiting, 2) == {"critical": 2}
    assert LanePlan(WEIGHTS).split(waiting, 24)["critical"] == 3


def test_a_lane_alone_gets_everything() -> None:
    for lane in WEIGHTS:
        assert LanePlan(WEIGHTS).split({lane: 50}, 20) == {lane: 20}


def test_what_a_lane_does_not_need_goes_to_the_rest() -> None:
    found = LanePlan(WEIGHTS).split({"high": 2, "normal": 1_000, "low": 1_000}, 100)

    assert found["high"] == 2
    assert found["normal"] + found["low"] == 98
    assert 70 <= found["normal"] <= 82


def test_no_more_is_asked_for_than_waits() -> None:
    assert LanePlan(WEIGHTS).split({"high": 1, "low": 2}, 100) == {"high": 1, "low": 2}


def test_nothing_is_asked_for_without_budget_or_jobs() -> None:
    plan = LanePlan(WEIGHTS)

    assert plan.split(FULL, 0) == {}
    assert plan.split({}, 10) == {}
    assert plan.split({"high": 0, "normal": -3}, 10) == {}


def test_an_idle_lane_saves_nothing_up() -> None:
    """
    Goal: a lane that comes back after a long rest gets its share, not more.

    Method: ``low`` rests for a thousand rounds, then waits again; over the next 21 rounds it
    gets about its twenty-first part.
    """
    plan = LanePlan(WEIGHTS)
    shares(plan, {**FULL, "low": 0}, 1, 1_000)

    assert shares(plan, FULL, 1, 210)["low"] <= 11


def test_small_and_changing_budgets_stay_fair() -> None:
    plan = LanePlan(WEIGHTS)
    total: Counter[str] = Counter()
    for round_ in range(3_000):
        total.update(plan.split(FULL, round_ % 7))

    budget = sum(round_ % 7 for round_ in range(3_000))
    assert total.total() == budget
    for lane, weight in WEIGHTS.items():
        assert abs(total[lane] - budget * weight / 21) <= 3


def test_equal_weights_take_turns() -> None:
    plan = LanePlan({"high": 1, "normal": 1})

    assert shares(plan, {"high": 9_999, "normal": 9_999}, 1, 100) == {"high": 50, "normal": 50}
