"""
The producers' way to the server, on an event loop.

One channel has one batch under way (:mod:`engine.store.batches`); several channels of one queue
keep one connection busy. Jobs with an ordering key all go through one channel, so that no resend
can change their order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from engine.clock import Clock
from engine.errors import StoreError, StoreRefused, StoreUnavailable
from engine.store.batches import (
    BATCH_BYTES_MAX,
    PRODUCER_NAME,
    Batched,
    Channel,
    NotSent,
    Outgoing,
    Tries,
    batched,
    cancelling,
    check_give_up,
    check_laid,
)
from engine.store.connection import pool
from engine.store.link import Link
from engine.store.outbox import Outbox, Waiting
from engine.store.pressure import Answer, Dropped, KnownBounds
from engine.store.scripts import script

Reply = TypeVar("Reply")

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
        self._outboxes: dict[tuple[str, bool], Outbox] = {}
        self._known: dict[str, KnownBounds] = {}
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

    def submit(self, queue: str, job: Outgoing) -> asyncio.Future[str | Dropped]:
        """
        Hand a job over; the future brings what became of it, or an :class:`EnqueueError`.

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
            known = self._known.get(queue)
            if known is None:
                known = self._known[queue] = KnownBounds(queue)
            channels = 1 if job.ordered else CHANNELS
            outbox = Outbox(self, known, channels=channels, ordered=job.ordered)
            self._outboxes[place] = outbox
        future: asyncio.Future[str | Dropped] = loop.create_future()
        deadline = self.clock.monotonic() + self._give_up_s
        self._jobs += 1
        self._bytes += job.size
        outbox.add(Waiting(job=job, future=future, deadline=deadline))
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

    async def deliver(
        self, known: KnownBounds, channel: Channel, batch: Sequence[Waiting]
    ) -> list[Answer]:
        """
        Send one batch and return what became of its jobs.

        Raises:
            EnqueueError: It was given up.
        """
        jobs = [waiting.job for waiting in batch]
        command: Batched | None = None

        async def send() -> bytes | list[bytes]:
            nonlocal command
            if command is None:
                await self._learn(known)
                # A batch is sent again as it was, so that its answer is that of the first time.
                command = batched(channel, jobs, known)
            reply: bytes | list[bytes] = await self._link.run(
                command.script, command.keys, *command.rest
            )
            return reply

        words = await self._until_answered(send, batch[0].deadline)
        return known.answers(words, [job.lane for job in jobs])

    async def cancel(self, queue: str, job_id: str, **order: Any) -> None:
        """
        Lay a tombstone; see :func:`engine.store.batches.cancelling`.

        Raises:
            EnqueueError: It was given up, or there are too many.
        """
        keys, arguments = cancelling(queue, job_id, **order)
        lay = partial(self._link.run, script("cancel"), keys, *arguments)
        deadline = self.clock.monotonic() + self._give_up_s
        check_laid(await self._until_answered(lay, deadline), queue)

    async def _until_answered(self, call: Callable[[], Awaitable[Reply]], deadline: float) -> Reply:
        """Do what is safe to repeat until the server answers."""
        tries = Tries(self.clock, deadline)
        while True:
            try:
                return await call()
            except StoreError as error:
                if isinstance(error, StoreRefused) and error.kind == "readonly":
                    # After a failover the address may lead to another server.
                    self._link.drop()
                delay_s = tries.delay_s(error)
            await self.clock.sleep(delay_s)

    async def close(self) -> None:
        """Wait for what is on its way, then close the connection."""
        # A turn of the loop may still have to cut its batch.
        await asyncio.sleep(0)
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        self._link.drop()

    async def _learn(self, known: KnownBounds) -> None:
        """Look at a queue's bounds before its first batch, and beside a later one now and then."""
        if known.is_unknown:
            await self._look(known)
        elif known.is_due(self.clock.monotonic()):
            self.start(self._look_again(known))

    async def _look(self, known: KnownBounds) -> None:
        try:
            flat = await self._link.one(b"HGETALL", known.keys.control)
        except StoreUnavailable as error:
            known.forget()
            raise NotSent(error.kind, str(error).removeprefix(f"{error.kind}: ")) from None
        except StoreError:
            # Who may not read this may yet enqueue; a server that refuses all will say so.
            flat = []
        known.note(flat, self.clock.monotonic())

    async def _look_again(self, known: KnownBounds) -> None:
        with contextlib.suppress(NotSent):
            await self._look(known)

    def _is_full(self) -> bool:
        return self._jobs >= ROOM_JOBS or self._bytes >= ROOM_BYTES
