"""Pace, canary and states of bulk operations."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from engine.core.operations import (
    LIVE,
    MOVING,
    STEP_MS,
    STOPPABLE,
    Pace,
    ahead_ms,
    can,
    duration_ms,
    first_state,
    judge_canary,
    resumed,
)
from schemas.operations import OperationRecord, OperationState
from schemas.stats import DeadFilter

NOW_MS = 1_795_000_000_000


def record(state: str, action: str = "retry") -> OperationRecord:
    told = {
        "id": "1", "queue": "q", "action": action, "filter": DeadFilter(), "until": "1-1",
        "rate": 20.0, "state": state,
    }  # fmt: skip
    return msgspec.convert(msgspec.to_builtins(told) | {"filter": {}}, OperationRecord)


@pytest.mark.parametrize("rate", [1.0, 20.0, 500.0, 10_000.0])
def test_a_discard_keeps_its_rate_though_it_is_looked_at_only_now_and_then(rate: float) -> None:
    pace, moved = Pace(rate), 0
    for now_ms in range(NOW_MS, NOW_MS + 10_000, STEP_MS):
        moved += len(pace.take(now_ms, pace.room(now_ms, ahead_ms=ahead_ms("discard"))))

    assert moved == pytest.approx(rate * 10, rel=0.03, abs=1)


@settings(max_examples=40, deadline=None)
@given(
    rate=some.floats(0.1, 10_000),
    steps=some.lists(some.tuples(some.integers(0, 20_000), some.integers(1, 100)), max_size=30),
)
def test_no_second_gets_more_than_the_rate(rate: float, steps: list[tuple[int, int]]) -> None:
    """
    Goal: whoever drives, whenever, with whatever pauses, jobs are due at the rate and not before.

    Method: a driver asks for room at any times and takes it; a successor knows the next due time.
    """
    now_ms, next_ms = NOW_MS, 0.0
    dues: list[int] = []
    for pause_ms, most in steps:
        now_ms += pause_ms
        pace = Pace(rate, next_ms)
        taken = pace.take(now_ms, min(most, pace.room(now_ms, ahead_ms=10_000)))
        assert all(now_ms <= due <= now_ms + 10_000 for due in taken)
        dues += taken
        next_ms = pace.next_ms

    assert dues == sorted(dues)
    for begin in range(len(dues)):
        within = [due for due in dues[begin:] if due < dues[begin] + 1_000]
        assert len(within) <= rate + 1.5


def test_a_pace_keeps_fractions_of_a_millisecond() -> None:
    pace = Pace(3_000.0)

    dues = [due for _ in range(10) for due in pace.take(NOW_MS, 300)]

    assert dues[-1] - dues[0] == 999
    assert {later - sooner for sooner, later in pairwise(dues)} == {0, 1}


def test_a_pace_does_not_make_up_for_what_was_missed() -> None:
    pace = Pace(10.0, NOW_MS)

    assert pace.room(NOW_MS + 60_000, ahead_ms=0) == 1
    assert pace.take(NOW_MS + 60_000, 2) == [NOW_MS + 60_000, NOW_MS + 60_100]


@pytest.mark.parametrize(
    ("done", "dead", "verdict"),
    [(0, 0, "wait"), (8, 1, "wait"), (8, 2, "good"), (10, 0, "good"), (0, 3, "bad"), (7, 3, "bad")],
)
def test_a_canary_is_judged_as_soon_as_it_can_be(done: int, dead: int, verdict: str) -> None:
    assert judge_canary(moved=10, done=done, dead=dead, dead_max=0.2) == verdict


def test_a_canary_of_which_nothing_is_left_is_well() -> None:
    assert judge_canary(moved=0, done=0, dead=0, dead_max=0.2) == "good"


def test_how_long_it_takes() -> None:
    assert duration_ms(318, 20, 10) == 15_400
    assert duration_ms(5, 20, 10) == 0


@pytest.mark.parametrize("state", get_args(OperationState))
def test_what_can_be_done_with_an_operation_leads_somewhere(state: str) -> None:
    for action in ("retry", "discard"):
        of = record(state, action)
        possible = can(of, undoable=5)
        assert ("stop" in possible) == (state in STOPPABLE)
        assert ("resume" in possible) == (state == "stopped")
        assert resumed(of) in LIVE & MOVING
        if state in {"undoing", "undone", "finished"}:
            assert possible == []
    assert "undo" not in can(record(state), undoable=0)


def test_a_discard_is_taken_back_only_before_it_begins() -> None:
    assert first_state("discard", 0) == "waiting"
    assert "undo" in can(record("waiting", "discard"), undoable=0)
    assert "undo" not in can(record("discarding", "discard"), undoable=5)
    assert (first_state("retry", 0), first_state("retry", 3)) == ("releasing", "canary")
