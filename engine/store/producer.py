"""
The producers' way to the server, on an event loop.

One channel has one batch under way (:mod:`engine.store.batches`); several channels of one queue
keep one connection busy. Jobs with an ordering key all go through one channel, so that no resend
can change their order.

While all goes well a batch costs no task: it is written as soon as it is cut, and its callers are
told where its reply is read. Whatever else happens goes on in a task.
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
from engine.store.outbox import Outbox
from engine.store.posting import PostingLink, Told
from engine.store.pressure import EnqueueReply, KnownBounds
from engine.store.scripts import script
from engine.store.waiting import Settled, Waiting

Reply = TypeVar("Reply")

ROOM_JOBS = 20_000
ROOM_BYTES = 8 * BATCH_BYTES_MAX
"""What may wait inside a producer before callers are made to wait."""

CHANNELS = 3


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
        self._link = PostingLink(made, timeout_s=timeout_s)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outboxes: dict[tuple[str, bool], Outbox] = {}
        self._known: dict[str, KnownBounds] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._jobs = 0
        self._bytes = 0
        self._queued: deque[asyncio.Future[None]] = deque()
        self._emptied: asyncio.Future[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether there is no room for one more job."""
        return self._jobs >= ROOM_JOBS or self._bytes >= ROOM_BYTES

    async def room(self) -> None:
        """Wait until there is room for one more job."""
        while self.is_full:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queued.append(turn)
            await turn

    def bind(self) -> asyncio.AbstractEventLoop:
        """
        Return the running loop, which has to be the same each time.

        Raises:
            RuntimeError: It is another one.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise RuntimeError("a client belongs to the event loop of its first call")
            self._loop = loop
        return loop

    def submit(
        self, queue: str, jobs: list[Outgoing], *, at_once: bool = False
    ) -> asyncio.Future[list[Settled]]:
        """
        Hand jobs over that are all ordered or all not; the future brings what became of each.

        Args:
            queue: Their queue.
            jobs: The jobs, which fit into one batch.
            at_once: Send them without waiting for others of this turn of the loop.

        Raises:
            ValueError: The queue's name breaks the rule for names.
        """
        future: asyncio.Future[list[Settled]] = self.bind().create_future()
        outbox = self._outboxes.get((queue, jobs[0].ordered))
        if outbox is None:
            outbox = self._outbox(queue, ordered=jobs[0].ordered)
        size = jobs[0].size if len(jobs) == 1 else sum([job.size for job in jobs])
        self._jobs += len(jobs)
        self._bytes += size
        outbox.add(Waiting(jobs, size, self.clock.monotonic() + self._give_up_s, future))
        if at_once:
            outbox.pump()
        return future

    def _outbox(self, queue: str, *, ordered: bool) -> Outbox:
        known = self._known.get(queue)
        if known is None:
            known = self._known[queue] = KnownBounds(queue)
        outbox = Outbox(self, known, channels=1 if ordered else CHANNELS, ordered=ordered)
        self._outboxes[queue, ordered] = outbox
        return outbox

    def start(self, sending: Coroutine[Any, Any, None]) -> None:
        """Own a task."""
        task = asyncio.get_running_loop().create_task(sending)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def release(self, jobs: int, size: int) -> None:
        """Give room back."""
        self._jobs -= jobs
        self._bytes -= size
        if not self._jobs and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)
        if not self._queued:
            return
        free = ROOM_JOBS - self._jobs
        while self._queued and free > 0 and not self.is_full:
            turn = self._queued.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1

    def post(
        self, known: KnownBounds, channel: Channel, jobs: Sequence[Outgoing], told: Told
    ) -> bool:
        """Send one batch at once; False where something has to be waited for before."""
        if known.is_unknown:
            return False
        if known.is_due(self.clock.monotonic()):
            self.start(self._look_again(known))
        return self._link.post(batched(channel, jobs, known), told)

    async def deliver(
        self,
        known: KnownBounds,
        channel: Channel,
        batch: Sequence[Waiting],
        *,
        command: Batched | None = None,
        failed: StoreError | None = None,
    ) -> EnqueueReply:
        """
        Send one batch, as often as it takes, and return what became of its jobs.

        Args:
            known: What is known of the queue's bounds.
            channel: The batch's channel.
            batch: The jobs.
            command: The batch's call, where it was sent before.
            failed: What came of that.

        Raises:
            EnqueueError: It was given up.
        """

        async def send() -> EnqueueReply:
            nonlocal command
            if command is None:
                await self._learn(known)
                # A batch is sent again as it was, so that its answer is that of the first time.
                jobs = [job for waiting in batch for job in waiting.jobs]
                command = batched(channel, jobs, known)
            reply: EnqueueReply = await self._link.run(command.script, command.keys, *command.rest)
            return reply

        return await self._until_answered(send, batch[0].deadline, failed)

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

    async def _until_answered(
        self,
        call: Callable[[], Awaitable[Reply]],
        deadline: float,
        failed: StoreError | None = None,
    ) -> Reply:
        """Do what is safe to repeat until the server answers; a first try may have failed."""
        tries = Tries(self.clock, deadline)
        while True:
            if failed is None:
                try:
                    return await call()
                except StoreError as error:
                    failed = error
            if isinstance(failed, StoreRefused) and failed.kind == "readonly":
                # After a failover the address may lead to another server.
                self._link.drop()
            delay_s, failed = tries.delay_s(failed), None
            await self.clock.sleep(delay_s)

    async def close(self) -> None:
        """Wait for what is on its way, then close the connection."""
        while self._jobs:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied
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
