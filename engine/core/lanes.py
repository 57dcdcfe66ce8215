"""
Which lanes to read next, and how much from each.

``critical`` is strict. The others share what is left by weight, and what one of them does not need
goes to the rest, so that no capacity is left idle and ``low`` is slow but never starved.
"""

from __future__ import annotations

from collections.abc import Mapping

STRICT = "critical"


class LanePlan:
    """
    Shares of the weighted lanes over time.

    The plan is exact for large budgets and fair over time for small ones: what rounding takes from
    a lane stays as credit. A lane without waiting jobs keeps no credit, so that it cannot save up
    its share and then crowd out the others.

    Args:
        weights: Share of each weighted lane, highest lane first; each at least 1.
    """

    def __init__(self, weights: Mapping[str, int]) -> None:
        assert all(weight >= 1 for weight in weights.values())
        self.weights = dict(weights)
        self.credit = dict.fromkeys(weights, 0.0)

    def split(self, waiting: Mapping[str, int], budget: int) -> dict[str, int]:
        """
        Split a budget over the lanes.

        Args:
            waiting: Jobs that wait per lane, as last seen.
            budget: Jobs that may be fetched in all.

        Returns:
            Jobs to fetch per lane, without the lanes that get none. They add up to the budget or
            to everything that waits, whichever is less.
        """
        counts: dict[str, int] = {}
        strict = min(budget, waiting.get(STRICT, 0))
        if strict > 0:
            counts[STRICT] = strict
            budget -= strict
        want = {lane: waiting[lane] for lane in self.weights if waiting.get(lane, 0) > 0}
        for lane in self.weights:
            if lane not in want:
                self.credit[lane] = 0.0
        while budget > 0 and want:
            budget -= self._round(want, counts, budget)
        return counts

    def _round(self, want: dict[str, int], counts: dict[str, int], budget: int) -> int:
        """Give each wanting lane its share, or all it wants; return what was given."""
        total = sum(self.weights[lane] for lane in want)
        for lane in want:
            self.credit[lane] += budget * self.weights[lane] / total
        given = 0
        # Most credit first, so that a budget of one goes to whoever has waited longest for it.
        for lane in sorted(want, key=lambda lane: -self.credit[lane]):
            share = min(want[lane], budget - given, max(0, round(self.credit[lane])))
            if share == 0 and given == 0:
                share = 1
            if share:
                counts[lane] = counts.get(lane, 0) + share
                self.credit[lane] -= share
                want[lane] -= share
                given += share
            if want[lane] == 0:
                del want[lane]
                self.credit[lane] = 0.0
        return given
