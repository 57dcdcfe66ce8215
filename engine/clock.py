"""
Time as an argument.

Everything that reads a clock or sleeps takes a :class:`Clock`, so that tests move time by hand.
This is the only module that touches the system's clocks.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Protocol


class Clock(Protocol):
    """Where the engine gets its time and its chance from."""

    def now_ms(self) -> int:
        """Unix time in milliseconds: for due times and records that others read."""

    def monotonic(self) -> float:
        """Seconds that never go back: for leases, limits and durations."""

    async def sleep(self, seconds: float) -> None:
        """Wait for that many seconds."""

    def draw(self) -> float:
        """Return a uniform number in [0, 1)."""


class SystemClock:
    """The machine's clocks."""

    def __init__(self) -> None:
        self.monotonic = time.monotonic
        self.draw = random.Random().random  # noqa: S311 - spreads delays, keeps no secret

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
