"""Numbers from numbers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

Run = Mapping[str, Any]


class Spread(msgspec.Struct, frozen=True):
    """The middle of some runs, with the least and the most."""

    median: float
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread | None:
    """Sum up some values; None without any."""
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values))


def column(runs: Sequence[Run], name: str) -> Spread | None:
    """Sum up one figure of some runs; those that lack it are left out."""
    return spread([run[name] for run in runs if run.get(name) is not None])


def percentile(ordered: Sequence[float], share: float) -> float:
    """
    Return the value that a share of ordered values does not exceed.

    The nearest rank, so that it is a value that was measured.
    """
    assert ordered, "there is no percentile of nothing"
    assert 0 < share <= 1, f"a share lies above 0 and at most at 1, not at {share}"
    rank = -(-len(ordered) * share // 1)
    return ordered[max(0, int(rank) - 1)]


def rounded(value: float, digits: int = 4) -> float:
    """Keep what a figure can claim to know."""
    return float(f"{value:.{digits}g}")
