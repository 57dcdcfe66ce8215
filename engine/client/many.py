"""
Many jobs of one call, on their way through a client.

What is read in one turn of the loop travels as one **chunk**, cut so that the server has work while
the next jobs are judged. Results come in the order of the jobs, chunk by chunk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator

import msgspec

from engine.client.jobs import (
    EnqueueReport,
    NewJob,
    Refusal,
    Result,
    count,
    enqueued,
    stops,
)
from engine.errors import EnqueueError, JobRefused
from engine.store.batches import BATCH_BYTES_MAX, Outgoing
from engine.store.producer import Producer
from engine.store.waiting import Settled

OUTSTANDING_MAX = 4_000
"""Jobs of one call that may be on their way."""

CHUNK_JOBS = 125
"""Jobs that are read in one turn of the loop, and sent together."""

Judged = Callable[[NewJob], tuple[str, Outgoing]]


class _Parcel:
    """The jobs of a chunk that go the same way."""

    __slots__ = ("answers", "jobs", "ordered", "queue", "sent")

    def __init__(self, queue: str, *, ordered: bool) -> None:
        self.queue = queue
        self.ordered = ordered
        self.jobs: list[Outgoing] = []
        self.sent: asyncio.Future[list[Settled]] | None = None
        self.answers: list[Settled] = []


class _Named(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a job that is on its way, to say what became of it."""

    parcel: _Parcel
    lane: str
    own_id: str | None


class Chunk:
    """
    Jobs that were read one after the other.

    Args:
        start: The place of the first one.

    Attributes:
        order: The jobs in their order, and why where one is refused.
        size: Bytes that they add to batches.
    """

    def __init__(self, start: int) -> None:
        self._start = start
        self.order: list[_Named | JobRefused] = []
        self.size = 0
        self._parcels: list[_Parcel] = []
        self._last: _Parcel | None = None
        self._is_whole = True

    def after(self) -> Chunk:
        """Begin the next one."""
        return Chunk(self._start + len(self.order))

    def refuse(self, error: JobRefused) -> None:
        """Add a job that breaks a rule."""
        self.order.append(error)
        self._is_whole = False

    def add(self, queue: str, sent: Outgoing, own_id: str | None) -> None:
        """Add a job."""
        parcel = self._last
        if parcel is None or parcel.queue != queue or parcel.ordered != sent.ordered:
            parcel = self._last = self._parcel(queue, ordered=sent.ordered)
        parcel.jobs.append(sent)
        self.size += sent.size
        self.order.append(_Named(parcel, sent.lane, own_id))

    def _parcel(self, queue: str, *, ordered: bool) -> _Parcel:
        for parcel in self._parcels:
            if parcel.queue == queue and parcel.ordered == ordered:
                return parcel
        self._parcels.append(_Parcel(queue, ordered=ordered))
        return self._parcels[-1]

    def submit(self, producer: Producer) -> None:
        """Hand the jobs over."""
        for parcel in self._parcels:
            parcel.sent = producer.submit(parcel.queue, parcel.jobs, at_once=True)
            parcel.jobs = []

    async def answered(self) -> None:
        """Wait until all is known; a caller that is cancelled takes no job back."""
        for parcel in self._parcels:
            assert parcel.sent is not None
            if not parcel.sent.done():
                await asyncio.wait((parcel.sent,))
            parcel.answers = parcel.sent.result()
            self._is_whole = self._is_whole and {*map(type, parcel.answers)} == {str}

    def count(self, report: EnqueueReport) -> EnqueueError | None:
        """Add all jobs to a report; returns the first error that ends the enqueuing of many."""
        if self._is_whole:
            report.accepted += len(self.order)
            return None
        stopped: EnqueueError | None = None
        for result in self.results():
            count(report, result)
            if stopped is None and isinstance(result, Refusal) and stops(result):
                stopped = result.error
        return stopped

    def results(self) -> Iterator[Result]:
        """Say what became of each job."""
        left = {id(parcel): iter(parcel.answers) for parcel in self._parcels}
        for place, step in enumerate(self.order, self._start):
            if isinstance(step, JobRefused):
                yield Refusal(place, step)
                continue
            answer = next(left[id(step.parcel)])
            if isinstance(answer, EnqueueError):
                yield Refusal(place, answer)
            else:
                yield enqueued(step.parcel.queue, step.lane, step.own_id, answer)


class Reader:
    """
    Reads jobs, a bounded number ahead of their results.

    Args:
        producer: Takes the jobs.
        judge: Judges one.
    """

    def __init__(self, producer: Producer, judge: Judged) -> None:
        self._producer = producer
        self._judge = judge
        self._loop = producer.bind()
        self._chunk = Chunk(0)
        self._outstanding = 0
        self._chunks: deque[Chunk] = deque()
        self._is_over = False
        self._more = asyncio.Event()
        self._less = asyncio.Event()

    async def read(self, jobs: Iterable[NewJob] | AsyncIterable[NewJob]) -> None:
        """Read all jobs, giving the loop its turn after each chunk."""
        try:
            if isinstance(jobs, AsyncIterable):
                async for job in jobs:
                    if not self._chunk.order:
                        await self._room()
                    if self._add(job):
                        # An asynchronous iterator need not ever wait.
                        await asyncio.sleep(0)
            else:
                for job in jobs:
                    if not self._chunk.order:
                        await self._room()
                    if self._add(job):
                        await asyncio.sleep(0)
        finally:
            self._send()
            self._is_over = True
            self._more.set()

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """Yield what was sent, once all of it is known."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                await chunk.answered()
                yield chunk
                self._outstanding -= len(chunk.order)
                self._less.set()
            if self._is_over:
                return
            self._more.clear()
            await self._more.wait()

    async def _room(self) -> None:
        """Wait until there is room for one more chunk."""
        while self._outstanding + CHUNK_JOBS > OUTSTANDING_MAX:
            self._less.clear()
            await self._less.wait()
        if self._producer.is_full:
            await self._producer.room()

    def _add(self, job: NewJob) -> bool:
        """Take one job; says whether its chunk was sent."""
        try:
            queue, sent = self._judge(job)
        except JobRefused as error:
            self._chunk.refuse(error)
        else:
            if self._chunk.size and self._chunk.size + sent.size > BATCH_BYTES_MAX:
                self._send()
            self._chunk.add(queue, sent, job.id)
        jobs = len(self._chunk.order)
        if jobs == 1:
            # Where the iterator waits before there is a whole chunk.
            self._loop.call_soon(self._send)
        if jobs < CHUNK_JOBS:
            return False
        self._send()
        return True

    def _send(self) -> None:
        chunk = self._chunk
        if chunk.order:
            self._chunk = chunk.after()
            self._outstanding += len(chunk.order)
            chunk.submit(self._producer)
            self._chunks.append(chunk)
            self._more.set()
