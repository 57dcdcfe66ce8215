"""Steps of charts: read as they are written, put together in time and over queues."""

from __future__ import annotations

import pytest

from engine.core.numbers import levels_text, merged, quarter_of, read_minutes
from engine.core.steps import Step, came, following, read_quarter_step, read_steps, together
from schemas.numbers import Levels

FIELDS = {
    b"60:done:t": b"5",
    b"60:done:u": b"2",
    b"60:retried:t": b"1",
    b"60:snoozed:t": b"70",
    b"60:run:t": b"0,5",
    b"60:wait:low": b"5,1",
    b"60:wait:high": b"0,0,2",
    b"60:levels": levels_text(Levels(waiting=3, oldest_ms=900)).encode(),
    b"62:dead:t": b"4",
    b"62:levels": levels_text(Levels(waiting=1)).encode(),
    b"63:done:t": b"many",
    b"60:deaths:abc": b"2",
    b"@engine-1": b"17",
    b"nonsense": b"1",
}
LEVELS = Levels(waiting=3, oldest_ms=900)
FIRST = Step(done=7, retried=1, wait=[5, 1, 2], last=LEVELS, most=LEVELS)


def test_minutes_are_read_over_all_types_and_lanes() -> None:
    assert read_steps(FIELDS, range(60, 62)) == {60: FIRST}
    assert read_steps(FIELDS, range(61, 70))[62].dead == 4


def test_a_quarter_says_what_its_minutes_say() -> None:
    minutes = read_minutes(FIELDS)
    steps = read_steps(FIELDS, range(60, 75))

    kept = read_quarter_step(quarter_of(minutes, 4))

    assert kept == following(steps.get(minute) for minute in range(60, 75))
    assert kept == Step(
        done=7, retried=1, dead=4, wait=[5, 1, 2], last=Levels(waiting=1), most=LEVELS
    )
    assert merged(minutes.values()) is not None


@pytest.mark.parametrize("raw", [b"{}", b"[]", b"junk"])
def test_a_quarter_of_which_nothing_is_known_is_none(raw: bytes) -> None:
    assert read_quarter_step(raw) is None
    assert following([None, None]) is together([None]) is None


def test_queues_together_hold_the_sum_and_are_as_old_as_the_oldest() -> None:
    one = Step(last=Levels(waiting=1, oldest_ms=10), most=Levels(waiting=5, oldest_ms=70))
    other = Step(last=Levels(waiting=2, oldest_ms=90), most=Levels(waiting=3, oldest_ms=90))

    both = together([one, None, other])

    assert both is not None
    assert both.last == Levels(waiting=3, oldest_ms=90)
    assert both.most == Levels(waiting=8, oldest_ms=90)


def test_jobs_that_came_in_are_those_that_ended_and_those_that_are_more() -> None:
    step = Step(
        done=50,
        dead=2,
        duplicate=1,
        retried=9,
        last=Levels(waiting=10, delayed=5, active=1, dead=100),
    )

    assert came(Levels(waiting=20, flows=1), step) == 50 + 2 + 1 + 16 - 21
    assert came(Levels(waiting=1_000), step) == 0
    assert came(None, step) is None
    assert came(Levels(), Step()) is None
