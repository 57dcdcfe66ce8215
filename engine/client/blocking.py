"""The producer for scripts and threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec

from engine.client.full import Shed, WhenFull
from engine.client.jobs import (
    Enqueued,
    EnqueueReport,
    EnqueueStopped,
    NewJob,
    Refusal,
    Result,
    count,
    enqueued,
    stops,
)
from engine.client.judge import Judge
from engine.client.tracing import sending_of
from engine.clock import Clock, SystemClock
from engine.errors import EnqueueError, JobRefused
from engine.registry import Registry
from engine.store.batches import BATCH_BYTES_MAX, BATCH_JOBS_MAX, Outgoing
from engine.store.sync_producer import Sent, SyncProducer
from engine.wire.codec import Limits
from schemas.rules import DATA_BYTES_MAX


class SyncClient:
    """
    Enqueues jobs without an event loop; a context manager, or ``client.close()``.

    Threads may share one; they take turns.

    Args:
        url: redis://, rediss:// or unix://.
        registry: Job types whose queues and payloads are known.
        queues: Queues of further types, by type.
        give_up_s: How long a batch is tried for while the server is away or its queue is full, at
            most 300 s.
        timeout_s: Time after which a silent server counts as gone.
        data_bytes_max: Largest payload that the engines accept.
        reply_patterns: Further stream keys that the engines accept for ``reply``.
        clock: Gives time and chance.
        when_full, tracing: See :class:`engine.client.Client`.

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
        self._producer = SyncProducer(
            url, clock=self._clock, give_up_s=give_up_s, timeout_s=timeout_s
        )
        limits = Limits(data_bytes_max=data_bytes_max, reply_patterns=reply_patterns)
        self._judge = Judge(registry, queues, limits, when_full=when_full)
        self._sending = sending_of(tracing)
        self._turn = threading.Lock()

    def enqueue(self, job_type: str, payload: Any, **options: Any) -> Enqueued | Shed:
        """
        Enqueue one job; the options are the attributes of :class:`NewJob`.

        Raises:
            JobRefused: It breaks a rule; nothing was sent. Also a ``ValueError``.
            QueueFull: Its queue has no room, for ``give_up_s`` if it was to wait for some.
            EnqueueUnsure: No reply came in ``give_up_s``; it may have been accepted or not.
            EnqueueError: It was not accepted.
        """
        return self.enqueue_flow(NewJob(job_type, payload, **options))

    def enqueue_flow(self, job: NewJob) -> Enqueued | Shed:
        """
        Enqueue a job with those that it waits for, as :func:`engine.chain`, :func:`engine.fan_in`
        or its ``children`` put them together; the errors are those of :meth:`enqueue`.
        """
        if self._sending is None or job.traceparent is not None:
            return self._send(job)
        with self._sending.span(job) as span:
            result = self._send(self._sending.carrying(job))
            self._sending.note(span, result)
            return result

    def _send(self, job: NewJob) -> Enqueued | Shed:
        queue, sent = self._judge.outgoing(job, now_ms=self._clock.now_ms())
        with self._turn:
            (answer,) = self._producer.send(queue, [sent])
        if isinstance(answer, EnqueueError):
            raise answer
        return enqueued(queue, sent.lane, job.id, answer)

    def enqueue_many(
        self,
        jobs: Iterable[NewJob],
        *,
        on_progress: Callable[[EnqueueReport], None] | None = None,
    ) -> EnqueueReport:
        """
        Enqueue many jobs in bounded memory.

        Jobs that break a rule, that are shed, or that fail since their queue is full are reported
        and do not stop the rest.

        Args:
            jobs: The jobs.
            on_progress: Called with the report so far after every batch.

        Raises:
            EnqueueStopped: The server, or a full queue, was given up; the error carries the report.
        """
        report = EnqueueReport()
        for number, result in enumerate(self.enqueue_each(jobs), 1):
            count(report, result)
            if on_progress and number % BATCH_JOBS_MAX == 0:
                on_progress(report)
        if on_progress:
            on_progress(report)
        return report

    def enqueue_each(self, jobs: Iterable[NewJob]) -> Iterator[Result]:
        """
        Enqueue many jobs and yield what became of each, in their order.

        Raises:
            EnqueueStopped: The server, or a full queue, was given up; what is known was
                yielded before.
        """
        report = EnqueueReport()
        chunk = _Chunk()
        for place, given in enumerate(jobs):
            job = self._sending.carrying(given) if self._sending is not None else given
            if chunk.is_long():
                yield from self._settle(chunk, report)
                chunk = _Chunk()
            try:
                queue, sent = self._judge.outgoing(job, now_ms=self._clock.now_ms())
            except JobRefused as error:
                chunk.results[place] = Refusal(place, error)
                continue
            if not chunk.has_room(sent):
                yield from self._settle(chunk, report)
                chunk = _Chunk()
            chunk.add(queue, _Placed(place, job.id, sent))
        yield from self._settle(chunk, report)

    def cancel(
        self,
        job_id: str,
        *,
        queue: str,
        reason: str = "",
        who: str = "a producer",
        even_if_absent: bool = False,
    ) -> None:
        """Cancel a job; see :meth:`engine.client.Client.cancel`."""
        with self._turn:
            self._producer.cancel(
                queue, job_id, who=who, reason=reason, even_if_absent=even_if_absent
            )

    def close(self) -> None:
        """Close the connection."""
        self._producer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _settle(self, chunk: _Chunk, report: EnqueueReport) -> Iterator[Result]:
        """Send a chunk, one call per queue, and yield what became of its jobs in their order."""
        why: EnqueueError | None = None
        for queue, placed in chunk.queues.items():
            try:
                if why is not None:
                    # One outage is waited for once.
                    raise EnqueueError(f"not sent, since another job was {why}")
                with self._turn:
                    answers = self._producer.send(queue, [each.sent for each in placed])
            except EnqueueError as error:
                why = why or error
                chunk.results |= {each.place: Refusal(each.place, error) for each in placed}
            else:
                for each, answer in zip(placed, answers, strict=True):
                    result = chunk.results[each.place] = _result(queue, each, answer)
                    if why is None and isinstance(result, Refusal) and stops(result):
                        why = result.error
        for place in sorted(chunk.results):
            count(report, chunk.results[place])
            yield chunk.results[place]
        if why is not None:
            raise EnqueueStopped(str(why), report) from why


class _Placed(msgspec.Struct):
    """A judged job with its place among those of one call."""

    place: int
    own_id: str | None
    sent: Outgoing


def _result(queue: str, placed: _Placed, answer: Sent) -> Result:
    if isinstance(answer, EnqueueError):
        return Refusal(placed.place, answer)
    return enqueued(queue, placed.sent.lane, placed.own_id, answer)


class _Chunk:
    """Jobs that are sent together, within the bounds of a batch over all their queues."""

    def __init__(self) -> None:
        self.queues: dict[str, list[_Placed]] = {}
        self.results: dict[int, Result] = {}
        self._size = 0

    def is_long(self) -> bool:
        return len(self.results) + sum(map(len, self.queues.values())) >= BATCH_JOBS_MAX

    def has_room(self, sent: Outgoing) -> bool:
        return not self._size or self._size + sent.size <= BATCH_BYTES_MAX

    def add(self, queue: str, placed: _Placed) -> None:
        self.queues.setdefault(queue, []).append(placed)
        self._size += placed.sent.size
