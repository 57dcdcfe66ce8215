"""Bounds searches through jobs, so that lookers-on never cost the engine more than a little."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from engine.admin import Budget
from engine.clock import Clock
from engine.dashboard.routes import Ask

SCANS_MAX = 2
"""Searches at a time; others wait for these."""

SCAN_MS = 40
"""How long one request searches; the browser asks on from where it ended."""


class Scans:
    """All searches of one server."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(SCANS_MAX)

    @asynccontextmanager
    async def budget(self, ask: Ask, clock: Clock) -> AsyncIterator[Budget]:
        """Give a search its time, once it is its turn; it ends early when its asker is gone."""
        async with self._slots:
            yield Budget(clock, SCAN_MS, ended=lambda: _is_gone(ask))


def _is_gone(ask: Ask) -> bool:
    if ask.request is None:
        return False
    transport = ask.request.transport
    return transport is None or transport.is_closing()
