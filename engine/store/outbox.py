"""
Jobs of one queue on their way out of one process.

They gather while all channels are busy, so batches grow with the load by themselves. Jobs that
found their queue full and may wait stand in a line of their own, so that those which may not are
answered at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Protocol

from engine.clock import Clock
from engine.errors import EnqueueError, EnqueueUnsure, QueueFull, StoreError
from engine.store.batches import (
    BATCH_BYTES_MAX,
    BATCH_JOBS_MAX,
    Batched,
    Channel,
    Outgoing,
    Pauses,
)
from engine.store.posting import Told
from engine.store.pressure import Answer, Dropped, EnqueueReply, KnownBounds, taken
from engine.store.waiting import Settled, Waiting, fail


class Sender(Protocol):
    """What an outbox needs of its producer."""

    @property
    def clock(self) -> Clock: ...
    def start(self, sending: Coroutine[Any, Any, None]) -> None:
        """Own a task."""

    def release(self, jobs: int, size: int) -> None:
        """Give room back."""

    def post(
        self, known: KnownBounds, channel: Channel, jobs: Sequence[Outgoing], told: Told
    ) -> bool:
        """Send one batch at once; False where something has to be waited for before."""

    async def deliver(
        self,
        known: KnownBounds,
        channel: Channel,
        batch: Sequence[Waiting],
        *,
        command: Batched | None = None,
        failed: StoreError | None = None,
    ) -> EnqueueReply:
        """Send one batch, as often as it takes."""


class Outbox:
    """
    Jobs of one queue, cut into batches as channels become free.

    Args:
        sender: Sends the batches.
        known: What is known of the queue's bounds.
        channels: How many batches may be on their way.
        ordered: Whether no job may pass another.
    """

    def __init__(self, sender: Sender, known: KnownBounds, *, channels: int, ordered: bool) -> None:
        self._sender = sender
        self._known = known
        self._ordered = ordered
        self._idle = [Channel(known.keys) for _ in range(channels)]
        self._waiting: deque[Waiting] = deque()
        # Jobs that wait for room in the queue, and the last refusal, as long as there are any.
        self._line: deque[Waiting] = deque()
        self._refusal: QueueFull | None = None
        self._is_scheduled = False

    def add(self, waiting: Waiting) -> None:
        """Take jobs; they will be told what became of them."""
        if self._refusal is None:
            self._waiting.append(waiting)
        else:
            self._queue_up(waiting)
        if not self._is_scheduled:
            # At the end of this loop turn, so that all callers of the turn share a batch.
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self.pump)

    def pump(self) -> None:
        """Send what waits, as far as channels are free."""
        self._is_scheduled = False
        waiting = self._waiting
        while waiting and self._idle and (batch := self._take(waiting, BATCH_JOBS_MAX)):
            self._send(self._idle.pop(), batch)

    def _queue_up(self, waiting: Waiting) -> None:
        """Put those behind the jobs that wait for room which have to stand there."""
        assert self._refusal is not None
        for part in waiting.parts():
            if part.may_wait:
                self._line.append(part)
            elif not self._ordered:
                self._waiting.append(part)
            else:
                # It must not pass those of its key, so it is answered as if it were behind them.
                self._release([part])
                if part.jobs[0].when_full == "shed":
                    part.tell([Dropped(f"behind jobs that wait: {self._refusal}")])
                else:
                    fail([part], self._refusal)

    def _take(self, source: deque[Waiting], jobs_max: int) -> list[Waiting]:
        """The next batch; jobs whose callers have gone are left out."""
        batch: list[Waiting] = []
        jobs = size = 0
        while source:
            waiting = source[0]
            jobs += len(waiting.jobs)
            size += waiting.size
            if batch and (jobs > jobs_max or size > BATCH_BYTES_MAX):
                break
            source.popleft()
            if waiting.future.cancelled():
                self._release([waiting])
                jobs -= len(waiting.jobs)
                size -= waiting.size
                continue
            batch.append(waiting)
        return batch

    def _send(self, channel: Channel, batch: list[Waiting]) -> None:
        def told(command: Batched, reply: EnqueueReply | StoreError | None) -> None:
            if reply is None or isinstance(reply, StoreError):
                self._sender.start(self._send_slowly(channel, batch, command, reply))
                return
            try:
                self._answered(batch, reply)
            finally:
                self._free(channel)

        if not self._sender.post(self._known, channel, _jobs_of(batch), told):
            self._sender.start(self._send_slowly(channel, batch))

    async def _send_slowly(
        self,
        channel: Channel,
        batch: list[Waiting],
        command: Batched | None = None,
        failed: StoreError | None = None,
    ) -> None:
        try:
            await self._deliver(channel, batch, command, failed)
        finally:
            self._free(channel)

    def _free(self, channel: Channel) -> None:
        self._idle.append(channel)
        self.pump()

    async def _deliver(
        self,
        channel: Channel,
        batch: list[Waiting],
        command: Batched | None = None,
        failed: StoreError | None = None,
    ) -> int:
        """Send a batch and tell its callers; returns how many jobs wait on, in the line."""
        try:
            reply = await self._sender.deliver(
                self._known, channel, batch, command=command, failed=failed
            )
        except EnqueueError as error:
            fail(batch, error)
            self._release(batch)
            self._give_up_expired(error)
            return 0
        except BaseException as error:
            # The task was cancelled.
            fail(batch, EnqueueUnsure(f"no reply was read ({type(error).__name__})"))
            self._release(batch)
            raise
        return self._answered(batch, reply)

    def _answered(self, batch: Sequence[Waiting], reply: EnqueueReply) -> int:
        """Tell those who wait for a reply; returns how many of their jobs have to wait on."""
        left: list[Waiting] = []
        try:
            if isinstance(reply, bytes):
                _hand_out(batch, taken(reply))
            else:
                answers = self._known.answers(reply, (job.lane for job in _jobs_of(batch)))
                left = self._hand_out_by_room(batch, answers)
        except BaseException as error:
            # This module is at fault, or the server.
            fail(batch, EnqueueUnsure(f"the reply was not read ({type(error).__name__})"))
            raise
        finally:
            self._release(batch, but=left)
        if left:
            self._line.extendleft(reversed(left))
        return len(left)

    def _hand_out_by_room(
        self, batch: Sequence[Waiting], answers: Sequence[Answer]
    ) -> list[Waiting]:
        """Hand answers to those who wait for them; returns those that have to wait on."""
        now = self._sender.clock.monotonic()
        left: list[Waiting] = []
        parts = [part for waiting in batch for part in waiting.parts()]
        for part, answer in zip(parts, answers, strict=True):
            if not isinstance(answer, QueueFull):
                part.tell([answer])
            elif part.may_wait and now < part.deadline:
                left.append(part)
                self._begin_line(answer)
            else:
                fail([part], answer)
        return left

    def _begin_line(self, refusal: QueueFull) -> None:
        is_first = self._refusal is None
        self._refusal = refusal
        if is_first:
            behind, self._waiting = self._waiting, deque()
            for waiting in behind:
                self._queue_up(waiting)
            self._sender.start(self._wait_for_room())

    async def _wait_for_room(self) -> None:
        """Ask for room with longer and longer pauses, until nobody stands in the line."""
        clock = self._sender.clock
        channel = Channel(self._known.keys)
        pauses = Pauses(clock)
        try:
            while self._line:
                until_s = max(0.0, self._line[0].deadline - clock.monotonic())
                await clock.sleep(min(pauses.next_s(), until_s))
                while batch := self._take(self._line, pauses.jobs_max):
                    left = await self._deliver(channel, batch)
                    pauses.note(taken=left < len(batch))
                    if left:
                        break
                self._expire()
        finally:
            self._refusal = None
            fail(self._line, EnqueueError("not sent, since this program ends"))
            self._release(self._line)
            self._line.clear()

    def _expire(self) -> None:
        """Refuse those whose time is over, also where they were not asked for."""
        now = self._sender.clock.monotonic()
        assert self._refusal is not None
        while self._line and self._line[0].deadline <= now:
            part = self._line.popleft()
            self._release([part])
            fail([part], self._refusal)

    def _give_up_expired(self, error: EnqueueError) -> None:
        """Fail what waited through the same outage, so that no caller waits for two of them."""
        now = self._sender.clock.monotonic()
        for source in (self._waiting, self._line):
            while source and source[0].deadline <= now:
                waiting = source.popleft()
                self._release([waiting])
                fail([waiting], EnqueueError(f"not sent, since another job was {error}"))

    def _release(self, done: Iterable[Waiting], *, but: Iterable[Waiting] = ()) -> None:
        jobs = size = 0
        for waiting in done:
            jobs += len(waiting.jobs)
            size += waiting.size
        for waiting in but:
            jobs -= len(waiting.jobs)
            size -= waiting.size
        if jobs:
            self._sender.release(jobs, size)


def _jobs_of(batch: Sequence[Waiting]) -> list[Outgoing]:
    if len(batch) == 1:
        return batch[0].jobs
    return [job for waiting in batch for job in waiting.jobs]


def _hand_out(batch: Sequence[Waiting], answers: list[Settled]) -> None:
    """Hand answers to those who wait for them."""
    if len(batch) == 1:
        batch[0].tell(answers)
        return
    at = 0
    for waiting in batch:
        end = at + len(waiting.jobs)
        waiting.tell(answers[at:end])
        at = end
