"""The producer for programs with an event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from engine.client.full import Shed, WhenFull
from engine.client.jobs import (
    Enqueued,
    EnqueueReport,
    EnqueueStopped,
    NewJob,
    Result,
    enqueued,
)
from engine.client.judge import Judge
from engine.client.many import Chunk, Reader
from engine.client.tracing import sending_of
from engine.clock import Clock, SystemClock
from engine.errors import EnqueueError
from engine.registry import Registry
from engine.store.batches import Outgoing
from engine.store.producer import Producer
from engine.wire.codec import Limits
from schemas.rules import DATA_BYTES_MAX

REPORT_EVERY = 500

Progress = Callable[[EnqueueReport], None]


class Client:
    """
    Enqueues jobs over one connection; an async context manager, or ``await client.close()``.

    Calls of one loop turn travel together, as one script call per queue. A call whose reply gets
    lost is made again without doubling a job. A client belongs to the event loop of its first
    call.

    Args:
        url: redis://, rediss:// or unix://.
        registry: Job types whose queues and payloads are known.
        queues: Queues of further types, by type.
        give_up_s: How long a job is tried for while the server is away or its queue is full, at
            most 300 s.
        timeout_s: Time after which a silent server counts as gone.
        data_bytes_max: Largest payload that the engines accept.
        reply_patterns: Further stream keys that the engines accept for ``reply``.
        clock: Gives time and chance.
        when_full: What is done where a queue has no room (``python -m engine bounds``): ``wait``
            for it, ``fail`` at once, or ``shed`` the job; for all lanes or by lane.
        tracing: Whether jobs carry the current OpenTelemetry span, and single ones get one of their
            own; left out, where the program has set up the SDK before.

    Raises:
        SettingsError: The URL or ``when_full`` cannot be read, or OpenTelemetry is missing.
    """

    def __init__(
        self,
        url: str,
        *,
        registry: Registry | None = None,
        queues: Mapping[str, str] | None = None,
        give_up_s: float = 10.0,
        timeout_s: float = 5.0,
        data_bytes_max: int = DATA_BYTES_MAX,
        reply_patterns: tuple[str, ...] = (),
        clock: Clock | None = None,
        when_full: WhenFull = "wait",
        tracing: bool | None = None,
    ) -> None:
        self._clock: Clock = clock or SystemClock()
        self._producer = Producer(url, clock=self._clock, give_up_s=give_up_s, timeout_s=timeout_s)
        limits = Limits(data_bytes_max=data_bytes_max, reply_patterns=reply_patterns)
        self._judge = Judge(registry, queues, limits, when_full=when_full)
        self._sending = sending_of(tracing)
        self._is_closed = False

    async def enqueue(
        self,
        job_type: str,
        payload: Any,
        *,
        queue: str | None = None,
        lane: str = "normal",
        id: str | None = None,  # noqa: A002 - the name of the wire
        delay_ms: int | None = None,
        at: datetime | int | None = None,
        ttl_ms: int | None = None,
        expires: datetime | int | None = None,
        attempts: int | None = None,
        version: int | None = None,
        reply: str | None = None,
        traceparent: str | None = None,
        key: str | None = None,
        unique: str | None = None,
        window_ms: int | None = None,
        debounce_ms: int | None = None,
        debounce_max_ms: int | None = None,
        throttle_ms: int | None = None,
        headers: Mapping[str, str] | None = None,
        when_full: str | None = None,
    ) -> Enqueued | Shed:
        """
        Enqueue one job; :class:`NewJob` describes the arguments.

        A caller that is cancelled does not know whether the job was accepted.

        Raises:
            JobRefused: It breaks a rule; nothing was sent. Also a ``ValueError``.
            QueueFull: Its queue has no room, for ``give_up_s`` if it was to wait for some.
            EnqueueUnsure: No reply came in ``give_up_s``; it may have been accepted or not.
            EnqueueError: It was not accepted.
        """
        return await self._enqueue(
            NewJob(
                job_type,
                payload,
                queue=queue,
                lane=lane,
                id=id,
                delay_ms=delay_ms,
                at=at,
                ttl_ms=ttl_ms,
                expires=expires,
                attempts=attempts,
                version=version,
                reply=reply,
                traceparent=traceparent,
                key=key,
                unique=unique,
                window_ms=window_ms,
                debounce_ms=debounce_ms,
                debounce_max_ms=debounce_max_ms,
                throttle_ms=throttle_ms,
                headers=headers,
                when_full=when_full,
            )
        )

    async def enqueue_flow(self, job: NewJob) -> Enqueued | Shed:
        """
        Enqueue a job with those that it waits for, as :func:`engine.chain`, :func:`engine.fan_in`
        or its ``children`` put them together; the errors are those of :meth:`enqueue`.
        """
        return await self._enqueue(job)

    async def enqueue_many(
        self,
        jobs: Iterable[NewJob] | AsyncIterable[NewJob],
        *,
        on_progress: Progress | None = None,
    ) -> EnqueueReport:
        """
        Enqueue many jobs in bounded memory.

        Jobs that break a rule, that are shed, or that fail since their queue is full are reported
        and do not stop the rest.

        Args:
            jobs: The jobs; an iterator that waits should be an asynchronous one.
            on_progress: Called with the report so far every few hundred jobs, and at the end.

        Raises:
            EnqueueStopped: The server, or a full queue, was given up; the error carries the report.
        """
        report = EnqueueReport()
        seen = 0
        async with contextlib.aclosing(self._chunks(jobs, report)) as chunks:
            async for chunk in chunks:
                before, seen = seen, seen + len(chunk.order)
                if on_progress and seen // REPORT_EVERY > before // REPORT_EVERY:
                    on_progress(report)
        if on_progress:
            on_progress(report)
        return report

    async def enqueue_each(
        self, jobs: Iterable[NewJob] | AsyncIterable[NewJob]
    ) -> AsyncGenerator[Result, None]:
        """
        Enqueue many jobs and yield what became of each, in their order.

        Jobs that were read before the generator is closed are still sent.

        Raises:
            EnqueueStopped: The server, or a full queue, was given up; what is known was
                yielded before.
        """
        async with contextlib.aclosing(self._chunks(jobs, EnqueueReport())) as chunks:
            async for chunk in chunks:
                for result in chunk.results():
                    yield result

    async def cancel(
        self,
        job_id: str,
        *,
        queue: str,
        reason: str = "",
        who: str = "a producer",
        even_if_absent: bool = False,
    ) -> None:
        """
        End a job for good, wherever it is: as dead with the reason ``cancelled``.

        Engines follow within a second, or as soon as they come to the job. Nothing is looked up:
        an id that names no job is no error, nor one whose job has ended.

        Args:
            job_id: Its id, as :class:`Enqueued` tells it.
            queue: Its queue.
            reason: Why; the job's record says so.
            who: Who, likewise.
            even_if_absent: Stop a job of this id that comes within an hour, too.

        Raises:
            EnqueueUnsure: No reply came in ``give_up_s``; asking again does no harm.
            EnqueueError: It was not accepted.
        """
        if self._is_closed:
            raise EnqueueError("the client is closed")
        await self._producer.cancel(
            queue, job_id, who=who, reason=reason, even_if_absent=even_if_absent
        )

    async def close(self) -> None:
        """Wait for what is on its way, at most ``give_up_s`` and one timeout, and disconnect."""
        self._is_closed = True
        await self._producer.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _enqueue(self, job: NewJob, *, is_traced: bool = False) -> Enqueued | Shed:
        if self._sending is not None and not is_traced and job.traceparent is None:
            with self._sending.span(job) as span:
                result = await self._enqueue(self._sending.carrying(job), is_traced=True)
                self._sending.note(span, result)
                return result
        queue, sent = self._judged(job)
        producer = self._producer
        if producer.is_full:
            await producer.room()
        (answer,) = await producer.submit(queue, [sent])
        if isinstance(answer, EnqueueError):
            raise answer
        return enqueued(queue, sent.lane, job.id, answer)

    async def _chunks(
        self, jobs: Iterable[NewJob] | AsyncIterable[NewJob], report: EnqueueReport
    ) -> AsyncGenerator[Chunk, None]:
        """Enqueue many jobs and yield them as their ends are known and counted in a report."""
        reader = Reader(self._producer, self._judged)
        reading = asyncio.get_running_loop().create_task(reader.read(jobs))
        stopped: EnqueueError | None = None
        try:
            async with contextlib.aclosing(reader.chunks()) as chunks:
                async for chunk in chunks:
                    why = chunk.count(report)
                    if why is not None and stopped is None:
                        stopped = why
                        reading.cancel()
                    yield chunk
        finally:
            reading.cancel()
            await asyncio.wait({reading})
        if stopped is not None:
            raise EnqueueStopped(str(stopped), report) from stopped
        if not reading.cancelled():
            # An error of the iterator that gave the jobs.
            reading.result()

    def _judged(self, job: NewJob) -> tuple[str, Outgoing]:
        if self._is_closed:
            raise EnqueueError("the client is closed")
        if self._sending is not None:
            job = self._sending.carrying(job)
        judge = self._judge
        return judge.bare(job) or judge.whole(job, now_ms=self._clock.now_ms())
