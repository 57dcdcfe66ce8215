"""Gaps grow while there is news, and are short again after a silence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from processors.rules.throttle import NONE, Pace, Throttle, gap_after, held_until

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
EMAIL = Throttle(first=10 * MINUTE, cap=24 * HOUR, factor=6, reset=12 * HOUR)
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def test_gaps_grow_to_a_day() -> None:
    gaps = []
    pace = None
    now = NOW
    for _ in range(6):
        gap = gap_after(pace, EMAIL, now)
        pace = Pace(sent_at=now, told_at=now, gap=gap)
        gaps.append(gap)
        now += gap
        # Somebody writes all the time, so no silence ends it.
        pace = pace._replace(told_at=now)

    assert gaps == [10 * MINUTE, HOUR, 6 * HOUR, 24 * HOUR, 24 * HOUR, 24 * HOUR]


def test_nothing_is_sent_within_the_gap() -> None:
    pace = Pace(sent_at=NOW, told_at=NOW, gap=HOUR)

    assert held_until(None, EMAIL, NOW) is None
    assert held_until(pace, EMAIL, NOW + MINUTE) == NOW + HOUR
    assert held_until(pace, EMAIL, NOW + HOUR) is None


def test_a_silence_resets_it() -> None:
    pace = Pace(sent_at=NOW, told_at=NOW, gap=24 * HOUR)

    assert held_until(pace, EMAIL, NOW + 12 * HOUR - MINUTE) == NOW + 24 * HOUR
    assert held_until(pace, EMAIL, NOW + 12 * HOUR) is None
    assert gap_after(pace, EMAIL, NOW + 12 * HOUR) == 10 * MINUTE


def test_no_throttle_holds_nothing() -> None:
    assert held_until(Pace(NOW, NOW, HOUR), NONE, NOW) is None


SPANS = st.timedeltas(timedelta(0), timedelta(days=3))


@given(SPANS, SPANS, SPANS)
def test_nobody_waits_longer_than_the_cap(
    since: timedelta, told: timedelta, gap: timedelta
) -> None:
    pace = Pace(sent_at=NOW - since, told_at=NOW - min(told, since), gap=gap)
    until = held_until(pace, EMAIL, NOW)

    assert until is None or NOW < until <= pace.sent_at + EMAIL.cap
    assert EMAIL.first <= gap_after(pace, EMAIL, NOW) <= EMAIL.cap
