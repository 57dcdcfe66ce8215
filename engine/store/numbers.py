"""The minute counters of a queue: what engines add to them, and what is kept of each quarter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from engine.core.numbers import (
    LEVELS,
    MINUTES_PER_QUARTER,
    QUARTERS_PER_HOUR,
    counts_text,
    levels_text,
    quarter_of,
    read_minutes,
)
from engine.store.link import Argument, Command, Link, checked
from engine.store.scripts import script
from engine.wire.keys import QueueKeys
from schemas.numbers import HOUR_MS, MINUTE_MS, QUARTER_MS, Levels

MINUTES_TTL_S = 25 * 3_600
"""The minutes serve charts of an hour, and what is kept of quarters, should nobody have kept it."""

QUARTERS_TTL_S = 9 * 86_400
"""One key a day; seven whole days and the present one are there at any time."""

LATE_MS = 30_000
"""How long after its end a quarter is summed up: by then all engines have told of it."""

QUARTERS = 24 * QUARTERS_PER_HOUR
"""How far back quarters are summed up that nobody has kept."""


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one engine adds to the counters of one minute.

    Attributes:
        sequence: Its number within the engine and queue. One that was applied is not applied
            again, so that it can be sent until there is an answer.
        at_ms: Unix ms, which chooses the minute.
        counts: ``run:<type>`` or ``wait:<lane>`` → how many more are in each bucket.
        levels: What the queue holds; takes the place of what was told of the minute before.
    """

    sequence: int
    at_ms: int
    counts: Mapping[str, Sequence[int]]
    levels: Levels | None = None


class NumberStore(Protocol):
    """What an engine asks of the counters of its queues."""

    async def tally(self, queue: str, tally: Tally) -> bool:
        """Add to a minute; returns False if that had been done before."""

    async def sum_up(self, queue: str, now_ms: int) -> int:
        """
        Keep the sums of the quarters of an hour that are over, for charts over days.

        Safe to repeat, and for several engines to do at once: the sums are those of the minutes,
        and what is there already stays. Returns how many quarters were added.
        """


class NumberVerbs:
    """The verbs of :class:`NumberStore` over a real server."""

    consumer: str
    _upkeep: Link

    def keys_of(self, queue: str) -> QueueKeys:
        """The keys of one queue."""
        raise NotImplementedError

    async def tally(self, queue: str, tally: Tally) -> bool:
        keys = [self.keys_of(queue).minutes(tally.at_ms)]
        return bool(
            await self._upkeep.run(
                script("tally"), keys, *tally_arguments(self.consumer, tally, MINUTES_TTL_S)
            )
        )

    async def sum_up(self, queue: str, now_ms: int) -> int:
        keys = self.keys_of(queue)
        days = days_of(keys, quarters_over(now_ms))
        asked: list[Command] = [(b"HMGET", key, *map(str, few)) for key, few in days.items()]
        missing = [
            quarter
            for quarters, found in zip(
                days.values(), checked(await self._upkeep.call(*asked)), strict=True
            )
            for quarter, raw in zip(quarters, found, strict=True)
            if raw is None
        ]
        added = 0
        for hour, quarters in by_hour(missing).items():
            flat = await self._upkeep.one(b"HGETALL", keys.minutes(hour * HOUR_MS))
            if not flat:
                continue
            minutes = read_minutes(dict(zip(flat[::2], flat[1::2], strict=True)))
            for key, few in days_of(keys, quarters).items():
                pairs: list[Argument] = []
                for quarter in few:
                    pairs += [str(quarter), quarter_of(minutes, quarter)]
                checked(
                    await self._upkeep.call(
                        (b"HSET", key, *pairs), (b"EXPIRE", key, QUARTERS_TTL_S)
                    )
                )
                added += len(few)
        return added


def tally_arguments(consumer: str, tally: Tally, ttl_s: int) -> list[Argument]:
    """Build the arguments of the script ``tally``."""
    minute = tally.at_ms // MINUTE_MS
    fields: list[Argument] = []
    for name, counts in tally.counts.items():
        fields += [f"{minute}:{name}", counts_text(counts)]
    levels = levels_text(tally.levels) if tally.levels is not None else ""
    return [f"@{consumer}", tally.sequence, ttl_s, f"{minute}:{LEVELS}", levels, *fields]


def quarters_over(now_ms: int) -> range:
    """The quarters of the last day that are over, by their number since 1970."""
    end = (now_ms - LATE_MS) // QUARTER_MS
    return range(end - QUARTERS, end)


def days_of(keys: QueueKeys, quarters: Iterable[int]) -> dict[str, list[int]]:
    """Sort quarters by the key of their day."""
    found: dict[str, list[int]] = {}
    for quarter in quarters:
        found.setdefault(keys.quarters(quarter * QUARTER_MS), []).append(quarter)
    return found


def by_hour(quarters: Iterable[int]) -> dict[int, list[int]]:
    """Sort quarters by their hour."""
    found: dict[int, list[int]] = {}
    for quarter in quarters:
        found.setdefault(quarter // QUARTERS_PER_HOUR, []).append(quarter)
    return found


__all__ = [
    "LATE_MS",
    "MINUTES_PER_QUARTER",
    "MINUTES_TTL_S",
    "NumberStore",
    "NumberVerbs",
    "Tally",
    "by_hour",
    "days_of",
    "quarters_over",
    "tally_arguments",
]
