"""When schedules tick, which missed ticks are made up for, and how people are told."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from engine.core import schedule as rules
from engine.errors import ScheduleError
from schemas.schedule import Schedule

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
BERLIN = "Europe/Berlin"


def ms(text: str, tz: str = BERLIN, *, fold: int = 0) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(tz), fold=fold)
    return round(moment.timestamp() * 1000)


def spec(cron: str = "", *, tz: str = BERLIN, **rest: object) -> Schedule:
    return Schedule(type="cleanup", cron=cron, tz=tz, **rest)  # type: ignore[arg-type]


def upcoming(schedule: Schedule, after: str, count: int) -> list[str]:
    found = islice(rules.ticks(schedule, ms(after)), count)
    zone = ZoneInfo(schedule.tz)
    return [datetime.fromtimestamp(tick / 1000, zone).isoformat() for tick in found]


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        pytest.param(
            "30 2 * * *",
            "2026-03-28T12:00",
            ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
            id="a time that is skipped fires at the next one that exists",
        ),
        pytest.param(
            "30 2 * * *",
            "2026-10-24T12:00",
            ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
            id="a time that comes twice fires once",
        ),
        pytest.param(
            "*/30 * * * *",
            "2026-10-25T01:45",
            [
                "2026-10-25T02:00:00+02:00",
                "2026-10-25T02:30:00+02:00",
                "2026-10-25T02:00:00+01:00",
                "2026-10-25T02:30:00+01:00",
                "2026-10-25T03:00:00+01:00",
            ],
            id="a star in the minutes follows the time that passes",
        ),
        pytest.param(
            "0 9 * * MON-FRI", "2026-11-21T10:00", ["2026-11-23T09:00:00+01:00"], id="weekdays"
        ),
    ],
)
def test_cron_ticks_follow_the_zone_s_clocks(cron: str, after: str, expected: list[str]) -> None:
    assert upcoming(spec(cron), after, len(expected)) == expected


def test_an_interval_counts_from_the_epoch() -> None:
    every = spec(every_ms=5 * MINUTE_MS, tz="UTC")

    assert list(islice(rules.ticks(every, 7 * MINUTE_MS), 2)) == [10 * MINUTE_MS, 15 * MINUTE_MS]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({}, "give one of"),
        ({"cron": "* * * * *", "at": 5}, "give one of"),
        ({"cron": "* * * *"}, "five fields"),
        ({"cron": "@daily"}, "five fields"),
        ({"cron": "61 * * * *"}, "Bad minute"),
        ({"cron": "0 0 30 2 *"}, "day-of-month"),
        ({"cron": "* * * * *", "tz": "Europe/Nowhere"}, "no time zone"),
        ({"cron": "* * * * *", "tz": "../../etc/passwd"}, "no time zone"),
        ({"cron": "* * * * *", "tz": "Europe"}, "no time zone"),
        ({"every_ms": 10}, "1 s to 10 years"),
        ({"at": -1}, "no moment"),
        ({"every_ms": 1000, "jitter_ms": -1}, "jitter"),
        ({"every_ms": 1000, "next_ms": 2**62}, "no moment"),
    ],
)
def test_times_that_make_no_sense_are_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(ScheduleError, match=told):
        rules.check(Schedule(type="t", **wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("catch_up", "fired"),
    [("none", []), ("last", ["10:00"]), ("all", ["08:00", "09:00", "10:00"])],
)
def test_missed_ticks_are_made_up_for_as_the_policy_says(catch_up: str, fired: list[str]) -> None:
    hourly = spec("0 * * * *", catch_up=catch_up, next_ms=ms("2026-11-20T08:00"))

    firing = rules.firing("n", hourly, ms("2026-11-20T10:20"))

    assert firing is not None
    assert firing.ticks == [ms(f"2026-11-20T{at}") for at in fired]
    assert firing.dropped == 3 - len(fired)
    assert firing.after is not None
    assert firing.after.next_ms == ms("2026-11-20T11:00")
    assert firing.after.ticks == len(fired)


@pytest.mark.parametrize("catch_up", ["none", "last", "all"])
def test_ticks_that_are_a_little_late_are_fired_whatever_the_policy(catch_up: str) -> None:
    every = spec(every_ms=1000, catch_up=catch_up, next_ms=10_000)

    firing = rules.firing("n", every, 13_500)

    assert firing is not None
    assert firing.ticks == [10_000, 11_000, 12_000, 13_000]


def test_a_tick_on_time_stands_for_those_missed_before_it() -> None:
    hourly = spec("0 * * * *", next_ms=ms("2026-11-20T08:00"))

    firing = rules.firing("n", hourly, ms("2026-11-20T10:00") + 500)

    assert firing is not None
    assert firing.ticks == [ms("2026-11-20T10:00")]


def test_catching_up_is_bounded_and_goes_in_steps() -> None:
    every = spec("* * * * *", tz="UTC", catch_up="all", next_ms=MINUTE_MS)
    now_ms = 10_000 * MINUTE_MS
    fired: list[int] = []

    while (firing := rules.firing("n", every, now_ms)) is not None:
        assert 0 < len(firing.ticks) <= rules.FIRED_MAX
        fired += firing.ticks
        assert firing.after is not None
        every = firing.after

    assert fired == [at * MINUTE_MS for at in range(9_001, 10_001)]


def test_large_payloads_are_fired_by_the_few() -> None:
    data = rules.msgspec.Raw(b'{"a":"' + b"x" * 300_000 + b'"}')
    every = Schedule(type="t", data=data, every_ms=1000, catch_up="all", next_ms=1000)

    firing = rules.firing("n", every, 60_000)

    assert firing is not None
    assert len(firing.ticks) == 3


def test_a_one_off_fires_once_and_leaves_nothing_of_an_operator_s() -> None:
    once = rules.planned(spec(at=5_000), 1_000)

    assert rules.firing("n", once, 4_999) is None
    firing = rules.firing("n", once, 5_000)
    assert firing is not None
    assert (firing.ticks, firing.after) == ([5_000], None)


def test_a_one_off_of_an_app_stays_as_ended() -> None:
    once = rules.planned(spec(at=5_000, source="code"), 9_000)
    firing = rules.firing("n", once, 9_000)
    assert firing is not None
    assert firing.after is not None
    assert firing.after.ended

    again = rules.declared(firing.after, spec(at=5_000, source="code"), 10_000)

    assert again.ended
    assert rules.firing("n", again, 11_000) is None


def test_declaring_again_keeps_the_place_and_new_times_begin_anew() -> None:
    old = spec("0 3 * * *", next_ms=ms("2026-11-20T03:00"), ticks=7, paused=True, source="code")
    now_ms = ms("2026-11-21T12:00")

    same = rules.declared(old, spec("0 3 * * *", lane="low", source="code"), now_ms)
    moved = rules.declared(old, spec("0 4 * * *", source="code"), now_ms)

    assert (same.next_ms, same.ticks, same.paused, same.lane) == (old.next_ms, 7, True, "low")
    assert (moved.next_ms, moved.ticks, moved.paused) == (ms("2026-11-22T04:00"), 7, True)


def test_a_pause_leaves_its_ticks_out() -> None:
    hourly = spec("0 * * * *", next_ms=ms("2026-11-20T08:00"), paused=True, catch_up="all")
    assert rules.firing("n", hourly, ms("2026-11-20T10:20")) is None

    resumed = rules.resumed(hourly, ms("2026-11-20T10:20"))

    assert resumed.next_ms == ms("2026-11-20T11:00")


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        (spec("0 9 * * MON-FRI"), "every weekday at 09:00 Europe/Berlin"),
        (spec("0 3 * * *"), "every day at 03:00 Europe/Berlin"),
        (spec("*/5 * * * *", tz="UTC"), "every 5 minutes UTC"),
        (spec("*/7 * * * *", tz="UTC"), "every seventh minute of every hour UTC"),
        (spec("0 0 * * 5L"), "at 00:00 on the last Friday of the month Europe/Berlin"),
        (spec(every_ms=1000), "every second"),
        (spec(every_ms=90_000), "every 90 seconds"),
        (spec(every_ms=HOUR_MS, jitter_ms=60_000), "every hour, up to 1 minute later"),
        (spec(at=ms("2026-11-23T09:00")), "once, Mon 23 Nov 2026 09:00 Europe/Berlin"),
    ],
)
def test_times_are_told_in_plain_words(schedule: Schedule, told: str) -> None:
    assert rules.words(schedule) == told
