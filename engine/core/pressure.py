"""How much a queue may hold, and which new jobs still find room. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

SHED_AT = {"critical": 100, "high": 95, "normal": 90, "low": 80}
"""Percent of the bounds above which a lane's jobs are shed, so that lower lanes give way first."""

ALARM_AT = 0.8
"""How full a queue is when engines and ``health`` begin to warn."""

SHED = b"shed"
FULL = b"full"


class Bounds(msgspec.Struct, frozen=True):
    """
    What a queue may hold: jobs that wait, run, are delayed or set aside.

    Attributes:
        jobs: Their number; 0 for no bound.
        bytes: The memory that they take on the server; 0 for no bound.
    """

    jobs: int = 0
    bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.jobs or self.bytes)


class Level(msgspec.Struct, frozen=True):
    """What a queue holds: the number of its jobs, and the memory that they take."""

    jobs: int = 0
    bytes: int = 0


class Asked(msgspec.Struct, frozen=True):
    """
    A job that asks for room.

    Attributes:
        lane: Its lane.
        size: Bytes that it adds.
        sheds: Whether it is to be dropped where there is none.
    """

    lane: str
    size: int
    sheds: bool


def share(lane: str, *, sheds: bool) -> int:
    """Return the percent of the bounds that a job may fill."""
    return SHED_AT[lane] if sheds else 100


def answers(level: Level, bounds: Bounds, asked: Sequence[Asked]) -> list[bytes]:
    """
    Say what becomes of a batch: ``b""`` for taken, else :data:`SHED` or :data:`FULL`.

    The script ``enqueue_bounded`` does the same on the server; a test holds it to this.
    """
    jobs, size = level.jobs, level.bytes
    found: list[bytes] = []
    for each in asked:
        # Once one job has to wait all later ones do, whatever their size: they keep their order.
        behind = not each.sheds and FULL in found
        if not behind and has_room(Level(jobs, size), bounds, each):
            jobs, size = jobs + 1, size + each.size
            found.append(b"")
        else:
            found.append(SHED if each.sheds else FULL)
    return found


def has_room(level: Level, bounds: Bounds, asked: Asked) -> bool:
    """Tell whether one more job finds room; an empty queue takes one of any size and lane."""
    if not level.jobs:
        return True
    percent = share(asked.lane, sheds=asked.sheds)
    if bounds.jobs and level.jobs >= bounds.jobs * percent // 100:
        return False
    return not bounds.bytes or (level.bytes + asked.size) * 100 <= bounds.bytes * percent


def ratio(level: Level, bounds: Bounds) -> float:
    """Return how full a queue is by jobs or bytes, the larger; 0 without bounds."""
    jobs = level.jobs / bounds.jobs if bounds.jobs else 0.0
    return max(jobs, level.bytes / bounds.bytes if bounds.bytes else 0.0)


def seconds_until_full(level: Level, bounds: Bounds, growth: tuple[float, float]) -> float | None:
    """
    Estimate when a queue is full.

    Args:
        level: What it holds.
        bounds: What it may hold.
        growth: Jobs and bytes that it gains per second.

    Returns:
        Seconds, or None if it does not grow towards any of its bounds.
    """
    ways = ((bounds.jobs, level.jobs, growth[0]), (bounds.bytes, level.bytes, growth[1]))
    found = [max(0.0, (most - now) / gain) for most, now, gain in ways if most and gain > 0]
    return min(found, default=None)
