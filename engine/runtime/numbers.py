"""
What one engine tells of a queue by the minute: run and wait times, and what the queue holds.

It is told off the hot path, every few seconds and all at once, so jobs cost no more by it. What is
not told when an engine dies is lost; those are a few seconds of charts, and no job.
"""

from __future__ import annotations

from engine.clock import Clock
from engine.core.numbers import RUN, WAIT
from engine.errors import StoreRefused
from engine.store.base import Gauges, Store
from engine.store.numbers import LATE_MS, Tally
from engine.telemetry import Histogram, QueueMeter
from schemas.numbers import QUARTER_MS, Levels


class Book:
    """
    Keeps the counters of one queue's minutes up to date.

    Args:
        store: The store.
        queue: The queue.
        clock: Time.
        meter: What is told.
    """

    PAUSE_S = 5.0
    LEVELS_S = 15.0
    """So often what the queue holds is told by an engine that has nothing else to tell."""

    SUM_UP_PAUSE_S = 60.0

    def __init__(self, store: Store, queue: str, clock: Clock, meter: QueueMeter) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        histograms = {f"{RUN}:{name}": each.run for name, each in meter.types.items()}
        histograms |= {f"{WAIT}:{lane}": each for lane, each in meter.wait.items()}
        # What was told of each histogram; what is there beyond it is new.
        self._told = {name: (each, list(each.counts)) for name, each in histograms.items()}
        self._sequence = 0
        self._unsure: Tally | None = None
        self._levels: Levels | None = None
        self._levels_s = float("-inf")
        self._summed = 0

    def note(self, gauges: Gauges) -> None:
        """Keep what the queue holds until it is told."""
        self._levels = Levels(
            waiting=sum(gauges.waiting.values()),
            active=sum(gauges.active.values()),
            delayed=gauges.delayed,
            held=sum(gauges.held.values()),
            flows=gauges.flows,
            dead=gauges.dead,
            oldest_ms=gauges.oldest_ms,
        )

    async def write(self) -> None:
        """
        Tell what is new.

        Raises:
            StoreUnavailable: Nothing is known about the effect; the same is told again first.
        """
        if self._unsure is not None and not await self._send(self._unsure):
            return
        counts = self._take()
        levels = self._take_levels(sure=bool(counts))
        if counts or levels is not None:
            self._sequence += 1
            # What happened since the last telling belongs to its middle: a minute ends some 3 s
            # unsharp.
            at_ms = self._clock.now_ms() - round(self.PAUSE_S * 500)
            await self._send(
                Tally(sequence=self._sequence, at_ms=at_ms, counts=counts, levels=levels)
            )

    async def sum_up(self) -> None:
        """Keep the sums of a quarter of an hour once it is over, if no other engine has."""
        now_ms = self._clock.now_ms()
        quarter = (now_ms - LATE_MS) // QUARTER_MS
        if quarter != self._summed:
            await self._store.sum_up(self._queue, now_ms)
            self._summed = quarter

    async def _send(self, tally: Tally) -> bool:
        self._unsure = tally
        try:
            await self._store.tally(self._queue, tally)
        except StoreRefused:
            # A server without memory to spare has more important things to take: it is told again
            # with the next one, and engines are not called unready for it.
            return False
        self._unsure = None
        return True

    def _take(self) -> dict[str, list[int]]:
        found = {}
        for name, (histogram, told) in self._told.items():
            if histogram.counts != told:
                found[name] = _beyond(histogram, told)
                told[:] = histogram.counts
        return found

    def _take_levels(self, *, sure: bool) -> Levels | None:
        now_s = self._clock.monotonic()
        if self._levels is None or not (sure or now_s - self._levels_s >= self.LEVELS_S):
            return None
        self._levels_s = now_s
        levels, self._levels = self._levels, None
        return levels


def _beyond(histogram: Histogram, told: list[int]) -> list[int]:
    return [now - before for now, before in zip(histogram.counts, told, strict=True)]
