"""Tells whether the loop turns."""

from __future__ import annotations

from engine.clock import Clock

SILENT_S_MAX = 10.0


class Pulse:
    """
    Shows that the loop turns: somebody ticks it, somebody else asks.

    Args:
        clock: Tells the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ticked_s = clock.monotonic()

    def tick(self) -> float:
        """Note that the loop turns; returns the time by the monotonic clock."""
        self._ticked_s = self._clock.monotonic()
        return self._ticked_s

    def beats(self) -> bool:
        """Tell whether the loop turned lately."""
        return self._clock.monotonic() - self._ticked_s <= SILENT_S_MAX
