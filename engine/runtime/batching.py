"""
Batch handlers: jobs of one type that are taken together, in one call.

Each job of a batch keeps the worker that took it up. The worker joins the batch and waits for its
own part of what becomes of it, so time limits, leases, fencing, order and attempts stay those of a
single job. The handler runs in a task of the batch's own, which no single worker's end can cancel.

A batch begins when it is full, when its first job has waited long enough, or as soon as no further
job can come. A job whose worker is cancelled leaves; the others go on without it. A job that was
lost with an engine is run by itself from then on.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from engine.clock import Clock
from engine.core.batch import BatchRule, Part, parts_of
from engine.core.leases import LeaseTimes
from engine.registry import BatchMiddleware, JobType
from engine.runtime.calls import LeaseTooOld, OverLimit, Runs
from engine.runtime.jobs import LiveJob
from engine.telemetry import Sizes

Handle = Callable[[list[Any], list[Any]], Coroutine[Any, Any, Any]]
"""Runs a batch handler on jobs and their payloads."""

SLACK_S = 1.0
"""The batch's own time limit comes first; a worker's is there in case it does not."""

STOP_SHARE = 0.8
"""A stopping engine gives workers up after the grace; the batch must have answered before."""


class Crew(Protocol):
    """What is asked of the queue's workers."""

    active: int
    limit: int
    open: bool

    def begun(self, jobs: Sequence[LiveJob]) -> None:
        """Count the time of these jobs from now on: so far they waited."""


class Member:
    """A job in a batch, and where its worker waits for its part."""

    __slots__ = ("job", "payload", "told")

    def __init__(self, job: LiveJob, payload: Any) -> None:
        self.job = job
        self.payload = payload
        self.told: asyncio.Future[Part] = asyncio.get_running_loop().create_future()


class Batch:
    """
    Jobs that are taken together.

    Attributes:
        members: All that joined and did not leave before it began, in the order of joining.
        present: How many of them have not left.
        task: Runs the handler; None while the batch gathers.
        keeper: The task that acts when time is up: the wait's, the limit's, then the grace's.
        begun: Whether the handler was called.
        cancelled: Why the handler was cancelled.
        given_up: The members were told without waiting for the handler to end.
    """

    __slots__ = ("begun", "cancelled", "given_up", "keeper", "members", "present", "task")

    def __init__(self) -> None:
        self.members: dict[Member, None] = {}
        self.present = 0
        self.task: asyncio.Task[None] | None = None
        self.keeper: asyncio.Task[None] | None = None
        self.begun = False
        self.cancelled = ""
        self.given_up = False

    @property
    def is_over_limit(self) -> bool:
        """Whether the handler was cancelled at its time limit."""
        return self.cancelled == "limit"

    def tell(self, parts: Sequence[Part]) -> None:
        """Give those who still wait their parts."""
        for member, part in zip(self.members, parts, strict=True):
            if not member.told.done():
                member.told.set_result(part)

    def keep(self, keeper: asyncio.Task[None] | None) -> None:
        """Put another keeper in the place of the present one."""
        if self.keeper is not None and self.keeper is not asyncio.current_task():
            self.keeper.cancel()
        self.keeper = keeper


class Batches:
    """
    All batches of one queue.

    Args:
        clock: Time.
        times: When a lease is too old to start under.
        cancel_grace_s: Time that a cancelled handler has.
        spawn: Runs a coroutine as a task that the engine owns.
        stopping: Tells that the engine stops.
        on_stuck: Called with +1 when a handler is given up, -1 when it ended after all.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        times: LeaseTimes,
        cancel_grace_s: float,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        stopping: Callable[[], bool],
        on_stuck: Callable[[int], None],
    ) -> None:
        self.clock = clock
        self.times = times
        self.cancel_grace_s = cancel_grace_s
        self.stopping = stopping
        self.on_stuck = on_stuck
        self.crew: Crew | None = None
        self.gathering = 0
        self.batchers: list[Batcher] = []
        self._spawn = spawn
        # A batch belongs to none of the workers by whose joining it begins.
        self._context = contextvars.copy_context()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine in the engine's own context."""
        return self._context.run(self._spawn, coroutine)

    def batcher(self, rule: BatchRule, handle: Handle, *, limit_s: float) -> Batcher:
        """
        Set up the batches of one type.

        Args:
            rule: Their size and wait.
            handle: Runs the handler.
            limit_s: Time limit of one call.
        """
        batcher = Batcher(self, rule, handle, limit_s=limit_s)
        self.batchers.append(batcher)
        return batcher

    def joined(self) -> None:
        """Begin a batch early if no further job can come before another has ended."""
        crew = self.crew
        assert crew is not None
        if not crew.open or self.stopping():
            self.flush()
        elif self.gathering >= crew.active >= crew.limit:
            # The fullest frees the most workers; the others may yet grow by them.
            max(self.batchers, key=lambda each: each.waiting).flush()

    def flush(self) -> None:
        """Begin what has gathered, however little it is."""
        for batcher in self.batchers:
            batcher.flush()


class Batcher:
    """Gathers and runs the batches of one type; see :meth:`Batches.batcher`."""

    def __init__(
        self, batches: Batches, rule: BatchRule, handle: Handle, *, limit_s: float
    ) -> None:
        self._batches = batches
        self._handle = handle
        self._size = rule.size
        self._wait_s = rule.wait_ms / 1e3
        self._limit_s = limit_s
        self._gathering: Batch | None = None
        self.sizes = Sizes()
        self.extra_s = self._wait_s + batches.cancel_grace_s + SLACK_S

    @property
    def waiting(self) -> int:
        """Jobs of the batch that gathers."""
        return len(self._gathering.members) if self._gathering is not None else 0

    async def join(self, job: LiveJob, payload: Any) -> Any:
        """
        Wait for a batch to run with this job in it.

        Returns:
            What the handler returned for this job.

        Raises:
            BaseException: What it returned for this job as an exception, or raised for all.
        """
        member = Member(job, payload)
        batch = self._put(member)
        try:
            part = await member.told
        except asyncio.CancelledError:
            left = await self._leave(batch, member)
            if left is None:
                raise
            part = left
        if part.error is not None:
            # The same exception may stand for many jobs: each tells of its own way alone.
            raise part.error.with_traceback(part.trace)
        return part.result

    def flush(self) -> None:
        """Begin the batch that gathers, if there is one."""
        batch, self._gathering = self._gathering, None
        if batch is not None:
            self._batches.gathering -= len(batch.members)
            self._begin(batch)

    def _put(self, member: Member) -> Batch:
        if member.job.lost:
            # It was there when an engine died. If it is the cause, it shall not take others along.
            batch = Batch()
            batch.members[member] = None
            self._begin(batch)
            return batch
        if self._gathering is None:
            self._gathering = Batch()
            self._gathering.keeper = self._batches.spawn(self._wait(self._gathering))
        batch = self._gathering
        batch.members[member] = None
        self._batches.gathering += 1
        if len(batch.members) >= self._size:
            self.flush()
        else:
            self._batches.joined()
        return batch

    def _begin(self, batch: Batch) -> None:
        batches, crew = self._batches, self._batches.crew
        assert crew is not None
        batch.present = len(batch.members)
        self.sizes.observe(batch.present)
        crew.begun([member.job for member in batch.members])
        batch.task = batches.spawn(self._run(batch))
        batch.keep(batches.spawn(self._limit(batch)))

    async def _run(self, batch: Batch) -> None:
        parts = await self._parts(batch)
        if batch.given_up:
            self._batches.on_stuck(-1)
            return
        batch.keep(None)
        batch.tell(parts)

    async def _parts(self, batch: Batch) -> list[Part]:
        """Run the handler; whatever it raises is what all of its jobs end by."""
        self._part_with_the_late(batch)
        count = len(batch.members)
        if batch.cancelled or not batch.members:
            # Nobody is left to call the handler for.
            return [Part(None, asyncio.CancelledError())] * count
        batch.begun = True
        jobs = [member.job for member in batch.members]
        payloads = [member.payload for member in batch.members]
        try:
            return parts_of(await self._handle(jobs, payloads), count)
        except asyncio.CancelledError as error:
            if batch.is_over_limit:
                return [Part(None, OverLimit())] * count
            return [_raised(error)] * count
        except BaseException as error:  # noqa: BLE001 - SystemExit would end the loop
            return [_raised(error)] * count

    def _part_with_the_late(self, batch: Batch) -> None:
        """Leave out who has left, and whose lease ran out, as while the process stood still."""
        batches = self._batches
        now = batches.clock.monotonic()
        for member in list(batch.members):
            if member.told.cancelled():
                del batch.members[member]
            elif not batches.times.may_start((now - member.job.lease.batch.since) * 1e3):
                del batch.members[member]
                batch.present -= 1
                member.told.set_result(Part(None, LeaseTooOld()))

    async def _leave(self, batch: Batch, member: Member) -> Part | None:
        """Take a job out whose worker was cancelled; returns its part where it has one."""
        if not member.told.cancelled():
            return member.told.result()
        if batch.task is None:
            del batch.members[member]
            self._batches.gathering -= 1
            if not batch.members:
                self._gathering = None
                batch.keep(None)
            return None
        batch.present -= 1
        if batch.present == 0:
            self._cancel(batch, "left")
        if not self._batches.stopping() or member.job.lease.lost or member not in batch.members:
            return None
        # It is handed back once the handler has ended: another engine will run it again.
        member.told = asyncio.get_running_loop().create_future()
        return await member.told

    async def _wait(self, batch: Batch) -> None:
        await self._batches.clock.sleep(self._wait_s)
        if batch is self._gathering:
            self.flush()

    async def _limit(self, batch: Batch) -> None:
        await self._batches.clock.sleep(self._limit_s)
        self._cancel(batch, "limit")

    async def _grace(self, batch: Batch) -> None:
        share = STOP_SHARE if self._batches.stopping() else 1.0
        await self._batches.clock.sleep(self._batches.cancel_grace_s * share)
        batch.given_up = True
        self._batches.on_stuck(1)
        error = OverLimit() if batch.is_over_limit else asyncio.CancelledError()
        batch.tell([Part(None, error)] * len(batch.members))

    def _cancel(self, batch: Batch, why: str) -> None:
        assert batch.task is not None
        if not batch.cancelled and not batch.task.done():
            batch.cancelled = why
            if batch.begun:
                # A task that is cancelled before its first step would tell nobody.
                batch.task.cancel()
            batch.keep(self._batches.spawn(self._grace(batch)))


def _raised(error: BaseException) -> Part:
    # The first frame is the batch's own.
    trace = error.__traceback__.tb_next if error.__traceback__ is not None else None
    return Part(None, error, trace)


def handle_of(
    job_type: JobType, services: Any, pools: Runs, middleware: Sequence[BatchMiddleware] = ()
) -> Handle:
    """Build the function that runs a batch handler, with what goes around it, outermost first."""
    handle = _plain_handle(job_type, services, pools)
    for around in reversed(middleware):
        handle = _wrapped(handle, around)
    return handle


def _wrapped(inner: Handle, around: BatchMiddleware) -> Handle:
    async def handle(jobs: list[Any], payloads: list[Any]) -> Any:
        return await around(jobs, lambda: inner(jobs, payloads))

    return handle


def _plain_handle(job_type: JobType, services: Any, pools: Runs) -> Handle:
    function = job_type.function
    if job_type.pool == "thread":

        async def handle(_jobs: list[Any], payloads: list[Any]) -> Any:
            return await pools.in_thread(function, payloads)

        return handle
    if job_type.arguments == 3:
        return lambda jobs, payloads: function(jobs, payloads, services)
    return function
