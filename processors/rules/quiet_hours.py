"""
When a user is to be left alone.

A window is told in wall-clock time of a zone. A wall-clock time that the clocks skip stands for
the moment at which they do; one that comes twice stands for its first time.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

EVERY_DAY: Final = 127
LOOKED_AHEAD: Final = timedelta(days=8)
"""Who is never to be disturbed is told after this long, unless it has expired by then."""


class Window(NamedTuple):
    """
    A time of rest.

    Attributes:
        starts: Its first moment.
        ends: The first moment after it; at or before ``starts``, that of the next day.
        days: On which days it starts: bit 0 is Monday.
        tz: An IANA zone.
    """

    starts: time
    ends: time
    days: int
    tz: str


@functools.lru_cache(maxsize=600)
def zone(name: str) -> ZoneInfo | None:
    """Find an IANA zone; None where there is no such one."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def quiet_until(now: datetime, windows: Sequence[Window]) -> datetime | None:
    """
    Find the next moment at which the user may be disturbed.

    Windows that overlap or touch are one rest.

    Args:
        now: The moment asked about, with a zone.
        windows: The user's windows; one of an unknown zone is read in UTC.

    Returns:
        The moment in UTC, or None where it is now.
    """
    start = now.astimezone(UTC)
    moment = start
    while moment - start < LOOKED_AHEAD:
        rests = (rest for window in windows for rest in _around(window, moment))
        ends = [end for begin, end in rests if begin <= moment < end]
        if not ends:
            break
        moment = max(ends)
    return moment if moment > start else None


def moment_of(day: date, at: time, tz: ZoneInfo) -> datetime:
    """Turn a wall-clock time into a moment in UTC."""
    wall = datetime.combine(day, at)
    first = wall.replace(tzinfo=tz, fold=0).astimezone(UTC)
    if first.astimezone(tz).replace(tzinfo=None) == wall:
        return first
    # The clocks skip it: the skip lies between its readings by the offsets after and before.
    early = wall.replace(tzinfo=tz, fold=1).astimezone(UTC)
    before = early.astimezone(tz).utcoffset()
    while first - early > timedelta(seconds=1):
        middle = early + timedelta(seconds=(first - early) // timedelta(seconds=2))
        if middle.astimezone(tz).utcoffset() == before:
            early = middle
        else:
            first = middle
    return first.replace(microsecond=0)


def _around(window: Window, moment: datetime) -> Iterator[tuple[datetime, datetime]]:
    """List the rests of one window that may hold a moment."""
    tz = zone(window.tz) or ZoneInfo("UTC")
    today = moment.astimezone(tz).date()
    for day in (today - timedelta(days=1), today):
        if window.days >> day.weekday() & 1:
            last = day if window.ends > window.starts else day + timedelta(days=1)
            yield moment_of(day, window.starts, tz), moment_of(last, window.ends, tz)
