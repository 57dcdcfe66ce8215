"""The operator's side of Redis: looks at queues and changes what operators may change."""

from __future__ import annotations

from engine.store.operator.audit import AuditReader
from engine.store.operator.budget import Budget
from engine.store.operator.control import ControlWriter
from engine.store.operator.dead import DeadLetters
from engine.store.operator.entry import Found
from engine.store.operator.gates import GateReader
from engine.store.operator.in_flight import InFlightReader
from engine.store.operator.jobs import JobReader, Page, Query, Sealed
from engine.store.operator.limits import GateWriter
from engine.store.operator.link import OperatorLink
from engine.store.operator.numbers import NumberReader
from engine.store.operator.operations import Operations
from engine.store.operator.orders import Orders
from engine.store.operator.queues import QueueReader
from engine.store.operator.schedules import ScheduleEditor
from engine.store.operator.sessions import PageSessions

__all__ = ["Budget", "Found", "OperatorStore", "Page", "Query", "Sealed"]


class OperatorStore:
    """
    What operators ask of the server, over one connection without retries.

    Every read is bounded: chunks of at most 500 entries and a few MiB, no KEYS, no SCAN of the
    keyspace. Every method may raise :class:`~engine.errors.StoreError`; all are safe to repeat.

    Args:
        url: redis://, rediss:// or unix://.
        timeout_s: Time after which a silent server counts as gone.

    Attributes:
        queues: Counts, engines, the server.
        jobs: Single jobs.
        in_flight: What engines have taken.
        gates: What waits behind gates, and why.
        dead: Dead letters.
        operations: Bulk operations on dead letters.
        orders: Cancels and moves of single jobs.
        limits: Shuts and opens limits, and lets keys go.
        control: Pause, concurrency, holds, and the audit stream.
        schedules: Schedules.
        sessions: Sessions of the page.
        audit: Who changed what.
        numbers: What was counted by the minute.
    """

    def __init__(self, url: str, *, timeout_s: float = 5.0) -> None:
        self._link = OperatorLink(url, timeout_s=timeout_s)
        self.jobs = JobReader(self._link)
        self.in_flight = InFlightReader(self._link)
        self.gates = GateReader(self._link, self.jobs)
        self.queues = QueueReader(self._link, self.gates)
        self.dead = DeadLetters(self._link)
        self.operations = Operations(self._link)
        self.orders = Orders(self._link)
        self.control = ControlWriter(self._link)
        self.schedules = ScheduleEditor(self._link)
        self.limits = GateWriter(self._link)
        self.sessions = PageSessions(self._link)
        self.audit = AuditReader(self._link)
        self.numbers = NumberReader(self._link)

    async def now_ms(self) -> int:
        """Return the server's clock, Unix ms."""
        return await self._link.now_ms()

    def close(self) -> None:
        """Close the connection."""
        self._link.close()
