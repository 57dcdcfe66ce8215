"""Jobs that wait for their batch, and who waits for what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from engine.errors import EnqueueError, QueueFull
from engine.store.batches import Outgoing
from engine.store.pressure import Dropped

Settled = str | Dropped | EnqueueError
"""What became of a job: its entry id, dropped, or why it is not known or was not accepted."""


class Waiting(msgspec.Struct):
    """
    Jobs of one caller that travel together.

    Attributes:
        jobs: The jobs.
        size: Bytes that they add to a batch.
        deadline: Monotonic seconds after which they are tried no more.
        future: Brings what became of them, in their order.
    """

    jobs: list[Outgoing]
    size: int
    deadline: float
    future: asyncio.Future[list[Settled]]

    @property
    def may_wait(self) -> bool:
        """Whether a part may wait for room in a full queue."""
        return self.jobs[0].when_full == "wait"

    def tell(self, found: list[Settled]) -> None:
        """Say what became of the jobs."""
        if not self.future.done():
            self.future.set_result(found)

    def parts(self) -> Sequence[Waiting]:
        """One for each job, since they go different ways; the caller is told once all are there."""
        if len(self.jobs) == 1:
            return [self]
        found: list[Settled | None] = [None] * len(self.jobs)
        return [
            _Part([job], job.size, self.deadline, self.future, at, found)
            for at, job in enumerate(self.jobs)
        ]


class _Part(Waiting):
    """One job of several, with its place among what was found out about all of them."""

    at: int
    found: list[Settled | None]

    def tell(self, found: list[Settled]) -> None:
        (self.found[self.at],) = found
        told = [each for each in self.found if each is not None]
        if len(told) == len(self.found) and not self.future.done():
            self.future.set_result(told)


def fail(batch: Sequence[Waiting], error: EnqueueError) -> None:
    """Tell all of a batch the same error; each caller gets one of its own to raise."""
    for waiting in batch:
        if isinstance(error, QueueFull):
            own: EnqueueError = error.again(waited=waiting.may_wait)
        else:
            own = type(error)(*error.args)
        own.__cause__ = error.__cause__
        waiting.tell([own] * len(waiting.jobs))
