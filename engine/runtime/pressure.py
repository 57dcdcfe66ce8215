"""How full a queue is, watched by every engine that serves it: bare XADDs cannot be stopped."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from engine.clock import Clock
from engine.core.pressure import ALARM_AT, Bounds, Level, ratio
from engine.logs import get_logger
from engine.settings import EngineSettings
from engine.store.base import Store
from engine.telemetry import QueueMeter

log = get_logger("pressure")

WINDOW_S = 60.0
"""Over how long the growth of a queue is measured."""

SPAN_S_MIN = 4.0
"""A shorter span says nothing."""

CALM_AT = 0.7
"""How empty a queue must be before another warning is written."""


def defaults_of(settings: EngineSettings, queue: str) -> Bounds:
    """Return what a queue may hold where operators set nothing."""
    return Bounds(
        settings.queue_jobs_max.get(queue, settings.jobs_max),
        settings.queue_bytes_max.get(queue, settings.bytes_max),
    )


class Watch:
    """
    Keeps the gauges of one queue's fullness, and warns before it is full.

    Args:
        store: The store.
        queue: The queue.
        clock: Time.
        meter: Kept current.
        defaults: The queue's bounds by this engine's settings.
    """

    def __init__(
        self, store: Store, queue: str, clock: Clock, meter: QueueMeter, *, defaults: Bounds
    ) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        self._meter = meter
        self._defaults = defaults
        self._is_told = False
        self._warned_at = 0.0
        self._seen: deque[tuple[float, Level]] = deque()

    async def measure(self, types: Sequence[str]) -> None:
        """Count what the queue holds; engines' settings stand where operators set nothing."""
        pressure = await self._store.pressure(self._queue, types)
        now = self._clock.monotonic()
        self._seen.append((now, pressure.level))
        while self._seen[0][0] < now - WINDOW_S:
            self._seen.popleft()
        full = ratio(pressure.level, pressure.bounds)
        self._meter.full_ratio = full
        self._meter.bytes = pressure.level.bytes
        self._warn(full, pressure.level, pressure.bounds)
        is_missing = bool(self._defaults) and not pressure.defaults
        is_stale = not self._is_told and pressure.defaults != self._defaults
        if is_missing or is_stale:
            # Of engines with different settings the one that started last decides.
            await self._store.default_bounds(self._queue, self._defaults)
        self._is_told = True

    def growth(self) -> tuple[float, float] | None:
        """Jobs and bytes that the queue gains per second; None while that is not known."""
        if not self._seen:
            return None
        (began, first), (ended, last) = self._seen[0], self._seen[-1]
        span_s = ended - began
        if span_s < SPAN_S_MIN:
            return None
        return (last.jobs - first.jobs) / span_s, (last.bytes - first.bytes) / span_s

    def _warn(self, full: float, level: Level, bounds: Bounds) -> None:
        step = 1.0 if full >= 1 else ALARM_AT if full >= ALARM_AT else 0.0
        if step > self._warned_at:
            log.warning(
                "queue_full" if step == 1.0 else "queue_filling",
                queue=self._queue,
                jobs=level.jobs,
                jobs_max=bounds.jobs,
                bytes=level.bytes,
                bytes_max=bounds.bytes,
            )
            self._warned_at = step
        elif full < CALM_AT:
            self._warned_at = 0.0
