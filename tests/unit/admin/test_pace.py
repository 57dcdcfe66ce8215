"""Rates of queues, and when they will be empty."""

from __future__ import annotations

from typing import Any

import pytest

from engine.admin.pace import SPARK_MINUTES, Pace, empty_in, rows_added
from engine.core.steps import Step
from schemas.numbers import Levels, Rates
from schemas.stats import HeldType, QueueStats
from tests.support.page import queue


def stats(*, done: int = 0, waiting: int = 0, **changes: Any) -> QueueStats:
    return queue(totals={"done": {"t": done}}, **{"waiting": waiting, "recent": {}} | changes)


def looked(*looks: tuple[float, QueueStats], recent: dict[str, int] | None = None) -> Rates:
    pace = Pace()
    for at_s, each in looks:
        pace.sample(each, at_s)
    return pace.glance(looks[-1][1]).rate


def test_the_present_rate_is_that_of_the_last_half_minute() -> None:
    rate = looked(
        *((at, stats(done=100 * at, waiting=5_000 - 50 * at, active=0)) for at in range(100))
    )

    assert rate.done_s == pytest.approx(100)
    assert rate.growth_s == pytest.approx(-50)
    assert rate.in_s == pytest.approx(50)


def test_a_queue_that_stands_still_is_seen_at_once() -> None:
    busy = {"done": 30_000}
    rate = looked(*((at, stats(done=500, waiting=900, recent=busy)) for at in range(5)))

    assert rate.done_s == 0
    assert rate.growth_s == 0


def test_few_jobs_are_counted_over_minutes() -> None:
    rate = looked(*((at, stats(done=at // 20, recent={"done": 15})) for at in range(30)))

    assert rate.done_s == pytest.approx(0.05)


def test_counters_that_begin_anew_give_no_wild_rate() -> None:
    rate = looked((0, stats(done=1_000_000)), (5, stats(done=0)), (10, stats(done=500)))

    assert rate.done_s == pytest.approx(100)


def test_who_had_read_before_another_does_not_upset_the_rate() -> None:
    rate = looked(
        *((at, stats(done=500 * at, waiting=9_000)) for at in range(20)),
        (19.02, stats(done=500 * 19 - 1, waiting=9_000)),
    )

    assert rate.done_s == pytest.approx(500)


def test_failing_is_the_share_of_failed_attempts() -> None:
    recent = {"done": 90, "retried": 6, "dead": 4, "snoozed": 100}

    assert looked((0, stats(recent=recent))).failing == pytest.approx(0.1)
    assert looked((0, stats(recent={}))).failing is None


def test_minutes_without_anybody_are_gaps() -> None:
    pace = Pace()
    known = {minute: Step(done=minute, last=Levels(waiting=minute)) for minute in (100, 101, 105)}
    pace.learn(known, 105)
    pace.sample(stats(), 0)

    spark = pace.glance(stats()).spark

    assert spark.from_ms == (106 - SPARK_MINUTES) * 60_000
    assert spark.done[-6:] == [100, 101, None, None, None, 105]
    assert spark.came[-6:] == [None, 102, None, None, None, None]
    assert len(spark.done) == len(spark.came) == SPARK_MINUTES


def test_minutes_are_read_once() -> None:
    pace = Pace()
    assert pace.unread(200) == range(140, 201)
    pace.learn({}, 200)
    assert pace.unread(200) == range(201, 201)
    assert pace.unread(202) == range(201, 203)
    assert pace.unread(900) == range(840, 901)


HELD = [HeldType(type="t", jobs=3, held=True)]


@pytest.mark.parametrize(
    ("changes", "rate", "told"),
    [
        ({"waiting": 0}, Rates(), (0, "empty")),
        ({"waiting": 0, "paused": True}, Rates(), (0, "empty")),
        ({"waiting": 9, "paused": True}, Rates(done_s=1, growth_s=-1), (None, "paused")),
        ({"waiting": 9, "engines": []}, Rates(done_s=1, growth_s=-1), (None, "no engine")),
        ({"waiting": 9, "held": HELD}, Rates(done_s=0, growth_s=0), (None, "held")),
        ({"waiting": 9, "held": HELD}, Rates(done_s=1, growth_s=-3), (3_000, "3.0 s")),
        ({"waiting": 9}, Rates(), (None, "—")),
        ({"waiting": 900}, Rates(done_s=100, growth_s=-10), (90_000, "1 m 30 s")),
        ({"waiting": 900}, Rates(done_s=100, growth_s=0), (None, "never")),
        ({"waiting": 900}, Rates(done_s=100, growth_s=5), (None, "never")),
        ({"waiting": 900}, Rates(done_s=1_000, growth_s=5), (900, "900 ms")),
        ({"waiting": 10**9}, Rates(done_s=1, growth_s=-1), (None, "never")),
    ],
)
def test_a_queue_says_when_it_is_empty(
    changes: dict[str, Any], rate: Rates, told: tuple[int | None, str]
) -> None:
    assert empty_in(stats(**changes), rate) == told


def test_rows_of_queues_add_up_where_any_is_known() -> None:
    assert rows_added([[1, None, None], [2, 5, None]]) == [3, 5, None]
