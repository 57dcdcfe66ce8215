"""
What running jobs tell of themselves: progress and starts, gathered and written a few times a
second, so that a handler in a tight loop costs the server nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from engine.clock import Clock
from engine.runtime.endings import event_progressed, event_started
from engine.runtime.jobs import LiveJob
from engine.store.base import Store

EVENTS_MAX = 1_000
"""Events that may wait for the next write; what exceeds it is dropped, oldest first."""


class QueueReporter:
    """
    Gathers the reports of one queue.

    Args:
        store: Where they go.
        queue: The queue.
        clock: Time.
    """

    PAUSE_S = 0.25

    def __init__(self, store: Store, queue: str, clock: Clock) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        self._progress: dict[str, bytes] = {}
        self._events: list[bytes] = []

    def progressed(self, job: LiveJob, percent: float, message: str) -> None:
        """Note a job's progress; a later note takes the place of an earlier one."""
        at_ms = self._clock.now_ms()
        told = {"percent": percent, "message": message, "atMs": at_ms}
        self._progress[job.id] = msgspec.json.encode(told)
        if job.bound.events:
            self._add(event_progressed(job, at_ms, percent, message))

    def started(self, job: LiveJob) -> None:
        """Note that a job was started."""
        self._add(event_started(job, self._clock.now_ms()))

    def settling(self, finished: Iterable[str]) -> list[bytes]:
        """
        Drop what is not written yet of jobs that end, and hand over the events not yet written.

        They go with the ends, so that nobody reads of a start after the end.
        """
        for job_id in finished:
            self._progress.pop(job_id, None)
        events, self._events = self._events, []
        return events

    async def flush(self) -> None:
        """
        Write what was gathered.

        Raises:
            StoreError: Nothing is known about the effect; the reports are dropped, since newer
                ones follow.
        """
        if self._progress or self._events:
            progress, self._progress = self._progress, {}
            events, self._events = self._events, []
            await self._store.report(self._queue, progress, events)

    def _add(self, event: bytes) -> None:
        self._events.append(event)
        if len(self._events) > EVENTS_MAX:
            del self._events[: -EVENTS_MAX // 2]
