"""Whatever the times: ticks rise, none is missed or doubled, and jitter keeps its bound."""

from __future__ import annotations

import json
from datetime import datetime
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.core import schedule as rules
from engine.errors import ScheduleError
from engine.store.schedules import job_fields, read_schedule
from schemas.schedule import Schedule

ZONES = ["Europe/Berlin", "America/New_York", "Europe/London", "Africa/Cairo", "UTC"]
CHANGES = ["2026-03-08", "2026-03-29", "2026-04-24", "2026-10-25", "2026-10-30", "2026-11-01"]
MINUTES = st.sampled_from(["*", "*/5", "*/7", "0", "30", "0,30", "15-20"])
HOURS = st.sampled_from(["*", "*/2", "2", "1-3", "0", "2,3", "23"])
DAYS = st.sampled_from(["* * *", "* * *", "* * SUN", "25-30 * *", "L * *"])
CRONS = st.builds(lambda *parts: " ".join(parts), MINUTES, HOURS, DAYS)
JITTERS = st.sampled_from([0, 0, 1_000, 600_000, 86_400_000])


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, int]:
    """A zone, and a moment near the change of some zone's clocks, in Unix ms."""
    tz = draw(st.sampled_from(ZONES))
    day = datetime.fromisoformat(draw(st.sampled_from(CHANGES))).replace(tzinfo=ZoneInfo(tz))
    offset_s = draw(st.integers(-30 * 3600, 30 * 3600))
    return tz, (round(day.timestamp()) + offset_s) * 1000


@given(cron=CRONS, place=moments())
@example(cron="*/7 0 L * *", place=("Africa/Cairo", 1_792_875_600_000))
def test_ticks_rise_and_do_not_depend_on_where_one_begins(
    cron: str, place: tuple[str, int]
) -> None:
    """Goal: an engine that starts anywhere finds the same ticks as one that never stopped."""
    tz, start_ms = place
    spec = Schedule(type="t", cron=cron, tz=tz)

    run = list(islice(rules.ticks(spec, start_ms), 60))

    assert all(before < after for before, after in zip([start_ms, *run], run, strict=False))
    for before, after in pairwise(run):
        assert rules.tick_after(spec, before) == after
        assert rules.tick_after(spec, (before + after) // 2) == after
        assert rules.tick_after(spec, after - 1) == after


@given(
    cron=CRONS,
    place=moments(),
    jitter_ms=JITTERS,
    gaps=st.lists(st.integers(1, 8 * 3_600_000), min_size=1, max_size=40),
)
def test_with_catch_up_all_every_tick_is_fired_once(
    cron: str, place: tuple[str, int], jitter_ms: int, gaps: list[int]
) -> None:
    """Goal: whenever somebody looks, and however rarely, over changes of the clocks."""
    tz, now_ms = place
    spec = Schedule(type="t", cron=cron, tz=tz, catch_up="all", jitter_ms=jitter_ms)
    spec = rules.planned(spec, now_ms)
    first_ms = spec.next_ms
    fired: list[int] = []

    for gap in gaps:
        now_ms += gap
        while (firing := rules.firing("n", spec, now_ms)) is not None:
            assert firing.ticks[-1] <= firing.due_ms <= now_ms
            assert not firing.dropped
            fired += firing.ticks
            assert firing.after is not None
            spec = firing.after
        assert rules.due_ms("n", spec) > now_ms

    expected = [first_ms, *islice(rules.ticks(spec, first_ms), len(fired))]
    assert fired == expected[: len(fired)]
    assert expected[len(fired)] == spec.next_ms


@given(tick=st.integers(0, 2**45), bound=st.integers(0, rules.JITTER_MS_MAX), name=st.text())
def test_jitter_keeps_its_bound_and_is_the_same_for_all(tick: int, bound: int, name: str) -> None:
    drawn = rules.jitter_ms(name, tick, bound)

    assert 0 <= drawn <= bound
    assert drawn == rules.jitter_ms(name, tick, bound)


@given(every_s=st.integers(1, 100), jitter_ms=JITTERS, start_ms=st.integers(0, 2**41))
def test_no_tick_is_put_off_beyond_the_next(every_s: int, jitter_ms: int, start_ms: int) -> None:
    spec = Schedule(type="t", every_ms=every_s * 1000, jitter_ms=jitter_ms)
    run = list(islice(rules.ticks(spec, start_ms), 10))
    fires = [rules.due_ms("n", rules.planned(spec, tick - 1)) for tick in run]

    for tick, at_ms, following in zip(run, fires, run[1:], strict=False):
        assert tick <= at_ms < following
        assert at_ms - tick <= jitter_ms


@given(cron=st.text(max_size=40), tz=st.sampled_from(["UTC", "Europe/Berlin", "x", "", "/"]))
def test_a_stranger_s_times_are_understood_or_refused(cron: str, tz: str) -> None:
    try:
        rules.check(Schedule(type="t", cron=cron, tz=tz))
    except ScheduleError:
        return
    assert rules.words(Schedule(type="t", cron=cron, tz=tz))


FIELD = st.text("0123456789*/,-L#W MONFRI", max_size=6)


@given(parts=st.lists(FIELD, min_size=5, max_size=5))
def test_what_looks_like_cron_is_understood_or_refused(parts: list[str]) -> None:
    spec = Schedule(type="t", cron=" ".join(parts))
    try:
        rules.check(spec)
    except ScheduleError:
        return
    assert rules.words(spec)
    assert rules.tick_after(spec, 1_800_000_000_000) >= 0


@given(name=st.binary(max_size=20), raw=st.binary(max_size=60))
def test_a_stranger_s_record_is_read_or_refused(name: bytes, raw: bytes) -> None:
    with pytest.raises(ScheduleError):
        read_schedule(name, raw)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(0, 2**42),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["* * * * *", "0 0 29 2 *", "UTC", "Europe/Berlin", "low", "all", "pack"]),
    st.dictionaries(st.text(max_size=5), st.one_of(st.text(max_size=5), st.integers())),
)
NUMBERS = st.integers(0, rules.MOMENT_MS_MAX)
TIMES = st.one_of(
    st.fixed_dictionaries({"cron": CRONS, "tz": st.sampled_from(ZONES)}),
    st.fixed_dictionaries({"every_ms": st.integers(1_000, 2**38)}),
    st.fixed_dictionaries({"at": NUMBERS}),
)
PLACES = st.fixed_dictionaries(
    {},
    optional={
        "next_ms": NUMBERS,
        "jitter_ms": JITTERS,
        "catch_up": st.sampled_from(["none", "all"]),
    },
)
NAMES = st.sampled_from([*Schedule.__struct_fields__, "else"])
MEMBERS = st.builds(
    lambda times, place, wrong: {"type": "pack", **times, **place, **wrong},
    TIMES,
    PLACES,
    st.dictionaries(NAMES, VALUES, max_size=2),
)


@given(members=MEMBERS, now_ms=st.integers(0, rules.MOMENT_MS_MAX))
def test_a_record_that_was_read_can_be_fired_at_any_time(
    members: dict[str, object], now_ms: int
) -> None:
    """Goal: what passes the reading never breaks the loop that fires it."""
    try:
        _, spec = read_schedule(b"n", json.dumps(members).encode())
    except ScheduleError:
        return
    planned = spec if spec.next_ms else rules.planned(spec, now_ms)
    firing = rules.firing("n", planned, now_ms)
    if firing is not None:
        assert len(firing.ticks) <= rules.CATCH_UP_MAX
        assert all(job_fields("n", planned, tick) for tick in firing.ticks)
