"""
The store as a plain synchronous model.

A :class:`ServerModel` holds queues, and :class:`engine.testing.queue_model.QueueModel` has the
engine's verbs as methods which take the name of the consumer that asks, so that any number of
engines can share one model. :class:`engine.testing.memory_store.MemoryStore` wraps it for asyncio;
the simulation uses it bare.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from engine.store.base import ServerState
from engine.testing.clock import START_MS
from engine.testing.events import Event
from engine.testing.queue_model import QueueModel


class ServerModel:
    """
    One server: its queues, its clock and its identity.

    Args:
        now_ms: The source of its time; without one, time moves by :meth:`advance` alone.
        queue_kind: How queues are made; tests of tests put mutants here.
    """

    def __init__(
        self,
        now_ms: Callable[[], float] = lambda: START_MS,
        *,
        queue_kind: type[QueueModel] = QueueModel,
    ) -> None:
        self.queue_kind = queue_kind
        self._source = now_ms
        self._shift_ms = 0.0
        self._step_ms = 0.0
        self._started_ms = now_ms()
        self.lock = threading.RLock()
        self.starts = 1
        self.writable = True
        self.memory_bytes_max = 0
        self.queues: dict[str, QueueModel] = {}
        # engine → (beat, Unix ms)
        self.engines: dict[str, tuple[bytes, float]] = {}
        self.observers: list[Callable[[Event], None]] = []

    def now_ms(self) -> float:
        """The server's Unix time."""
        return self._source() + self._shift_ms + self._step_ms

    def advance(self, milliseconds: float) -> None:
        """Let time pass."""
        self._shift_ms += milliseconds

    def step(self, milliseconds: float) -> None:
        """Set the server's clock forward or back without time passing."""
        self._step_ms += milliseconds

    def restart(self, *, down_ms: float = 0) -> None:
        """Let the server die and come back with all its data; idle times count the downtime."""
        self.advance(down_ms)
        self.starts += 1
        self._started_ms = self._source() + self._shift_ms

    def state(self) -> ServerState:
        """What the server says of itself."""
        return ServerState(
            run_id=f"run-{self.starts}",
            version="model 1",
            time_ms=self.now_ms(),
            uptime_ms=self._source() + self._shift_ms - self._started_ms,
            memory_bytes=0,
            memory_bytes_max=self.memory_bytes_max,
            writable=self.writable,
        )

    def queue(self, name: str) -> QueueModel:
        """Return a queue, made on first use."""
        if name not in self.queues:
            self.queues[name] = self.queue_kind(name, now_ms=self.now_ms, emit=self.emit)
        return self.queues[name]

    def emit(self, event: Event) -> None:
        """Tell the observers."""
        for observer in list(self.observers):
            observer(event)
