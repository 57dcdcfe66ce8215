"""What engines count by the minute, how it is kept, and what charts are made of."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.stats import View

BOUNDS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the buckets of durations, in seconds; one more bucket takes what is longer."""

MINUTE_MS = 60_000
QUARTER_MS = 15 * MINUTE_MS
HOUR_MS = 60 * MINUTE_MS

Range = Literal["1h", "24h", "7d"]


class Levels(msgspec.Struct, frozen=True, array_like=True):
    """
    What a queue holds at one moment, over all lanes.

    Attributes:
        waiting, active, delayed, held, flows, dead: Jobs.
        oldest_ms: Age of the oldest waiting one.
    """

    waiting: int = 0
    active: int = 0
    delayed: int = 0
    held: int = 0
    flows: int = 0
    dead: int = 0
    oldest_ms: int = 0

    @property
    def unended(self) -> int:
        """Jobs that have come in and have not ended."""
        return self.waiting + self.active + self.delayed + self.held + self.flows


class Numbers(msgspec.Struct, omit_defaults=True):
    """
    What one queue did within a minute, or within several.

    The same is kept as JSON for each quarter of an hour.

    Attributes:
        ends: Outcome → type → how many attempts ended so.
        run: Type → attempts by the bucket of their run time.
        wait: Lane → jobs by the bucket of their time from entry to start.
        last: What the queue held when it was last looked at.
        most: The most of each that was seen; None where nobody looked.
        deaths: Fingerprint → deaths.
    """

    ends: dict[str, dict[str, int]] = {}
    run: dict[str, list[int]] = {}
    wait: dict[str, list[int]] = {}
    last: Levels | None = None
    most: Levels | None = None
    deaths: dict[str, int] = {}

    def total(self, outcome: str) -> int:
        """How many attempts ended so, of all types."""
        return sum(self.ends.get(outcome, {}).values())


class Mark(View, frozen=True, kw_only=True):
    """
    A moment that a chart points out.

    Attributes:
        at_ms: When.
        what: ``pause``, ``hold`` and so on as in the audit stream, or ``version``.
        who: The person, or the version that was started.
        queue: The queue; empty for all.
        reason: Why, as far as it was said.
    """

    at_ms: int
    what: str
    who: str
    queue: str = ""
    reason: str = ""


class Columns(View, frozen=True, kw_only=True):
    """
    One value per step; null where nothing is known.

    Attributes:
        done, retried, dead: Attempts that ended so within the step.
        came: Jobs that came in, made up from the ends and from what the queue held; approximate.
        waiting, active, delayed: The most that the queue held.
        oldest_ms: The highest age of its oldest waiting job.
        wait_p50_ms, wait_p95_ms, wait_p99_ms: Time from entry to start, over all lanes.
    """

    done: list[int | None]
    retried: list[int | None]
    dead: list[int | None]
    came: list[int | None]
    waiting: list[int | None]
    active: list[int | None]
    delayed: list[int | None]
    oldest_ms: list[int | None]
    wait_p50_ms: list[float | None]
    wait_p95_ms: list[float | None]
    wait_p99_ms: list[float | None]


class Series(View, frozen=True, kw_only=True):
    """
    What a queue did over a while, in equal steps.

    Attributes:
        queue: The queue; empty for all of them together.
        range: ``1h``, ``24h`` or ``7d``.
        from_ms: Where the first step begins.
        step_ms: How long each is. The step that is not over yet is left out.
        now_ms: When it was asked for.
        columns: The values.
        marks: What people did meanwhile.
    """

    queue: str
    range: Range
    from_ms: int
    step_ms: int
    now_ms: int
    columns: Columns
    marks: list[Mark]


class Spread(View, frozen=True, kw_only=True):
    """
    Percentiles of durations, interpolated within buckets.

    Attributes:
        count: How many durations.
        p50_ms, p95_ms, p99_ms: Null without any; what is beyond the last bound counts as it.
    """

    count: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class TypeNumbers(View, frozen=True, kw_only=True):
    """
    What became of the jobs of one type.

    Attributes:
        done, retried, dead: Attempts that ended so.
        failing: The share of attempts that failed; null without any.
        run: Run times of attempts.
    """

    done: int
    retried: int
    dead: int
    failing: float | None
    run: Spread


class Percentiles(View, frozen=True, kw_only=True):
    """
    How long the jobs of a queue ran and waited lately.

    Attributes:
        queue: The queue.
        minutes: Over how many minutes, the present one left out.
        types: Type → what became of its jobs.
        waits: Lane → time from entry to start.
    """

    queue: str
    minutes: int
    types: dict[str, TypeNumbers]
    waits: dict[str, Spread]


class Rates(View, frozen=True, kw_only=True):
    """
    How fast a queue goes now.

    Attributes:
        done_s: Jobs done per second; null while unknown.
        in_s: Jobs that came in per second; approximate.
        growth_s: Waiting jobs gained per second.
        failing: The share of attempts that failed; null without any.
    """

    done_s: float | None = None
    in_s: float | None = None
    growth_s: float | None = None
    failing: float | None = None


class SparkLine(View, frozen=True, kw_only=True):
    """
    The last hour by the minute; null where nothing is known.

    Attributes:
        from_ms: Where the first minute begins.
        step_ms: One minute.
        done, came, retried, dead: As in :class:`Columns`.
    """

    from_ms: int
    step_ms: int
    done: list[int | None]
    came: list[int | None]
    retried: list[int | None]
    dead: list[int | None]


class Glance(View, frozen=True, kw_only=True):
    """
    One queue's pace, for a row of a table.

    Attributes:
        rate: How fast it goes.
        spark: Its last hour.
        empty_in_ms: When nothing will wait any more at this pace; null where ``empty`` says why.
        empty: The same in words: ``empty``, ``4 m 12 s``, ``never``, ``paused``, ``held``,
            ``no engine`` or ``—`` while unknown.
    """

    rate: Rates
    spark: SparkLine
    empty_in_ms: int | None
    empty: str


class DeathRate(View, frozen=True, kw_only=True):
    """
    How the deaths of one group are spread over the last day.

    Attributes:
        fingerprint: The group.
        hour: Deaths within the last hour, or a little more.
        from_ms: Where the first step begins.
        step_ms: A quarter of an hour.
        deaths: Deaths per step; the last one is not over yet.
    """

    fingerprint: str
    hour: int
    from_ms: int
    step_ms: int
    deaths: list[int]
