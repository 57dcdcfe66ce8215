"""How long a search may go on; asked between the chunks that it reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine.clock import Clock


class Budget:
    """
    The time that one search has, from now on.

    Args:
        clock: Tells the time.
        ms: How long.
        ended: Tells that nobody waits for the answer any more.
    """

    def __init__(self, clock: Clock, ms: float, *, ended: Callable[[], bool] | None = None) -> None:
        self._clock = clock
        self._until_s = clock.monotonic() + ms / 1_000
        self._ended = ended

    def over(self) -> bool:
        """Tell whether the search is to end."""
        if self._ended is not None and self._ended():
            return True
        return self._clock.monotonic() >= self._until_s

    def part(self, parts: int) -> Budget:
        """Return the share of one of several searches that go by one budget."""
        left_ms = max(0.0, self._until_s - self._clock.monotonic()) * 1_000
        return Budget(self._clock, left_ms / parts, ended=self._ended)

    async def breathe(self) -> None:
        """Let whatever else the loop has to do go first."""
        await asyncio.sleep(0)
