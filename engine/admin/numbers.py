"""Charts, percentiles and paces of queues, from what engines count by the minute."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Sequence

from engine.admin.base import AdminBase, checked_queue
from engine.admin.pace import Pace, rows_added
from engine.core.numbers import (
    MINUTES_PER_QUARTER,
    QUARTERS_PER_HOUR,
    failing_share,
    merged,
    quantile_ms,
    spread_of,
)
from engine.core.steps import Step, came_of, following, together
from engine.store.operator.numbers import ENDS
from schemas.numbers import (
    HOUR_MS,
    MINUTE_MS,
    QUARTER_MS,
    Columns,
    DeathRate,
    Glance,
    Levels,
    Mark,
    Numbers,
    Percentiles,
    Range,
    Series,
    TypeNumbers,
)
from schemas.stats import Audited, EngineStats, QueueStats

LATE_MS = 10_000
"""How long after its end a minute counts as over: by then engines have told of it."""

STEPS: dict[Range, tuple[int, int]] = {
    "1h": (60, MINUTE_MS),
    "24h": (96, QUARTER_MS),
    "7d": (168, HOUR_MS),
}
"""How many steps a range has, and how long each is."""

UNKEPT_MS = 3 * HOUR_MS
"""Quarters that nobody has summed up are made of their minutes for so long."""

AUDIT_MAX = 200
MARKS_MAX = 50
MARKED = ("pause", "resume", "hold", "release", "concurrency", "bounds", "order")
MARKED_GROUPS = ("limit-", "dead-")
DAY_QUARTERS = 96
DEATHS_FRESH_MS = 5_000
"""The page asks once a second, of all queues with dead letters."""

Steps = list[Step | None]


class NumberVerbs(AdminBase):
    """The verbs that tell what queues did over time."""

    async def series(self, queue: str = "", range_: Range = "1h") -> Series:
        """
        Tell what a queue did over the last hour, day or week, in equal steps.

        Args:
            queue: The queue; empty for all that the app or a running engine knows, together.
            range_: ``1h`` in minutes, ``24h`` in quarters of an hour, ``7d`` in hours.
        """
        engines = await self.engines()
        now_ms = await self._shelf.now_ms()
        count, step_ms = STEPS[range_]
        end = (now_ms - LATE_MS) // step_ms
        columns = self._shelf.get(range_, queue, end)
        if not isinstance(columns, Columns):
            names = [checked_queue(queue)] if queue else self._known(engines)
            columns = await self._columns(names, range_, end)
            self._shelf.put(range_, queue, end, columns)
        from_ms = (end - count) * step_ms
        audited = await self._store.audit.latest(AUDIT_MAX)
        return Series(
            queue=queue,
            range=range_,
            from_ms=from_ms,
            step_ms=step_ms,
            now_ms=now_ms,
            columns=columns,
            marks=marks_of(queue, audited, engines, from_ms),
        )

    async def percentiles(self, queue: str, minutes: int = 60) -> Percentiles:
        """
        Tell how long the jobs of a queue ran, by type, and waited, by lane.

        Args:
            queue: The queue.
            minutes: Over the last so many minutes that are over.
        """
        end = (await self._shelf.now_ms() - LATE_MS) // MINUTE_MS
        name = f"percentiles {minutes}"
        made = self._shelf.get(name, checked_queue(queue), end)
        if not isinstance(made, Percentiles):
            found = await self._store.numbers.minutes(queue, range(end - minutes, end))
            made = percentiles_of(queue, minutes, merged(found.values()) or Numbers())
            self._shelf.put(name, queue, end, made)
        return made

    async def glance(self, queues: Sequence[QueueStats]) -> dict[str, Glance]:
        """
        Tell the pace of queues: rates, the last hour by the minute, when each will be empty.

        Cheap enough to be asked once a second: minutes are read once, when they are over. Rates are
        those of the last half minute while it is asked for, else of the last five minutes.

        Args:
            queues: What they hold now.
        """
        last = (await self._shelf.now_ms() - LATE_MS) // MINUTE_MS - 1
        paces = self._shelf.paces
        wanted = {}
        for stats in queues:
            pace = paces.setdefault(stats.queue, Pace())
            if pace.read_to <= last:
                wanted[stats.queue] = (pace.unread(last), _counters(stats))
        for queue, found in (await self._store.numbers.ends(wanted)).items():
            paces[queue].learn(found, last)
        at_s = self._clock.monotonic()
        glances = {}
        for stats in queues:
            paces[stats.queue].sample(stats, at_s)
            glances[stats.queue] = paces[stats.queue].glance(stats)
        return glances

    async def death_rates(self, queue: str) -> dict[str, DeathRate]:
        """
        Tell how the deaths of each group are spread over the last day, by fingerprint.

        What it tells may be five seconds old.
        """
        now_ms = await self._shelf.now_ms()
        found = self._shelf.get("deaths", checked_queue(queue), now_ms // DEATHS_FRESH_MS)
        if isinstance(found, dict):
            return found
        end = now_ms // QUARTER_MS + 1
        quarters = range(end - DAY_QUARTERS, end)
        steps = await self._quarters(queue, quarters)
        prints = {name for step in steps if step is not None for name in step.deaths}
        rates: dict[str, DeathRate] = {}
        for name in prints:
            deaths = [step.deaths.get(name, 0) if step is not None else 0 for step in steps]
            rates[name] = DeathRate(
                fingerprint=name,
                hour=sum(deaths[-QUARTERS_PER_HOUR - 1 :]),
                from_ms=quarters.start * QUARTER_MS,
                step_ms=QUARTER_MS,
                deaths=deaths,
            )
        self._shelf.put("deaths", queue, now_ms // DEATHS_FRESH_MS, rates)
        return rates

    def _known(self, engines: Sequence[EngineStats]) -> list[str]:
        served = {queue for engine in engines for queue in engine.beat.queues}
        return sorted({*self._types} | served)

    async def _columns(self, queues: Sequence[str], range_: Range, end: int) -> Columns:
        count, _ = STEPS[range_]
        total: Steps = [None] * count
        came: list[list[int | None]] = [[None] * count]
        for queue in queues:
            steps = await self._steps(queue, range_, range(end - count - 1, end))
            came.append(came_of(steps))
            total = [together(pair) for pair in zip(total, steps[1:], strict=True)]
            # Many queues over a week take a while, in which the loop must turn.
            await asyncio.sleep(0)
        return columns_of(total, rows_added(came))

    async def _steps(self, queue: str, range_: Range, steps: range) -> Steps:
        if range_ == "1h":
            minutes = await self._store.numbers.steps(queue, steps)
            return [minutes.get(minute) for minute in steps]
        if range_ == "24h":
            return await self._quarter_steps(queue, steps)
        quarters = await self._quarter_steps(
            queue, range(steps.start * QUARTERS_PER_HOUR, steps.stop * QUARTERS_PER_HOUR)
        )
        return [
            following(quarters[at : at + QUARTERS_PER_HOUR])
            for at in range(0, len(quarters), QUARTERS_PER_HOUR)
        ]

    async def _quarter_steps(self, queue: str, quarters: range) -> Steps:
        """Read quarters of an hour, lately ended ones from their minutes if need be."""
        kept = await self._store.numbers.quarter_steps(queue, quarters)
        missing = _unkept(quarters, kept)
        if missing:
            minutes = await self._store.numbers.steps(queue, _minutes_of(missing))
            for quarter in (each for each in missing if each not in kept):
                few = _minutes_of(range(quarter, quarter + 1))
                kept[quarter] = following(minutes.get(minute) for minute in few)
        return [kept.get(quarter) for quarter in quarters]

    async def _quarters(self, queue: str, quarters: range) -> list[Numbers | None]:
        """Read all that is known of quarters of an hour, likewise."""
        kept = await self._store.numbers.quarters(queue, quarters)
        missing = _unkept(quarters, kept)
        if missing:
            minutes = await self._store.numbers.minutes(queue, _minutes_of(missing))
            for quarter in (each for each in missing if each not in kept):
                few = _minutes_of(range(quarter, quarter + 1))
                kept[quarter] = merged(minutes.get(minute) for minute in few)
        return [kept.get(quarter) for quarter in quarters]


def _unkept(quarters: range, kept: Container[int]) -> range:
    """The quarters at the end that nobody has summed up; older gaps are those of no engine."""
    lately = range(max(quarters.start, quarters.stop - UNKEPT_MS // QUARTER_MS), quarters.stop)
    first = next((quarter for quarter in lately if quarter not in kept), quarters.stop)
    return range(first, quarters.stop)


def _minutes_of(quarters: range) -> range:
    return range(quarters.start * MINUTES_PER_QUARTER, quarters.stop * MINUTES_PER_QUARTER)


def columns_of(steps: Steps, came: list[int | None]) -> Columns:
    """Turn steps into columns."""
    waits = [step.wait if step is not None else [] for step in steps]
    most = [step.most if step is not None else None for step in steps]
    return Columns(
        done=[step.done if step is not None else None for step in steps],
        retried=[step.retried if step is not None else None for step in steps],
        dead=[step.dead if step is not None else None for step in steps],
        came=came,
        waiting=[_level(each, "waiting") for each in most],
        active=[_level(each, "active") for each in most],
        delayed=[_level(each, "delayed") for each in most],
        oldest_ms=[_level(each, "oldest_ms") for each in most],
        wait_p50_ms=[quantile_ms(each, 0.5) for each in waits],
        wait_p95_ms=[quantile_ms(each, 0.95) for each in waits],
        wait_p99_ms=[quantile_ms(each, 0.99) for each in waits],
    )


def _level(levels: Levels | None, name: str) -> int | None:
    return getattr(levels, name) if levels is not None else None


def percentiles_of(queue: str, minutes: int, numbers: Numbers) -> Percentiles:
    """Turn sums into percentiles."""
    names = {*numbers.run} | {name for types in numbers.ends.values() for name in types}
    types = {}
    for name in sorted(names):
        done, retried, dead = (
            numbers.ends.get(outcome, {}).get(name, 0) for outcome in ("done", "retried", "dead")
        )
        types[name] = TypeNumbers(
            done=done,
            retried=retried,
            dead=dead,
            failing=failing_share(done, retried, dead),
            run=spread_of(numbers.run.get(name, [])),
        )
    waits = {lane: spread_of(counts) for lane, counts in numbers.wait.items()}
    return Percentiles(queue=queue, minutes=minutes, types=types, waits=waits)


def marks_of(
    queue: str, audited: Sequence[Audited], engines: Sequence[EngineStats], from_ms: int
) -> list[Mark]:
    """
    List what people did to a queue, and when versions were started, the oldest first.

    Args:
        queue: The queue; empty for all.
        audited: Changes, the newest first.
        engines: Engines, whose beats tell since when they run.
        from_ms: Earlier moments are left out.
    """
    marks = [
        Mark(at_ms=each.at, what=each.what, who=each.who, queue=each.queue, reason=each.reason)
        for each in audited
        if each.at >= from_ms
        and (each.what in MARKED or each.what.startswith(MARKED_GROUPS))
        and (not queue or each.queue == queue)
    ][:MARKS_MAX]
    # Those that fell into one ms stay in the order in which they were made.
    marks.reverse()
    started: dict[str, int] = {}
    for beat in (engine.beat for engine in engines):
        if not queue or queue in beat.queues:
            before = started.get(beat.version, beat.started_ms)
            started[beat.version] = min(before, beat.started_ms)
    marks += [
        Mark(at_ms=at_ms, what="version", who=version)
        for version, at_ms in started.items()
        if at_ms >= from_ms
    ]
    return sorted(marks, key=lambda mark: mark.at_ms)


def _counters(stats: QueueStats) -> list[str]:
    return [f"{outcome}:{name}" for outcome in ENDS for name in stats.totals.get(outcome, {})]
