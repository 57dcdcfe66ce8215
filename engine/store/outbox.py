"""
Jobs of one queue on their way out of one process.

They gather while all channels are busy, so batches grow with the load by themselves. Jobs that
found their queue full and may wait stand in a line of their own, so that those which may not are
answered at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

import msgspec

from engine.clock import Clock
from engine.errors import EnqueueError, EnqueueUnsure, QueueFull
from engine.store.batches import BATCH_BYTES_MAX, BATCH_JOBS_MAX, Channel, Outgoing, Pauses
from engine.store.pressure import Answer, Dropped, KnownBounds


class Waiting(msgspec.Struct):
    """A job that waits for its batch, and who waits for what becomes of it."""

    job: Outgoing
    future: asyncio.Future[str | Dropped]
    deadline: float

    @property
    def may_wait(self) -> bool:
        return self.job.when_full == "wait"


class Sender(Protocol):
    """What an outbox needs of its producer."""

    @property
    def clock(self) -> Clock: ...
    def start(self, sending: Coroutine[Any, Any, None]) -> None:
        """Own a task."""

    def release(self, jobs: int, size: int) -> None:
        """Give room back."""

    async def deliver(
        self, known: KnownBounds, channel: Channel, batch: Sequence[Waiting]
    ) -> list[Answer]:
        """Send one batch."""


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
        """Take one job; its future will tell."""
        if self._refusal is not None and self._queue_up(waiting):
            return
        self._waiting.append(waiting)
        if not self._is_scheduled:
            # At the end of this loop turn, so that all callers of the turn share a batch.
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _queue_up(self, waiting: Waiting) -> bool:
        """Put a job behind those that wait for room, if it has to stand there."""
        assert self._refusal is not None
        if waiting.may_wait:
            self._line.append(waiting)
        elif self._ordered:
            # It must not pass those of its key, so it is answered as if it were behind them.
            self._release([waiting])
            if waiting.job.when_full == "shed":
                waiting.future.set_result(Dropped(f"behind jobs that wait: {self._refusal}"))
            else:
                _fail([waiting], self._refusal)
        else:
            return False
        return True

    def _pump(self) -> None:
        self._is_scheduled = False
        while self._idle and (batch := self._take(self._waiting, BATCH_JOBS_MAX)):
            self._sender.start(self._send(self._idle.pop(), batch))

    def _take(self, source: deque[Waiting], jobs_max: int) -> list[Waiting]:
        """The next batch; jobs whose callers have gone are left out."""
        batch: list[Waiting] = []
        size = 0
        while source and len(batch) < jobs_max:
            next_size = source[0].job.size
            if batch and size + next_size > BATCH_BYTES_MAX:
                break
            waiting = source.popleft()
            if waiting.future.cancelled():
                self._release([waiting])
                continue
            batch.append(waiting)
            size += next_size
        return batch

    async def _send(self, channel: Channel, batch: list[Waiting]) -> None:
        try:
            await self._deliver(channel, batch)
        finally:
            self._idle.append(channel)
            self._pump()

    async def _deliver(self, channel: Channel, batch: list[Waiting]) -> int:
        """Send a batch and tell its callers; returns how many of them wait on, in the line."""
        left: list[Waiting] = []
        try:
            answers = await self._sender.deliver(self._known, channel, batch)
        except EnqueueError as error:
            _fail(batch, error)
            self._give_up_expired(error)
        except BaseException as error:
            # The task was cancelled, or this module is at fault.
            _fail(batch, EnqueueUnsure(f"no reply was read ({type(error).__name__})"))
            raise
        else:
            left = self._tell(batch, answers)
        finally:
            kept = set(map(id, left))
            self._release([waiting for waiting in batch if id(waiting) not in kept])
        self._line.extendleft(reversed(left))
        return len(left)

    def _tell(self, batch: Sequence[Waiting], answers: Sequence[Answer]) -> list[Waiting]:
        """Hand answers to those who wait for them; returns those that have to wait on."""
        now = self._sender.clock.monotonic()
        left: list[Waiting] = []
        for waiting, answer in zip(batch, answers, strict=True):
            if not isinstance(answer, QueueFull):
                if not waiting.future.done():
                    waiting.future.set_result(answer)
            elif waiting.may_wait and now < waiting.deadline:
                left.append(waiting)
                self._begin_line(answer)
            else:
                _fail([waiting], answer)
        return left

    def _begin_line(self, refusal: QueueFull) -> None:
        is_first = self._refusal is None
        self._refusal = refusal
        if is_first:
            behind, self._waiting = self._waiting, deque()
            for waiting in behind:
                if not self._queue_up(waiting):
                    self._waiting.append(waiting)
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
            _fail(self._line, EnqueueError("not sent, since this program ends"))
            self._release(self._line)
            self._line.clear()

    def _expire(self) -> None:
        """Refuse those whose time is over, also where they were not asked for."""
        now = self._sender.clock.monotonic()
        assert self._refusal is not None
        while self._line and self._line[0].deadline <= now:
            waiting = self._line.popleft()
            self._release([waiting])
            _fail([waiting], self._refusal)

    def _give_up_expired(self, error: EnqueueError) -> None:
        """Fail what waited through the same outage, so that no caller waits for two of them."""
        now = self._sender.clock.monotonic()
        for source in (self._waiting, self._line):
            while source and source[0].deadline <= now:
                waiting = source.popleft()
                self._release([waiting])
                _fail([waiting], EnqueueError(f"not sent, since another job was {error}"))

    def _release(self, done: Sequence[Waiting] | deque[Waiting]) -> None:
        if done:
            self._sender.release(len(done), sum(waiting.job.size for waiting in done))


def _fail(batch: Sequence[Waiting] | deque[Waiting], error: EnqueueError) -> None:
    for waiting in batch:
        if not waiting.future.done():
            # An error for each, since raising adds to its traceback.
            own = (
                error.again(waited=waiting.may_wait)
                if isinstance(error, QueueFull)
                else type(error)(*error.args)
            )
            own.__cause__ = error.__cause__
            waiting.future.set_exception(own)
            # Looked at once, so that asyncio does not complain about callers that have gone.
            waiting.future.exception()
