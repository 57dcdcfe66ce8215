"""How many jobs an engine may hold beyond those that run."""

from __future__ import annotations

HORIZON_S = 0.05
"""Work for this long may wait inside the engine: several round trips, yet soon begun."""

PROMOTED_SHARE = 0.75
"""While jobs wait, due ones may take this share of what the engine gets done."""

PROMOTION_PAUSE_S_MAX = 0.025
"""Ten thousand a second are promoted all the same: behind them may be one that is urgent."""


def prefetch(rate_per_s: float, prefetch_max: int) -> int:
    """
    Size of the buffer in front of the workers.

    Args:
        rate_per_s: Jobs that this engine lately ended per second in this queue.
        prefetch_max: The setting's upper bound.

    Returns:
        Jobs that may wait in the engine. Slow jobs get next to none, so that an idle engine
        beside this one finds them in the lane; fast ones get enough to hide the round trip.
    """
    return max(min(4, prefetch_max), min(prefetch_max, round(rate_per_s * HORIZON_S)))


def count_by_bytes(wanted: int, bytes_per_job: float, bytes_max: int) -> int:
    """
    Bound one read by the memory that it will take.

    Args:
        wanted: Jobs there is room for.
        bytes_per_job: Size of the lane's recent entries.
        bytes_max: Bytes that one read may bring.
    """
    return max(1, min(wanted, int(bytes_max / max(bytes_per_job, 1.0))))


def promotion_pause_s(step: int, waiting: int, rate_per_s: float) -> float:
    """
    Time that one step of promoting should take, so that fresh jobs keep their place.

    Jobs that fall due together must not get ahead of all that is enqueued while they are worked
    off: where jobs wait already, fewer are promoted than the engine ends, but never so few that
    what is due stands still.

    Args:
        step: Jobs that one step moves.
        waiting: Jobs that wait in the lanes, as lately counted.
        rate_per_s: Jobs that this engine lately ended per second in this queue.
    """
    if waiting <= step:
        return 0.0
    return min(PROMOTION_PAUSE_S_MAX, step / max(PROMOTED_SHARE * rate_per_s, 1.0))
