"""The app of the measured engines: handlers that cost nothing, or so many µs of CPU."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from engine import App, Job, Registry

QUEUE = "bench"
OUT = "SCALE_OUT"
"""Names the file to which an engine writes what it saw, once it stops."""

TICK_S = 0.005


class Seen:
    """
    What one engine saw, to be told from outside.

    Attributes:
        starts: When each fresh job began and how many µs after its XADD, both CLOCK_MONOTONIC.
        lags: When the loop woke and how many µs late.
    """

    def __init__(self) -> None:
        self.starts: list[tuple[int, int]] = []
        self.lags: list[tuple[int, int]] = []

    async def watch(self, _services: Any) -> None:
        """Sleep for a moment over and over, and note how late the loop comes back."""
        while True:
            before = time.monotonic_ns()
            await asyncio.sleep(TICK_S)
            now = time.monotonic_ns()
            self.lags.append((now, (now - before) // 1000 - round(TICK_S * 1e6)))

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Write down at the end what was seen."""
        yield
        if OUT in os.environ:
            told = json.dumps({"starts": self.starts, "lags": self.lags})
            await asyncio.to_thread(Path(os.environ[OUT]).write_text, told)


def spin(us: int) -> None:
    """Use so much CPU time."""
    end = time.thread_time_ns() + 1000 * us
    while time.thread_time_ns() < end:
        pass


def plain(_settings: Any) -> App:
    """Build an app of handlers alone, as users have it."""
    registry = Registry()

    @registry.job("noop", queue=QUEUE)
    async def noop(_job: Job, _payload: dict[str, Any]) -> None:
        return None

    @registry.job("spin", queue=QUEUE)
    async def spinning(_job: Job, payload: dict[str, Any]) -> None:
        spin(payload["us"])

    return App(registry)


def probe(_settings: Any) -> App:
    """Build the same with a probe of the loop, and a job that tells when it began."""
    seen = Seen()
    registry = plain(_settings).registry

    @registry.job("fresh", queue=QUEUE)
    async def fresh(_job: Job, payload: dict[str, Any]) -> None:
        now = time.monotonic_ns()
        seen.starts.append((now, (now - payload["at"]) // 1000))

    return App(registry, lifespan=seen.lifespan, background=[seen.watch])
