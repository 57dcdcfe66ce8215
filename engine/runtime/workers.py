"""
The workers of one queue: long-lived tasks that run job after job.

A batch wakes one worker, which runs handler after handler by plain ``await``. If jobs are left when
it suspends, the next loop turn wakes twice as many. So handlers that never suspend cost no task
switch, and handlers that do are all running a few loop turns later.

Time limits are watched by one scanner for all workers: it cancels a handler at its limit, and
gives its worker up if the handler ignores that. The job is settled as timed out either way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal

from engine.clock import Clock
from engine.core import decision as to
from engine.core import outcome as was
from engine.core.leases import LeaseTimes
from engine.runtime.attempt import Admission, Ask, outcome_of, timed_out
from engine.runtime.gatekeeper import Gatekeeper
from engine.runtime.jobs import LiveJob
from engine.runtime.results import encode_result
from engine.runtime.settler import Settler
from engine.store.base import Batch, Lease

Why = Literal["", "timeout", "stop", "lost", "cancelled"]
NEVER = float("inf")
_NO_BATCH = Batch(lane="", since=0.0)


class Worker:
    """
    One long-lived task and what it is doing.

    Attributes:
        job: The job whose handler runs now, or ran until a moment ago.
        started: Monotonic seconds of its start.
        deadline: Monotonic seconds at which the scanner acts.
        why: Why its handler was cancelled.
        given_up: The job was settled without waiting for the handler to end.
    """

    __slots__ = ("deadline", "given_up", "job", "started", "task", "wake", "why")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.wake: asyncio.Future[None] | None = None
        self.job: LiveJob | None = None
        self.started = 0.0
        self.deadline = NEVER
        self.why: Why = ""
        self.given_up = False

    def cancel(self, why: Why, deadline: float) -> None:
        """Cancel the handler that runs, and say why."""
        assert self.task is not None
        self.why = why
        self.deadline = deadline
        self.task.cancel()


class Workers:
    """
    Runs the jobs of one queue.

    Args:
        admission: Judges entries when their turn has come.
        settler: Takes what ended.
        gatekeeper: Asks for gated jobs.
        clock: Time.
        times: When a lease is too old to start under.
        cancel_grace_s: Time that a cancelled handler has.
        spawn: Runs a coroutine in the engine's task group.
        on_room: Called when a worker took a job or ended one.
        on_held: Called with the type and the reason when a handler holds its type.
        on_stuck: Called with +1 when a worker is given up, -1 when its handler ended after all.
        started: Called with jobs whose types want events.
    """

    def __init__(
        self,
        admission: Admission,
        settler: Settler,
        gatekeeper: Gatekeeper,
        clock: Clock,
        *,
        times: LeaseTimes,
        cancel_grace_s: float,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        on_room: Callable[[], None],
        on_held: Callable[[LiveJob, str], None],
        on_stuck: Callable[[int], None],
        on_started: Callable[[LiveJob], None],
    ) -> None:
        self._admission = admission
        self._settler = settler
        self._gatekeeper = gatekeeper
        self._clock = clock
        self._start_age_s = times.start_age_ms / 1e3
        self._cancel_grace_s = cancel_grace_s
        self._spawn = spawn
        self._on_room = on_room
        self._on_held = on_held
        self._on_stuck = on_stuck
        self._on_started = on_started
        self._waking = 1
        self._chained = False
        self.todo: deque[Lease] = deque()
        self.workers: set[Worker] = set()
        self.idle: list[Worker] = []
        self.active = 0
        self.limit = 1
        self.open = True
        # Set before the engine's end cancels all tasks; other cancelling is the handlers' own.
        self.dismissed = False

    def put(self, leases: Sequence[Lease], *, first: bool = False) -> None:
        """Queue leases; those of the strict lane go before the others."""
        if first:
            self.todo.extendleft(reversed(leases))
        else:
            self.todo.extend(leases)
        self.pump()

    def pump(self) -> None:
        """See to it that jobs are taken up, after jobs, room or permission came."""
        if not self._chained and self.open and self.todo and self.active < self.limit:
            self._chained = True
            self._waking = 1
            self._chain()

    def running(self) -> list[Worker]:
        """Workers with a handler under way; safe to call from a thread."""
        return [worker for worker in self.workers.copy() if worker.job is not None]

    def take_back(self) -> list[Lease]:
        """Empty the buffer and return what was in it."""
        leases = list(self.todo)
        self.todo.clear()
        return leases

    def _chain(self) -> None:
        count = min(self._waking, len(self.todo), self.limit - self.active)
        if not self.open or count <= 0:
            self._chained = False
            return
        for _ in range(count):
            self._wake_one()
        self._waking *= 2
        asyncio.get_running_loop().call_soon(self._chain)

    def _wake_one(self) -> None:
        self.active += 1
        while self.idle:
            worker = self.idle.pop()
            assert worker.wake is not None
            if not worker.wake.done():
                worker.wake.set_result(None)
                return
        worker = Worker()
        self.workers.add(worker)
        worker.task = self._spawn(self._work(worker))

    async def _park(self, worker: Worker) -> None:
        self.active -= 1
        worker.job = None
        worker.deadline = NEVER
        worker.wake = asyncio.get_running_loop().create_future()
        self.idle.append(worker)
        self._on_room()
        try:
            await worker.wake
        except asyncio.CancelledError:
            # The engine's end, or what a handler did to its own task just before it returned.
            self.workers.discard(worker)
            if worker in self.idle:
                self.idle.remove(worker)
            elif not worker.wake.cancelled():
                # It had been woken, and counts as active.
                self.active -= 1
            raise

    async def _work(self, worker: Worker) -> None:  # noqa: C901, PLR0912 - the hot loop, kept in one frame
        todo, settler, monotonic = self.todo, self._settler, self._clock.monotonic
        admit, batch, good_until = self._admission.admit, _NO_BATCH, 0.0
        successes: list[LiveJob] = []
        now = monotonic()
        while True:
            if not todo or not self.open or self.active > self.limit:
                await self._park(worker)
                now = monotonic()
                continue
            lease = todo.popleft()
            if lease.batch is not batch or lease.lost or now > good_until:
                batch = lease.batch
                good_until = batch.since + self._start_age_s
                successes = settler.successes(batch.lane)
                if lease.lost or now > good_until:
                    self._pass_over(lease)
                    continue
            job, payload, outcome = admit(lease)
            if outcome is not None and not self._goes_on(job, outcome):
                continue
            bound = job.bound
            worker.started = now
            worker.deadline = now + bound.timeout_s
            worker.job = job
            if bound.events:
                self._on_started(job)
            try:
                result = await bound.call(job, payload)
            except BaseException as error:
                if worker.given_up:
                    self._on_stuck(-1)
                    return
                if self.dismissed and isinstance(error, asyncio.CancelledError):
                    raise
                now = monotonic()
                self._failed(worker, job, error, now - worker.started)
            else:
                if worker.given_up:
                    self._on_stuck(-1)
                    return
                if worker.why:
                    self._uncancel(worker)
                now = monotonic()
                job.run_s = now - worker.started
                if result is not None:
                    job.result = encode_result(result)
                successes.append(job)
                if not settler.armed:
                    settler.arm()

    def _goes_on(self, job: LiveJob, outcome: was.Outcome | Ask) -> bool:
        """Settle what ends without being run; tell whether the handler is to run all the same."""
        if isinstance(outcome, Ask):
            self._gatekeeper.ask(job, outcome.question)
            return False
        if isinstance(outcome, was.Vanished) or (
            isinstance(outcome, was.HasChildren) and job.lease.deliveries > 1
        ):
            self._settler.vanished(job)
        return isinstance(self._settler.end(job, outcome), to.RunAgain)

    def _pass_over(self, lease: Lease) -> None:
        """Start nothing under a lease that is lost, or so old that it may be."""
        if lease.lost:
            self._forgo(lease)
        else:
            # The store knows whose it is; if it is ours still, the job did nothing wrong.
            self._settler.end(self._admission.stand_in(lease), was.Interrupted())

    def _forgo(self, lease: Lease) -> None:
        """Leave an entry alone that another engine holds by now."""
        lease.lost = True
        self._settler.dropped(lease.batch.lane, 1)

    def _failed(self, worker: Worker, job: LiveJob, error: BaseException, seconds: float) -> None:
        cancelled = isinstance(error, asyncio.CancelledError)
        why = worker.why
        ordered = self._admission.cancels.outcome(job, started=True)
        if why or cancelled:
            # A handler may have cancelled its own task, or left an old cancelling behind.
            self._uncancel(worker)
        if cancelled and why == "stop":
            self._settler.end(job, was.Interrupted(), seconds)
        elif cancelled and why == "timeout":
            self._settler.end(job, timed_out(job), seconds)
        elif cancelled and why == "lost":
            self._forgo(job.lease)
        elif ordered is not None:
            # Whatever it raised, there is to be no further attempt.
            self._settler.end(job, ordered, seconds)
        else:
            outcome = outcome_of(error, job)
            if isinstance(outcome, was.Held):
                self._on_held(job, str(error))
            self._settler.end(job, outcome, seconds)

    def _uncancel(self, worker: Worker) -> None:
        """Let the worker go on after its handler was cancelled (``asyncio.timeout`` counts)."""
        worker.why = ""
        assert worker.task is not None
        while worker.task.uncancel():
            pass

    def scan(self, now: float) -> None:
        """Cancel handlers beyond their limit; give up workers whose handlers ignore that."""
        for worker in list(self.workers):
            job = worker.job
            if job is None or now < worker.deadline:
                continue
            if not worker.why:
                worker.cancel("timeout", now + self._cancel_grace_s)
            else:
                self.give_up(worker, now)

    def give_up(self, worker: Worker, now: float) -> None:
        """Settle a job whose handler does not end, and put another worker in its place."""
        job = worker.job
        assert job is not None
        worker.given_up = True
        worker.job = None
        worker.deadline = NEVER
        self.workers.discard(worker)
        self.active -= 1
        self._on_stuck(1)
        ordered = self._admission.cancels.outcome(job, started=True)
        if worker.why == "lost":
            self._forgo(job.lease)
        elif worker.why == "stop":
            self._settler.end(job, was.Interrupted(), now - worker.started)
        elif ordered is not None:
            self._settler.end(job, ordered, now - worker.started)
        else:
            self._settler.end(job, timed_out(job), now - worker.started)
        self.pump()

    def begun(self, jobs: Sequence[LiveJob]) -> None:
        """Count the time of these jobs from now on: so far they waited for their batch."""
        now = self._clock.monotonic()
        waited = {id(job) for job in jobs}
        for worker in self.workers:
            job = worker.job
            if job is not None and id(job) in waited and not worker.why:
                worker.started = now
                worker.deadline = now + job.bound.timeout_s

    def interrupt(self, now: float) -> None:
        """Cancel all handlers, since the engine stops."""
        for worker in self.running():
            if not worker.why:
                worker.cancel("stop", now + self._cancel_grace_s)

    def cancel_ordered(self) -> None:
        """Cancel the handlers of jobs that an operator or a producer cancelled."""
        now = self._clock.monotonic()
        for worker in self.running() if self._admission.cancels.known else ():
            job = worker.job
            if job is not None and not worker.why and self._admission.cancels.of(job) is not None:
                worker.cancel("cancelled", now + self._cancel_grace_s)

    def lost(self, lane: str, entries: set[bytes]) -> None:
        """Drop leases that other engines hold now, and cancel what runs under them."""
        for lease in self.todo:
            if lease.entry in entries and lease.batch.lane == lane:
                lease.lost = True
        now = self._clock.monotonic()
        for worker in self.running():
            job = worker.job
            if job is not None and job.stream == lane and job.lease.entry in entries:
                job.lease.lost = True
                if not worker.why:
                    worker.cancel("lost", now + self._cancel_grace_s)
