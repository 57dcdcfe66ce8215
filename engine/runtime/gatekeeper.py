"""
Asks the store whether gated jobs may start.

Questions of one loop turn go out together. A job that may start goes back to the workers; one that
must wait has left its stream, and comes back through it when its turn has come. What is not to run
at all is settled like any other end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import msgspec

from engine.core import outcome as was
from engine.core.limits import checked_name
from engine.errors import GroupMissing, Limited, StoreError
from engine.failpoint import failpoint
from engine.runtime.jobs import LiveJob
from engine.runtime.outage import Outage
from engine.runtime.settler import Settler
from engine.store.base import Lease, Store
from engine.store.gates import Answer, Question
from engine.telemetry import QueueMeter
from schemas.job import ErrorRecord

ASK_MAX = 128
"""Questions that wait for one answer together; see :data:`engine.store.admission.CALL_MAX`."""

ID_CONFLICT = "an earlier job had this id and another payload"


class Workforce(Protocol):
    """Takes the jobs that may start."""

    def put(self, leases: Sequence[Lease], *, first: bool = False) -> None:
        """Queue leases."""


class Gated(msgspec.Struct):
    """A job that waits for its answer."""

    job: LiveJob
    question: Question


class Gatekeeper:
    """
    Asks for the jobs of one queue.

    Args:
        store: Whom to ask.
        queue: The queue.
        settler: Takes the jobs that are not to run.
        meter: Counts those that wait behind gates.
        outage: Says when to ask again after an error.
        spawn: Runs a coroutine in the engine's task group.
        line_max: Most jobs that may wait behind one key.
        id_window_ms: How long a producer's id is remembered.
        on_room: Called when jobs have left.
        on_use: Called with each question: from the first one on there are further streams.
    """

    def __init__(
        self,
        store: Store,
        queue: str,
        settler: Settler,
        *,
        meter: QueueMeter,
        outage: Outage,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        line_max: int,
        id_window_ms: int,
        on_room: Callable[[], None],
        on_use: Callable[[], None],
    ) -> None:
        self._store = store
        self._queue = queue
        self._settler = settler
        self._meter = meter
        self._outage = outage
        self._spawn = spawn
        self._line_max = line_max
        self._id_window_ms = id_window_ms
        self._where = f"asking for {queue}"
        self._todo: list[Gated] = []
        self._asked: list[Gated] = []
        self._busy = False
        self._on_room = on_room
        self._on_use = on_use
        # Set by the queue: workers take jobs from here and give them to here.
        self.workers: Workforce | None = None

    @property
    def count(self) -> int:
        """Jobs that wait for an answer."""
        return len(self._todo) + len(self._asked)

    def leases(self) -> list[Lease]:
        """Leases of jobs that wait for an answer; safe to call from a thread."""
        return [each.job.lease for each in (*self._todo, *self._asked)]

    def ask(self, job: LiveJob, question: Question) -> None:
        """Ask for a job, together with others of this loop turn."""
        self._todo.append(Gated(job, question))
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_soon(self._start)

    def take_back(self) -> list[Lease]:
        """Give up the questions that are not sent yet, since the engine stops."""
        todo, self._todo = self._todo, []
        return [each.job.lease for each in todo]

    def lost(self, lane: str, entries: set[bytes]) -> None:
        """Drop leases that other engines hold now."""
        for lease in self.leases():
            if lease.entry in entries and lease.batch.lane == lane:
                lease.lost = True

    async def limit(self, job: LiveJob, name: str, retry_after_ms: int) -> None:
        """
        Ask a named limit for a running job; see :meth:`engine.runtime.jobs.LiveJob.limit`.

        Raises:
            Limited: The job is to wait.
            ValueError: The name is none.
        """
        name = checked_name(name)
        job.lease.gated = True
        self._on_use()
        envelope = job.envelope
        question = Question(
            entry=job.lease.entry,
            deliveries=job.lease.deliveries,
            ticket=job.ticket,
            key=envelope.key if envelope else "",
            job_id=job.id,
            unique=envelope.unique if envelope else "",
        )
        tries = 0
        while True:
            try:
                word = await self._store.limit(
                    self._queue, job.stream, question, name, shut_ms=max(0, retry_after_ms)
                )
            except StoreError as error:
                tries += 1
                await self._outage.wait(error, tries, self._where)
                continue
            self._outage.over(self._where)
            if word == "open":
                return
            # A lost lease is found out by the settlement.
            self._meter.limited += 1
            raise Limited(name)

    def _start(self) -> None:
        self._spawn(self._ask_all())

    async def _ask_all(self) -> None:
        try:
            while self._todo:
                stream = self._todo[0].job.stream
                batch, self._todo = _taken(self._todo, stream)
                self._asked = batch
                answers = await self._answers(stream, batch)
                failpoint("K13")
                self._asked = []
                self._on_use()
                self._follow(stream, batch, answers)
        finally:
            self._busy = False

    async def _answers(self, stream: str, batch: Sequence[Gated]) -> list[Answer]:
        tries = 0
        while True:
            try:
                answers = await self._store.admit(
                    self._queue,
                    stream,
                    [each.question for each in batch],
                    id_window_ms=self._id_window_ms,
                    line_max=self._line_max,
                )
            except GroupMissing:
                # The stream is gone, and the jobs with it; its reader puts it in order.
                self._outage.note(StoreError("nogroup"), self._where, kind="nogroup")
                self._outage.over(self._where)
                return [Answer("lost") for _ in batch]
            except StoreError as error:
                tries += 1
                await self._outage.wait(error, tries, self._where)
            else:
                self._outage.over(self._where)
                return answers

    def _follow(self, stream: str, batch: Sequence[Gated], answers: Sequence[Answer]) -> None:
        free: list[Lease] = []
        gone = 0
        for each, answer in zip(batch, answers, strict=True):
            lease = each.job.lease
            match answer.word:
                case "run":
                    lease.admitted = True
                    free.append(lease)
                case "again":
                    free.append(lease)
                case "parked":
                    gone += 1
                    self._meter.parked += 1
                case "lost":
                    lease.lost = True
                    gone += 1
                case _:
                    self._settler.end(each.job, outcome_of_answer(answer))
        if gone:
            # They have left this engine without an end: they wait elsewhere, or are another's.
            self._settler.gave_up(stream, gone)
        if free and self.workers is not None:
            self.workers.put(free, first=True)
        self._on_room()


def _taken(todo: list[Gated], stream: str) -> tuple[list[Gated], list[Gated]]:
    """Take the first questions of a stream; returns them and the others."""
    same = 0
    while same < min(ASK_MAX, len(todo)) and todo[same].job.stream == stream:
        same += 1
    if same == len(todo) or same == ASK_MAX:
        return todo[:same], todo[same:]
    batch: list[Gated] = []
    others: list[Gated] = []
    for each in todo:
        wanted = len(batch) < ASK_MAX and each.job.stream == stream
        (batch if wanted else others).append(each)
    return batch, others


def outcome_of_answer(answer: Answer) -> was.Outcome:
    """What becomes of a job that does not run now."""
    match answer.word:
        case "duplicate" | "replaced":
            return was.Duplicate(by=answer.detail, replaced=answer.word == "replaced")
        case "conflict":
            error = ErrorRecord(kind="id-conflict", message=f"{answer.detail}: {ID_CONFLICT}")
            return was.Refused(reason="id-conflict", error=error)
        case "full":
            text = "more jobs wait behind its key than ENGINE_LINE_JOBS_MAX allows"
            return was.Refused(
                reason="line-full", error=ErrorRecord(kind="line-full", message=text)
            )
        case "wait":
            return was.Debounced(due_ms=int(answer.detail))
    raise AssertionError(f"{answer.word} does not end an attempt")
