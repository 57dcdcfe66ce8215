"""A clock that moves when told."""

from __future__ import annotations

import asyncio
import heapq
import random

START_MS = 1_763_769_600_000
"""Where manual clocks start: 2025-11-22, midnight UTC."""

TURNS = 20
"""Turns of the loop that woken tasks get before time moves on."""


class ManualClock:
    """
    An :class:`engine.clock.Clock` for tests.

    Args:
        now_ms: Unix ms at the start.
        seed: Seed of :meth:`draw`.
    """

    def __init__(self, now_ms: int = START_MS, *, seed: int = 0) -> None:
        self._start_ms = now_ms
        self._elapsed_s = 0.0
        self._step_ms = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = 0
        self._chance = random.Random(seed)  # noqa: S311 - tests, not secrets

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return round(self._start_ms + self._elapsed_s * 1000 + self._step_ms)

    def monotonic(self) -> float:
        """Seconds since the start."""
        return self._elapsed_s

    def draw(self) -> float:
        """Return the seed's next number in [0, 1)."""
        return self._chance.random()

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was moved that far; without a wait, yield once."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        self._order += 1
        heapq.heappush(self._sleepers, (self._elapsed_s + seconds, self._order, woken))
        await woken

    @property
    def sleeping(self) -> int:
        """How many tasks sleep on this clock."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    def step(self, milliseconds: float) -> None:
        """Move Unix time alone, as an administrator or a time server does."""
        self._step_ms += milliseconds

    def move(self, seconds: float) -> None:
        """Move time and wake whoever is due, in order, without letting them run yet."""
        self._wake_until(self._elapsed_s + seconds)

    async def advance(self, seconds: float) -> None:
        """
        Move time from sleeper to sleeper and let each one run at its own time.

        Whoever sleeps again within the span is woken again, so a loop with a period of one second
        runs ten times while the clock advances by ten.
        """
        end = self._elapsed_s + seconds
        await settle_loop()
        while (due := self._next_due()) is not None and due <= end:
            self._wake_until(due)
            await settle_loop()
        self._wake_until(end)
        await settle_loop()

    def _next_due(self) -> float | None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def _wake_until(self, elapsed_s: float) -> None:
        self._elapsed_s = max(self._elapsed_s, elapsed_s)
        while self._sleepers and self._sleepers[0][0] <= self._elapsed_s:
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)


async def settle_loop(turns: int = TURNS) -> None:
    """Give every task that is ready some turns of the loop."""
    for _ in range(turns):
        await asyncio.sleep(0)
