"""A job type as this engine runs it, and one attempt of a job as its handler sees it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import msgspec

from engine.core.children import Children, children_of
from engine.core.policy import TypePolicy
from engine.registry import JobType
from engine.store.base import Lease
from engine.store.gates import ticket_of
from engine.telemetry import OTHER, QueueMeter, TypeMeter
from engine.wire.codec import Envelope
from engine.wire.keys import lane_of
from engine.wire.payload import payload_decoder

Call = Callable[["LiveJob", Any], Coroutine[Any, Any, Any]]


Limiter = Callable[["LiveJob", str, int], Coroutine[Any, Any, None]]

POOL_WAITS = 100
"""How many time limits a job may wait for a free process."""


class Reporter(Protocol):
    """Takes what running jobs tell of themselves."""

    def progressed(self, job: LiveJob, percent: float, message: str) -> None:
        """Note a job's progress, to be recorded soon."""


class BoundType:
    """
    A job type with everything one attempt needs, looked up once.

    Args:
        job_type: The registered type.
        call: Runs the handler with middleware, services and pool in place.
        meter: Counts what becomes of its jobs.

    Attributes:
        held: Its jobs are set aside.
        plain: Nothing is asked of its bare jobs before they run; see :meth:`Admission.follow`.
    """

    __slots__ = (
        "attempts_max",
        "call",
        "decode",
        "decode_ascii",
        "events",
        "held",
        "limit_s",
        "limited",
        "limiter",
        "limits",
        "meter",
        "name",
        "named_limits",
        "plain",
        "policy",
        "queue",
        "timeout_s",
        "version",
    )

    def __init__(self, job_type: JobType, call: Call, meter: TypeMeter) -> None:
        self.name = job_type.name
        self.queue = job_type.queue
        self.call = call
        self.decode = payload_decoder(job_type.payload)
        # The same for ASCII, without the words for what is wrong.
        self.decode_ascii = msgspec.json.Decoder(job_type.payload).decode
        self.limit_s = job_type.timeout_s
        # The process pool has a clock of its own, which starts when a process takes the job up;
        # for the worker, the wait for a process counts too.
        self.timeout_s = job_type.timeout_s * (POOL_WAITS if job_type.pool == "process" else 1)
        self.policy = job_type.policy
        self.attempts_max = job_type.policy.retry.attempts_max
        self.version = job_type.version
        self.events = job_type.events
        self.meter = meter
        self.held = False
        # The limits that the handler declares, and with them those that operators set.
        self.named_limits = job_type.limits
        self.limits = job_type.limits
        self.limited = bool(job_type.limits)
        self.limiter: Limiter | None = None
        self.plain = self.version <= 2 and not self.limited

    def knows(self, version: int) -> bool:
        """Tell whether the handler takes payloads of that version: its own and the one before."""
        return self.version - 1 <= version <= self.version


def unknown_type(queue: str, meter: QueueMeter) -> BoundType:
    """Stand in for the type of entries that name none that this queue takes."""

    async def never(_job: LiveJob, _payload: Any) -> None:
        raise AssertionError("an entry without a handler was run")

    job_type = JobType(
        name=OTHER,
        queue=queue,
        function=never,
        payload=dict,
        arguments=2,
        timeout_s=1.0,
        policy=TypePolicy(),
        version=1,
        pool="loop",
        events=False,
        limits=(),
    )
    return BoundType(job_type, never, meter.of(OTHER))


_NO_HEADERS: dict[str, str] = {}


class LiveJob(msgspec.Struct, gc=False):
    """
    One attempt; see :class:`engine.registry.Job` for what handlers may rely on.

    Attributes:
        lease: The stream entry.
        bound: Its type.
        attempt: This attempt's number, from 1.
        attempts_max: The last attempt's number.
        reporter: Where progress goes.
        envelope: The judged entry; None for the plain entry of type and data alone.
        reported: Whether it told of its progress.
        run_s: Seconds that it ran; known once it is done.
        result: JSON of what the handler returned; empty for None, and until it is done.
    """

    lease: Lease
    bound: BoundType
    attempt: int
    attempts_max: int
    reporter: Reporter
    envelope: Envelope | None = None
    reported: bool = False
    run_s: float = 0.0
    result: bytes = b""

    @property
    def id(self) -> str:
        """The job's id, the same over all attempts."""
        envelope = self.envelope
        if envelope is not None:
            if envelope.meta is not None:
                return envelope.meta.id
            if envelope.id:
                return envelope.id
        return f"{self.lease.batch.lane[0]}-{self.lease.entry.decode()}"

    @property
    def type(self) -> str:
        """The job's type."""
        return self.bound.name

    @property
    def queue(self) -> str:
        """The queue it came through."""
        return self.bound.queue

    @property
    def lane(self) -> str:
        """The lane it came through."""
        return lane_of(self.lease.batch.lane)

    @property
    def stream(self) -> str:
        """The stream that holds its entry: its lane's, or that of what gates let through."""
        return self.lease.batch.lane

    @property
    def ticket(self) -> str:
        """Its place in the order of its lane."""
        meta = self.envelope.meta if self.envelope is not None else None
        if meta is not None and meta.ticket:
            return meta.ticket
        return ticket_of(self.lease.entry)

    @property
    def deliveries(self) -> int:
        """How often this attempt was handed to an engine."""
        return self.lease.deliveries

    @property
    def entry_ms(self) -> int:
        """Unix ms of the stream entry: of the XADD, or of the last promotion."""
        return int(self.lease.entry.partition(b"-")[0])

    @property
    def enqueued_ms(self) -> int:
        """Unix ms of the producer's XADD."""
        if self.envelope is not None and self.envelope.meta is not None:
            return self.envelope.meta.enqueued_ms
        return self.entry_ms

    @property
    def version(self) -> int:
        """The payload's version as written by the producer."""
        return self.envelope.version if self.envelope is not None else 1

    @property
    def headers(self) -> dict[str, str]:
        """Fields of the entry that the engine does not know."""
        return self.envelope.headers if self.envelope is not None else _NO_HEADERS

    @property
    def traceparent(self) -> str:
        """W3C trace context, or an empty string."""
        return self.envelope.traceparent if self.envelope is not None else ""

    @property
    def tracestate(self) -> str:
        """What tracing systems add to the trace context, or an empty string."""
        return self.envelope.tracestate if self.envelope is not None else ""

    @property
    def children(self) -> Children:
        """What became of the jobs that it waited for."""
        return children_of(self.envelope.family if self.envelope is not None else None)

    @property
    def lost(self) -> int:
        """Deliveries of this job that were lost with their engines."""
        earlier = self.envelope.meta.lost if self.envelope and self.envelope.meta else 0
        return earlier + self.lease.deliveries - 1

    async def limit(self, name: str, *, retry_after_ms: int = 0) -> None:
        """
        Ask a named limit whether this job may go on, or shut it for everybody.

        Args:
            name: The limit, such as ``provider:sms``; the queue's control says what it allows.
            retry_after_ms: What a provider that answered 429 asked for: nobody is let through
                for so long, and this job waits too.

        Raises:
            Limited: The job is to wait; let it pass. No attempt is spent.
        """
        if self.bound.limiter is None:
            raise RuntimeError("limits need an engine")
        await self.bound.limiter(self, name, retry_after_ms)

    async def progress(self, percent: float, message: str = "") -> None:
        """
        Report how far this attempt is.

        Args:
            percent: 0 to 100; what lies outside is cut.
            message: A line for people, at most 200 characters.
        """
        self.reported = True
        # Lone surrogates cannot be written as UTF-8.
        line = message[:200].encode("utf-8", "replace").decode()
        self.reporter.progressed(self, min(100.0, max(0.0, float(percent))), line)
