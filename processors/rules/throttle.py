"""How often one conversation may write to one user over a channel that people tire of."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple


class Throttle(NamedTuple):
    """
    How the gap between two sendings grows.

    Attributes:
        first: The gap after the first sending; zero for no throttle at all.
        cap: The longest gap.
        factor: By how much a gap is longer than the one before.
        reset: After so long without anything to tell, the next one is a first one again.
    """

    first: timedelta
    cap: timedelta
    factor: int
    reset: timedelta


NONE = Throttle(timedelta(0), timedelta(0), 1, timedelta(0))


class Pace(NamedTuple):
    """
    Where one user, channel and conversation stand.

    Attributes:
        sent_at: The last sending.
        told_at: The last time that there was something to tell, sent or not.
        gap: The gap after the last sending.
    """

    sent_at: datetime
    told_at: datetime
    gap: timedelta


def held_until(pace: Pace | None, throttle: Throttle, now: datetime) -> datetime | None:
    """Say until when nothing may be sent, or None where it may be sent now."""
    if pace is None or not throttle.first or _was_silent(pace, throttle, now):
        return None
    until = pace.sent_at + min(pace.gap, throttle.cap)
    return until if until > now else None


def gap_after(pace: Pace | None, throttle: Throttle, now: datetime) -> timedelta:
    """Return the gap after a sending now."""
    if pace is None or _was_silent(pace, throttle, now):
        return throttle.first
    return min(throttle.cap, max(throttle.first, pace.gap * throttle.factor))


def _was_silent(pace: Pace, throttle: Throttle, now: datetime) -> bool:
    return now - max(pace.told_at, pace.sent_at) >= throttle.reset
