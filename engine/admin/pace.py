"""How fast a queue goes, and when it will be empty. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from engine.admin.words import span
from engine.core.numbers import failing_share
from engine.core.steps import ENDED, Step, came, came_of
from schemas.numbers import MINUTE_MS, Glance, Levels, Rates, SparkLine
from schemas.stats import QueueStats

WINDOW_S = 30.0
"""Over how long the present pace is measured, while somebody looks."""

TOGETHER_S = 5.0
"""How far two who look may be apart and have read in the other order."""

SPAN_S_MIN = 2.5
JOBS_MIN = 10
"""Fewer jobs within the window say less than the last minutes do."""

RECENT_S = 300
RECENT_MINUTES = 5
KEEPS_UP_S = 2.0
"""What waits no longer than that does so because jobs arrive in bursts."""

FAR_MS = 30 * 86_400_000
SPARK_MINUTES = 60


class Sample(msgspec.Struct, frozen=True):
    """
    What a queue had done by a moment.

    Attributes:
        at_s: The moment, by the monotonic clock.
        done: Jobs done ever.
        ended: Jobs that have ended ever, in any way.
        unended: Jobs that have not.
        waiting: Those of them that wait.
    """

    at_s: float
    done: int
    ended: int
    unended: int
    waiting: int


class Pace:
    """
    What is known of one queue's pace: its last hour by the minute, and samples of just now.

    Attributes:
        minutes: Unix minute → what was counted; minutes of which nothing is known are left out.
        read_to: The first minute that was not read yet.
    """

    def __init__(self) -> None:
        self.minutes: dict[int, Step] = {}
        self.read_to = 0
        self._samples: deque[Sample] = deque()
        self._spark: SparkLine | None = None

    def unread(self, last: int) -> range:
        """The minutes that are to be read, up to the last one that is over."""
        return range(max(self.read_to, last - SPARK_MINUTES), last + 1)

    def learn(self, found: Mapping[int, Step], last: int) -> None:
        """Take in minutes up to the last one that is over, and forget what is too old."""
        self.minutes |= found
        self.read_to = last + 1
        for minute in [each for each in self.minutes if each < last - SPARK_MINUTES]:
            del self.minutes[minute]
        self._spark = None

    def sample(self, stats: QueueStats, at_s: float) -> None:
        """Note what a queue holds now."""
        totals = {outcome: sum(types.values()) for outcome, types in stats.totals.items()}
        ended = sum(totals.get(outcome, 0) for outcome in ENDED)
        held = sum(each.jobs for each in stats.held)
        unended = stats.waiting + stats.active + stats.delayed + held + stats.flows
        new = Sample(at_s, totals.get("done", 0), ended, unended, stats.waiting)
        if self._samples and new.ended < self._samples[-1].ended:
            if at_s - self._samples[-1].at_s < TOGETHER_S:
                # Of two who look at the same time, this one had read first.
                return
            # The counters began anew.
            self._samples.clear()
        self._samples.append(new)
        while self._samples[0].at_s < at_s - WINDOW_S:
            self._samples.popleft()

    def glance(self, stats: QueueStats) -> Glance:
        """Say how fast the queue goes; call :meth:`sample` before."""
        rate = self._rates(stats)
        empty_in_ms, empty = empty_in(stats, rate)
        if self._spark is None:
            self._spark = self._line()
        return Glance(rate=rate, spark=self._spark, empty_in_ms=empty_in_ms, empty=empty)

    def _rates(self, stats: QueueStats) -> Rates:
        recent = stats.recent
        failing = failing_share(*(recent.get(each, 0) for each in ("done", "retried", "dead")))
        steady = Rates(
            done_s=recent.get("done", 0) / RECENT_S,
            in_s=self._came_lately(),
            growth_s=self._growth_lately(),
            failing=failing,
        )
        first, last = self._samples[0], self._samples[-1]
        span_s = last.at_s - first.at_s
        if span_s < SPAN_S_MIN:
            return steady
        ended = last.ended - first.ended
        expected = sum(recent.get(each, 0) for each in ENDED) / RECENT_S * span_s
        grown = last.unended - first.unended
        if max(ended, expected, abs(grown), first.waiting) < JOBS_MIN:
            return steady
        return Rates(
            done_s=(last.done - first.done) / span_s,
            in_s=max(0.0, (ended + grown) / span_s),
            growth_s=(last.waiting - first.waiting) / span_s,
            failing=failing,
        )

    def _lately(self) -> list[tuple[Levels | None, Step]]:
        """The last minutes that are known, each after what the one before it ended with."""
        last = self.read_to - 1
        found = []
        for minute in range(last - RECENT_MINUTES + 1, last + 1):
            step, before = self.minutes.get(minute), self.minutes.get(minute - 1)
            if step is not None:
                found.append((before.last if before else None, step))
        return found

    def _came_lately(self) -> float | None:
        told = [came(before, step) for before, step in self._lately()]
        known = [each for each in told if each is not None]
        return sum(known) / (60 * len(known)) if known else None

    def _growth_lately(self) -> float | None:
        grown = [
            step.last.waiting - before.waiting
            for before, step in self._lately()
            if before is not None and step.last is not None
        ]
        return sum(grown) / (60 * len(grown)) if grown else None

    def _line(self) -> SparkLine:
        first = self.read_to - SPARK_MINUTES
        minutes = range(first, self.read_to)
        steps = [self.minutes.get(minute) for minute in minutes]
        return SparkLine(
            from_ms=first * MINUTE_MS,
            step_ms=MINUTE_MS,
            done=[step.done if step is not None else None for step in steps],
            came=came_of([self.minutes.get(first - 1), *steps]),
            retried=[step.retried if step is not None else None for step in steps],
            dead=[step.dead if step is not None else None for step in steps],
        )


def empty_in(stats: QueueStats, rate: Rates) -> tuple[int | None, str]:
    """
    Say in how many ms nothing will wait any more at this pace, and the same in words.

    Args:
        stats: What the queue holds.
        rate: How fast it goes.
    """
    if not stats.waiting:
        return 0, "empty"
    stopped = _stopped(stats, rate)
    if stopped:
        return None, stopped
    if rate.done_s is None or rate.growth_s is None:
        return None, "—"
    if stats.waiting <= rate.done_s * KEEPS_UP_S:
        in_ms = 1e3 * stats.waiting / rate.done_s
    elif rate.growth_s < 0:
        in_ms = 1e3 * stats.waiting / -rate.growth_s
    else:
        return None, "never"
    return (round(in_ms), span(in_ms)) if in_ms < FAR_MS else (None, "never")


def _stopped(stats: QueueStats, rate: Rates) -> str:
    """Say in a word why nothing moves on; empty if it may."""
    if stats.paused:
        return "paused"
    if not stats.engines:
        return "no engine"
    if not rate.done_s and any(held.held for held in stats.held):
        return "held"
    return ""


def rows_added(rows: Sequence[Sequence[int | None]]) -> list[int | None]:
    """Add up rows of several queues; a step is known if it is of any."""
    added: list[int | None] = []
    for column in zip(*rows, strict=True):
        known = [value for value in column if value is not None]
        added.append(sum(known) if known else None)
    return added
