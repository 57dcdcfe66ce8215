"""Delays that spread, for loops that wait for a server to come back."""

from __future__ import annotations


def jittered_ms(base_ms: int, draw: float) -> int:
    """Spread one delay evenly over half to one and a half times its base."""
    assert 0 <= draw < 1
    return max(1, round(base_ms * (0.5 + draw)))


def reconnect_delay_s(failures: int, draw: float, *, base_s: float, cap_s: float) -> float:
    """
    Delay before the next try after some failures in a row.

    Args:
        failures: Failures so far, at least 1.
        draw: Uniform number in [0, 1).
        base_s: Middle of the first delay, in seconds.
        cap_s: Middle of the longest delay, in seconds.
    """
    assert failures >= 1
    middle = min(cap_s, base_s * float(2 ** min(failures - 1, 30)))
    return middle * (0.5 + draw)


class LogGate:
    """
    Lets the first line of a trouble through, then one per interval, and counts the rest.

    Args:
        every_s: Interval in seconds.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._next_s: float | None = None
        self.held = 0
        """Lines held back since the last one that passed."""

    def passes(self, now_s: float) -> bool:
        """Say whether a line may be written at this time of a monotonic clock."""
        if self._next_s is not None and now_s < self._next_s:
            self.held += 1
            return False
        self._next_s = now_s + self._every_s
        return True

    def reset(self) -> None:
        """Forget the trouble, since it is over."""
        self._next_s = None
        self.held = 0
