"""
Lets jobs through whose limits have opened by time, or were changed.

Every engine does it for every queue; a queue without gates is left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from engine.clock import Clock
from engine.core.limits import LimitRule
from engine.errors import StoreError
from engine.runtime.outage import Outage
from engine.store.base import Store

RELEASE_MAX = 50
"""Jobs that one call moves; each costs some ten µs, and nobody else is served meanwhile."""

PAUSE_S_MAX = 1.0
PAUSE_S_MIN = 0.005
SWEEP_S = 10.0
"""How often all limits are looked at, whose opening nobody may have noticed."""


class Releaser:
    """
    The loop of one queue.

    Args:
        store: The store.
        queue: The queue.
        clock: Time.
        outage: Says when to try again.
    """

    def __init__(self, store: Store, queue: str, clock: Clock, outage: Outage) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        self._outage = outage
        self._where = f"releasing {queue}"
        self._rules: Mapping[str, LimitRule] = {}
        self._changed = False
        self._used = asyncio.Event()
        self._wake = asyncio.Event()

    def use(self) -> None:
        """Begin: the queue's jobs have asked for gates."""
        self._used.set()

    def follow(self, rules: Mapping[str, LimitRule]) -> None:
        """Look at limits whose rules have changed."""
        if rules != self._rules:
            self._rules = rules
            self._changed = True
            self._wake.set()

    async def run(self) -> None:
        """Let jobs through as time goes by."""
        await self._used.wait()
        tries = 0
        swept = -SWEEP_S
        while True:
            self._wake.clear()
            now = self._clock.monotonic()
            every = self._changed or now - swept >= SWEEP_S
            self._changed = False
            try:
                released = await self._store.release(self._queue, count=RELEASE_MAX, every=every)
            except StoreError as error:
                tries += 1
                self._changed = every
                await self._outage.wait(error, tries, self._where)
                continue
            self._outage.over(self._where)
            tries = 0
            if released.moved >= RELEASE_MAX:
                self._changed = every
                await self._clock.sleep(0)
                continue
            swept = now if every else swept
            pause_s = PAUSE_S_MAX if released.next_ms is None else released.next_ms / 1e3
            await self._pause(min(PAUSE_S_MAX, max(PAUSE_S_MIN, pause_s)))

    async def _pause(self, seconds: float) -> None:
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        woken = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({sleep, woken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            woken.cancel()
