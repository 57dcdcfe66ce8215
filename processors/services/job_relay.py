"""
Brings jobs that were committed with their cause from the outbox to their queues.

Each job is enqueued by the id of its row, then its row is deleted. A relay that dies in between
leaves its lease to run out; the next one enqueues the job again, and the engines fold the second
one by its id within their window.

Jobs of one queue keep the order of their rows: one relay at a time has a queue, and it sends no job
before the server has the one before. A queue without room waits by itself. A row that breaks a rule
of the wire is set aside with the reason, logged, and holds up nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from uuid import UUID

import asyncpg
import structlog

from engine import (
    Clock,
    Enqueued,
    EnqueueError,
    EnqueueStopped,
    JobRefused,
    QueueFull,
    Refusal,
    Shed,
)
from processors.database import job_outbox
from processors.database.job_outbox import Claimed, Fault, Pending
from processors.database.pool import Database
from processors.errors import DatabaseError
from processors.rules.pauses import LogGate, jittered_ms, reconnect_delay_s
from processors.settings import ProcessorSettings

log = structlog.get_logger("processors.job_relay")

CALL_JOBS: Final = 250
"""Jobs of one call: few enough to travel as one, which is taken in order up to where it is full."""

CALL_BYTES: Final = 500_000
CLAIM_BYTES: Final = 8_000_000
FULL_MS: Final = 500
BUSY_S: Final = 0.05
RETRY_BASE_S: Final = 0.1
RETRY_CAP_S: Final = 5.0
LOG_EVERY_S: Final = 30.0

Outage = (EnqueueError, OSError, TimeoutError, DatabaseError, asyncpg.PostgresError)


class Enqueuer(Protocol):
    """What is asked of :class:`engine.Client`, which is not to wait for room."""

    def enqueue_each(self, jobs: Any) -> AsyncGenerator[Enqueued | Shed | Refusal, None]:
        """Enqueue jobs in order and tell what became of each."""


@dataclass(slots=True)
class _Sent:
    """What became of one queue's jobs."""

    rows: list[int] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    full: QueueFull | None = None
    outage: EnqueueError | None = None

    def note(self, pending: Pending, result: Enqueued | Shed | Refusal) -> None:
        """Learn what became of one job."""
        match result:
            case Refusal(error=JobRefused() as error):
                self.faults.append(Fault(pending.row, str(error)))
            case Refusal(error=QueueFull() as full):
                self.full = full
            case Refusal(error=error):
                self.outage = error
            case _:
                self.rows.append(pending.row)


class JobRelay:
    """
    Moves jobs from the outbox to their queues until cancelled; any number may run side by side.

    Args:
        database: Where the outbox is.
        client: Enqueues; ``when_full`` must be ``fail``.
        settings: Batch, poll interval and duration of a lease.
        relay: Its name among the relays.
        clock: Gives time and chance.
    """

    def __init__(
        self,
        database: Database,
        client: Enqueuer,
        settings: ProcessorSettings,
        *,
        relay: UUID,
        clock: Clock,
    ) -> None:
        self._database = database
        self._client = client
        self._settings = settings
        self._relay = relay
        self._clock = clock
        self._bell = asyncio.Event()
        self._gate = LogGate(LOG_EVERY_S)
        self._full_gate = LogGate(LOG_EVERY_S)
        self._failures = 0
        # Queues without room, by the monotonic second at which to try again.
        self._full: dict[str, float] = {}

    def wake(self) -> None:
        """Say that a job may have been committed, so that the relay need not wait for its poll."""
        self._bell.set()

    async def run(self) -> None:
        """Move what there is, then wait for the bell or the poll; outlives both servers."""
        while True:
            self._bell.clear()
            try:
                claimed = await self.relay_batch()
            except Outage as error:
                await self._wait_out(error)
                continue
            self._recovered()
            if not claimed.rows():
                await self._rest(BUSY_S if claimed.is_busy else self._pause_s())

    async def relay_batch(self) -> Claimed:
        """
        Move one batch and return what it was.

        Raises:
            EnqueueError: The server could not be reached; what it has not taken stays.
            DatabaseError: PostgreSQL cannot be reached; leases run out by themselves.
        """
        claimed = await job_outbox.claim(
            self._database,
            relay=self._relay,
            jobs_max=self._settings.outbox_jobs_max,
            bytes_max=CLAIM_BYTES,
            lease_ms=self._settings.outbox_jobs_lease_ms,
            skipped=self._skipped(),
        )
        if not claimed.queues:
            return claimed
        sent = {queue: _Sent() for queue in claimed.queues}
        try:
            async with asyncio.TaskGroup() as group:
                for queue, jobs in claimed.queues.items():
                    group.create_task(self._send(jobs, sent[queue]))
        finally:
            # Also when the engine stops: the next relay need not wait for the lease to end.
            await asyncio.shield(self._settle(claimed, sent))
        outages = [each.outage for each in sent.values() if each.outage is not None]
        if outages:
            raise outages[0]
        return claimed

    async def _send(self, jobs: Sequence[Pending], sent: _Sent) -> None:
        """Enqueue one queue's jobs in order, until the server takes no more."""
        for call in _calls(jobs):
            try:
                results = self._client.enqueue_each([pending.job for pending in call])
                async with contextlib.aclosing(results):
                    places = iter(call)
                    async for result in results:
                        sent.note(next(places), result)
            except EnqueueStopped as stopped:
                sent.outage = sent.outage or stopped
            if sent.full is not None or sent.outage is not None:
                return

    async def _settle(self, claimed: Claimed, sent: dict[str, _Sent]) -> None:
        faults = [*claimed.faults, *(fault for each in sent.values() for fault in each.faults)]
        for fault in faults:
            log.error("outbox_job_set_aside", row=fault.row, why=fault.why)
        self._note_full(sent)
        await job_outbox.settle(
            self._database,
            sent=[row for each in sent.values() for row in each.rows],
            faults=faults,
            queues=list(claimed.queues),
            relay=self._relay,
        )

    def _note_full(self, sent: dict[str, _Sent]) -> None:
        now_s = self._clock.monotonic()
        for queue, each in sent.items():
            if each.full is not None:
                self._full[queue] = now_s + jittered_ms(FULL_MS, self._clock.draw()) / 1000
                if self._full_gate.passes(now_s):
                    log.warning("outbox_jobs_wait_for_room", queue=queue, detail=str(each.full))

    def _skipped(self) -> list[str]:
        now_s = self._clock.monotonic()
        self._full = {queue: due_s for queue, due_s in self._full.items() if due_s > now_s}
        return list(self._full)

    def _pause_s(self) -> float:
        """Seconds until there may be something to do that nobody rings for."""
        now_s = self._clock.monotonic()
        waits = [due_s - now_s for due_s in self._full.values()]
        return max(0.0, min([self._settings.outbox_jobs_poll_ms / 1000, *waits]))

    async def _rest(self, seconds: float) -> None:
        # Not wait_for, which on Python 3.11 loses a cancellation that comes with the bell.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._bell.wait()

    async def _wait_out(self, error: BaseException) -> None:
        self._failures += 1
        if self._gate.passes(self._clock.monotonic()):
            log.warning(
                "job_relay_waits",
                error=type(error).__name__,
                detail=str(error)[:200],
                failures=self._failures,
            )
        delay_s = reconnect_delay_s(
            self._failures, self._clock.draw(), base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S
        )
        await self._clock.sleep(delay_s)

    def _recovered(self) -> None:
        if self._failures:
            log.info("job_relay_resumed", failures=self._failures)
            self._failures = 0
            self._gate.reset()


def _calls(jobs: Sequence[Pending]) -> list[list[Pending]]:
    """Part one queue's jobs into calls that each travel as one."""
    calls: list[list[Pending]] = []
    size = 0
    for pending in jobs:
        size += len(pending.job.payload)
        if not calls or len(calls[-1]) == CALL_JOBS or size > CALL_BYTES:
            calls.append([])
            size = len(pending.job.payload)
        calls[-1].append(pending)
    return calls
