"""Rest is told in wall-clock time: over midnight, by weekday, over both changes of the clocks."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.quiet_hours import EVERY_DAY, LOOKED_AHEAD, Window, moment_of, quiet_until

BERLIN = "Europe/Berlin"
NIGHT = Window(time(22), time(7), EVERY_DAY, BERLIN)


def at(text: str, tz: str = BERLIN, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(tz), fold=fold)


def until(now: datetime, *windows: Window) -> str:
    moment = quiet_until(now, windows)
    return "" if moment is None else moment.astimezone(ZoneInfo(BERLIN)).isoformat()


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-06-10T21:59:59", ""),
        ("2026-06-10T22:00:00", "2026-06-11T07:00:00+02:00"),
        ("2026-06-11T06:59:59", "2026-06-11T07:00:00+02:00"),
        ("2026-06-11T07:00:00", ""),
        ("2026-06-11T12:00:00", ""),
    ],
)
def test_a_night_goes_over_midnight(now: str, expected: str) -> None:
    assert until(at(now), NIGHT) == expected


def test_days_are_those_of_the_start() -> None:
    friday = Window(time(22), time(7), 1 << 4, BERLIN)

    assert until(at("2026-06-12T23:00"), friday) == "2026-06-13T07:00:00+02:00"
    assert until(at("2026-06-13T06:00"), friday) == "2026-06-13T07:00:00+02:00"
    assert until(at("2026-06-13T23:00"), friday) == ""
    assert until(at("2026-06-12T06:00"), friday) == ""


def test_windows_that_touch_are_one_rest() -> None:
    morning = Window(time(7), time(9), EVERY_DAY, BERLIN)

    assert until(at("2026-06-10T23:00"), NIGHT, morning) == "2026-06-11T09:00:00+02:00"


def test_a_window_of_a_whole_day_and_one_without_end() -> None:
    sunday = Window(time(0), time(0), 1 << 6, BERLIN)
    always = Window(time(0), time(0), EVERY_DAY, BERLIN)

    assert until(at("2026-06-14T12:00"), sunday) == "2026-06-15T00:00:00+02:00"
    now = at("2026-06-14T12:00")
    forever = quiet_until(now, [always])
    assert forever is not None
    assert forever - now >= LOOKED_AHEAD


def test_the_end_in_the_skipped_hour_is_when_the_clocks_skip() -> None:
    """On 2026-03-29 Berlin goes from 02:00 straight to 03:00."""
    window = Window(time(22), time(2, 30), EVERY_DAY, BERLIN)

    assert until(at("2026-03-29T01:59"), window) == "2026-03-29T03:00:00+02:00"
    assert until(at("2026-03-29T03:00"), window) == ""


def test_a_start_in_the_skipped_hour_is_when_the_clocks_skip() -> None:
    window = Window(time(2, 30), time(4), EVERY_DAY, BERLIN)

    assert until(at("2026-03-29T01:59"), window) == ""
    assert until(at("2026-03-29T03:00"), window) == "2026-03-29T04:00:00+02:00"


def test_the_end_in_the_repeated_hour_is_its_first_time() -> None:
    """On 2026-10-25 Berlin has the hour from 02:00 twice."""
    window = Window(time(22), time(2, 30), EVERY_DAY, BERLIN)

    assert until(at("2026-10-25T02:29"), window) == "2026-10-25T02:30:00+02:00"
    assert until(at("2026-10-25T02:29", fold=1), window) == ""


def test_a_start_in_the_repeated_hour_is_its_first_time() -> None:
    window = Window(time(2, 30), time(4), EVERY_DAY, BERLIN)

    assert until(at("2026-10-25T02:29"), window) == ""
    assert until(at("2026-10-25T02:30"), window) == "2026-10-25T04:00:00+01:00"
    assert until(at("2026-10-25T02:10", fold=1), window) == "2026-10-25T04:00:00+01:00"


def test_a_skipped_midnight_and_half_an_hour() -> None:
    """Clocks of Cairo skip midnight; those of Lord Howe Island move by half an hour."""
    cairo = moment_of(date(2026, 4, 24), time(0, 30), ZoneInfo("Africa/Cairo"))
    howe = moment_of(date(2026, 10, 4), time(2, 10), ZoneInfo("Australia/Lord_Howe"))

    assert cairo.astimezone(ZoneInfo("Africa/Cairo")).isoformat() == "2026-04-24T01:00:00+03:00"
    assert (
        howe.astimezone(ZoneInfo("Australia/Lord_Howe")).isoformat() == "2026-10-04T02:30:00+11:00"
    )


def test_an_unknown_zone_is_read_in_utc() -> None:
    window = Window(time(22), time(7), EVERY_DAY, "Mars/Olympus")

    assert quiet_until(at("2026-06-10T23:00", "UTC"), [window]) == at("2026-06-11T07:00", "UTC")


WINDOWS = st.builds(
    Window,
    st.times(),
    st.times(),
    st.integers(1, EVERY_DAY),
    st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"]),
)
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))


@given(MOMENTS, st.lists(WINDOWS, max_size=3), st.floats(0, 0.99))
def test_all_is_quiet_until_then_and_not_at_that_moment(
    now: datetime, windows: list[Window], share: float
) -> None:
    moment = quiet_until(now, windows)
    if moment is None:
        return
    between = now + (moment - now) * share

    assert moment > now
    assert quiet_until(between, windows) == moment or moment - now >= LOOKED_AHEAD
    if moment - now < LOOKED_AHEAD:
        assert quiet_until(moment, windows) is None


@given(st.dates(date(2025, 1, 1), date(2028, 1, 1)), st.times())
def test_a_wall_clock_time_is_what_the_clock_shows_or_the_moment_of_the_skip(
    day: date, wall: time
) -> None:
    for tz in (ZoneInfo(BERLIN), ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe")):
        moment = moment_of(day, wall, tz)
        shown = moment.astimezone(tz).replace(tzinfo=None)
        if shown == datetime.combine(day, wall):
            continue
        before = (moment - timedelta(seconds=1)).astimezone(tz).replace(tzinfo=None)
        assert before < datetime.combine(day, wall) < shown
        assert shown - before > timedelta(minutes=29)
