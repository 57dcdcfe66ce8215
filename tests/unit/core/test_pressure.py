"""Which new jobs a queue with bounds takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.core.pressure import (
    FULL,
    SHED,
    SHED_AT,
    Asked,
    Bounds,
    Level,
    answers,
    ratio,
    seconds_until_full,
)
from schemas.rules import LANES

ASKED = st.builds(Asked, lane=st.sampled_from(LANES), size=st.integers(1, 500), sheds=st.booleans())
BOUNDS = st.builds(Bounds, jobs=st.integers(0, 30), bytes=st.sampled_from([0, 500, 5_000]))


@given(
    bounds=BOUNDS,
    batches=st.lists(st.tuples(st.lists(ASKED, max_size=12), st.integers(0, 6)), max_size=12),
)
def test_producers_never_exceed_the_bounds(
    bounds: Bounds, batches: list[tuple[list[Asked], int]]
) -> None:
    """
    Goal: whatever producers send and engines end, a queue holds no more than it may.

    Method: batches of all kinds in turn with ends of jobs; an empty queue takes a job of any size.
    """
    held: list[int] = []
    for batch, ended in batches:
        found = answers(Level(len(held), sum(held)), bounds, batch)
        held += [each.size for each, answer in zip(batch, found, strict=True) if not answer]
        assert not bounds.jobs or len(held) <= bounds.jobs
        assert not bounds.bytes or sum(held) <= bounds.bytes or len(held) == 1
        assert bounds or len(found) == found.count(b"")
        del held[:ended]


@given(jobs=st.integers(1, 200), bounds=st.builds(Bounds, jobs=st.integers(1, 200)))
def test_lower_lanes_are_shed_first(jobs: int, bounds: Bounds) -> None:
    asked = [Asked(lane=lane, size=1, sheds=True) for lane in LANES]
    taken = [answers(Level(jobs), bounds, [each]) == [b""] for each in asked]

    # From the highest lane down: once one is shed all below are.
    assert taken == sorted(taken, reverse=True)
    assert taken[0] == (jobs < bounds.jobs)


@given(level=st.builds(Level, jobs=st.integers(0, 40)), asked=st.lists(ASKED, max_size=20))
def test_no_job_that_waits_is_passed_by_a_later_one_that_waits(
    level: Level, asked: list[Asked]
) -> None:
    found = answers(level, Bounds(jobs=30, bytes=1_000), asked)
    waiting = [answer for each, answer in zip(asked, found, strict=True) if not each.sheds]

    assert waiting == sorted(waiting)
    assert set(waiting) <= {b"", FULL}


def test_each_lane_is_shed_from_its_own_level_on() -> None:
    for lane, percent in SHED_AT.items():
        asked = [Asked(lane=lane, size=1, sheds=True)]
        assert answers(Level(percent - 1), Bounds(jobs=100), asked) == [b""]
        assert answers(Level(percent), Bounds(jobs=100), asked) == [SHED]


def test_the_fuller_bound_counts() -> None:
    assert ratio(Level(50, 900), Bounds(100, 1_000)) == 0.9
    assert ratio(Level(50, 900), Bounds(100, 0)) == 0.5
    assert ratio(Level(50, 900), Bounds()) == 0


def test_the_bound_that_is_met_first_says_when_a_queue_is_full() -> None:
    level, bounds = Level(80, 500), Bounds(100, 1_000)

    assert seconds_until_full(level, bounds, (2, 10)) == 10
    assert seconds_until_full(level, bounds, (0.1, 100)) == 5
    assert seconds_until_full(level, bounds, (-1, 0)) is None
    assert seconds_until_full(Level(120, 0), bounds, (1, 0)) == 0
