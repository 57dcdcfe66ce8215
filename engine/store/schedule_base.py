"""Changes of schedules, and the part of :class:`engine.store.base.Store` that applies them."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec


class ScheduleChange(msgspec.Struct, frozen=True, kw_only=True):
    """
    What is to become of one schedule, if it is still as it was seen.

    Attributes:
        name: The schedule.
        before: Its record as it was seen; None for none.
        after: Its record from now on; None to take it away.
        lane: The lane of its jobs.
        jobs: Stream fields of the jobs that are added with it.
        due_ms: Unix ms by the server's clock before which nothing is done; 0 for none.
    """

    name: bytes
    before: bytes | None
    after: bytes | None
    lane: str = "normal"
    jobs: list[list[bytes]] = []
    due_ms: int = 0


class ScheduleAnswer(msgspec.Struct, frozen=True):
    """
    What became of a :class:`ScheduleChange`.

    Attributes:
        outcome: ``done``; ``early`` before the due time, or ``changed`` where the record was not
            the one seen: then nothing was done.
        left_ms: The ms until the due time, by the server's clock.
        record: The record that is there; None for none.
    """

    outcome: Literal["done", "early", "changed"]
    left_ms: int = 0
    record: bytes | None = None


class ScheduleStore(Protocol):
    """What an engine asks of the schedules of its queues."""

    async def schedules(self, queue: str) -> dict[bytes, bytes]:
        """Read the records of a queue's schedules, by name; whatever stands there."""

    async def schedule(self, queue: str, change: ScheduleChange) -> ScheduleAnswer:
        """Change one schedule and add the jobs that come with it, together or not at all."""
