"""
Unix time as the server tells it.

Entry ids, due times and beats are the server's time or are compared with it, by any engine. An
engine whose own clock is off must not end jobs as expired, put retries off for an hour, or count as
silent, so it only measures with its own clock how long ago it asked.
"""

from __future__ import annotations

from engine.clock import Clock


class ServerTime:
    """
    A :class:`engine.clock.Clock` that follows the server once it was asked.

    Args:
        clock: The engine's own.
    """

    def __init__(self, clock: Clock) -> None:
        self._own_ms = clock.now_ms
        self._offset_ms: float | None = None
        self.monotonic = clock.monotonic
        self.sleep = clock.sleep
        self.draw = clock.draw

    def now_ms(self) -> int:
        """Unix time in milliseconds, by the server's clock as far as it is known."""
        if self._offset_ms is None:
            return self._own_ms()
        return round(self.monotonic() * 1e3 + self._offset_ms)

    def follow(self, server_ms: float) -> None:
        """Take note of the server's clock."""
        self._offset_ms = server_ms - self.monotonic() * 1e3
