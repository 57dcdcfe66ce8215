"""
The producers' way to the server, on an event loop.

One channel has one batch under way (:mod:`engine.store.batches`); several channels of one queue
keep one connection busy. Jobs with an ordering key all go through one channel, so that no resend
can change their order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec

from engine.clock import Clock
from engine.errors import EnqueueError, EnqueueUnsure, StoreError, StoreRefused, StoreUnavailable
from engine.store.batches import (
    BATCH_BYTES_MAX,
    BATCH_JOBS_MAX,
    PRODUCER_NAME,
    Channel,
    NotSent,
    Outgoing,
    Tries,
    cancelling,
    check_give_up,
    check_laid,
)
from engine.store.connection import pool
from engine.store.link import Argument, Link
from engine.store.scripts import script
from engine.wire.keys import QueueKeys

ROOM_JOBS = 20_000
ROOM_BYTES = 8 * BATCH_BYTES_MAX
"""What may wait inside a producer before callers are made to wait."""

CHANNELS = 3


class _ProducerLink(Link):
    """A link that tells whether a failed call can have reached the server."""

    async def _connect(self) -> Any:
        try:
            return await super()._connect()
        except StoreUnavailable as error:
            raise NotSent(error.kind, str(error).removeprefix(f"{error.kind}: ")) from None


class _Waiting(msgspec.Struct):
    """A job that waits for its batch, and who waits for its entry id."""

    job: Outgoing
    future: asyncio.Future[str]
    deadline: float


class _Outbox:
    """
    Jobs of one queue, cut into batches as channels become free.

    While all channels are busy jobs gather, so batches grow with the load by themselves.
    """

    def __init__(self, producer: Producer, queue: str, channels: int) -> None:
        self._producer = producer
        keys = QueueKeys(queue)
        self._idle = [Channel(keys) for _ in range(channels)]
        self._waiting: deque[_Waiting] = deque()
        self._is_scheduled = False

    def add(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        if not self._is_scheduled:
            # At the end of this loop turn, so that all callers of the turn share a batch.
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._is_scheduled = False
        while self._idle and (batch := self._take()):
            self._producer.start(self._send(self._idle.pop(), batch))

    def _take(self) -> list[_Waiting]:
        """The next batch; jobs whose callers have gone are left out."""
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < BATCH_JOBS_MAX:
            next_size = self._waiting[0].job.size
            if batch and size + next_size > BATCH_BYTES_MAX:
                break
            waiting = self._waiting.popleft()
            if waiting.future.cancelled():
                self._producer.release(1, next_size)
                continue
            batch.append(waiting)
            size += next_size
        return batch

    async def _send(self, channel: Channel, batch: list[_Waiting]) -> None:
        try:
            entries = await self._producer.deliver(channel, batch)
        except EnqueueError as error:
            _fail(batch, error)
            self._give_up_expired(error)
        except BaseException as error:
            # The task was cancelled, or this module is at fault.
            _fail(batch, EnqueueUnsure(f"no reply was read ({type(error).__name__})"))
            raise
        else:
            for waiting, entry in zip(batch, entries, strict=True):
                if not waiting.future.done():
                    waiting.future.set_result(entry.decode())
        finally:
            self._producer.release(len(batch), sum(waiting.job.size for waiting in batch))
            self._idle.append(channel)
            self._pump()

    def _give_up_expired(self, error: EnqueueError) -> None:
        """Fail what waited through the same outage, so that no caller waits for two of them."""
        now = self._producer.clock.monotonic()
        while self._waiting and self._waiting[0].deadline <= now:
            waiting = self._waiting.popleft()
            self._producer.release(1, waiting.job.size)
            _fail([waiting], EnqueueError(f"not sent, since another job was {error}"))


class Producer:
    """
    Appends jobs over one connection of one event loop.

    Args:
        url: The server.
        clock: Gives time and chance.
        give_up_s: How long a job is tried for.
        timeout_s: Time after which a silent server counts as gone.
    """

    def __init__(self, url: str, *, clock: Clock, give_up_s: float, timeout_s: float) -> None:
        check_give_up(give_up_s)
        self.clock = clock
        self._give_up_s = give_up_s
        made = pool(url, name=PRODUCER_NAME, timeout_s=timeout_s, connect_timeout_s=timeout_s)
        self._link = _ProducerLink(made, timeout_s=timeout_s)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outboxes: dict[tuple[str, bool], _Outbox] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._jobs = 0
        self._bytes = 0
        self._queued: deque[asyncio.Future[None]] = deque()

    async def room(self) -> None:
        """Wait until there is room for one more job."""
        while self._is_full():
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queued.append(turn)
            await turn

    def submit(self, queue: str, job: Outgoing) -> asyncio.Future[str]:
        """
        Hand a job over; the future brings its entry id, or an :class:`EnqueueError`.

        Raises:
            ValueError: The queue's name breaks the rule for names.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise RuntimeError("a client belongs to the event loop of its first call")
            self._loop = loop
        place = (queue, job.ordered)
        outbox = self._outboxes.get(place)
        if outbox is None:
            outbox = _Outbox(self, queue, 1 if job.ordered else CHANNELS)
            self._outboxes[place] = outbox
        future: asyncio.Future[str] = loop.create_future()
        deadline = self.clock.monotonic() + self._give_up_s
        self._jobs += 1
        self._bytes += job.size
        outbox.add(_Waiting(job=job, future=future, deadline=deadline))
        return future

    def start(self, sending: Coroutine[Any, Any, None]) -> None:
        """Own the sending of one batch."""
        task = asyncio.get_running_loop().create_task(sending)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def release(self, jobs: int, size: int) -> None:
        """Give room back."""
        self._jobs -= jobs
        self._bytes -= size
        free = ROOM_JOBS - self._jobs
        while self._queued and free > 0 and not self._is_full():
            turn = self._queued.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1

    async def deliver(self, channel: Channel, batch: Sequence[_Waiting]) -> list[bytes]:
        """
        Append one batch and return its entry ids.

        Raises:
            EnqueueError: It was given up.
        """
        keys, arguments = channel.command([waiting.job for waiting in batch])
        entries: list[bytes] = await self._run("enqueue", keys, arguments, batch[0].deadline)
        return entries

    async def cancel(self, queue: str, job_id: str, **order: Any) -> None:
        """
        Lay a tombstone; see :func:`engine.store.batches.cancelling`.

        Raises:
            EnqueueError: It was given up, or there are too many.
        """
        keys, arguments = cancelling(queue, job_id, **order)
        deadline = self.clock.monotonic() + self._give_up_s
        check_laid(await self._run("cancel", keys, arguments, deadline), queue)

    async def _run(
        self, name: str, keys: Sequence[str], arguments: Sequence[Argument], deadline: float
    ) -> Any:
        """Run a script that is safe to repeat until the server answers."""
        tries = Tries(self.clock, deadline)
        while True:
            try:
                reply = await self._link.run(script(name), keys, *arguments)
            except StoreError as error:
                if isinstance(error, StoreRefused) and error.kind == "readonly":
                    # After a failover the address may lead to another server.
                    self._link.drop()
                delay_s = tries.delay_s(error)
            else:
                return reply
            await self.clock.sleep(delay_s)

    async def close(self) -> None:
        """Wait for what is on its way, then close the connection."""
        # A turn of the loop may still have to cut its batch.
        await asyncio.sleep(0)
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        self._link.drop()

    def _is_full(self) -> bool:
        return self._jobs >= ROOM_JOBS or self._bytes >= ROOM_BYTES


def _fail(batch: Sequence[_Waiting], error: EnqueueError) -> None:
    for waiting in batch:
        if not waiting.future.done():
            # An error for each, since raising adds to its traceback.
            own = type(error)(*error.args)
            own.__cause__ = error.__cause__
            waiting.future.set_exception(own)
            # Looked at once, so that asyncio does not complain about callers that have gone.
            waiting.future.exception()
