"""What is gathered of users while jobs cannot be enqueued."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, cast
from uuid import uuid4

from engine import Client, EnqueueUnsure, NewJob
from engine.testing import ManualClock
from processors.realtime.confirming import OWN_MAX, Confirmations
from processors.realtime.counters import Counters


class Server:
    """
    Takes jobs, or not.

    Attributes:
        is_up: Whether it does.
        jobs: Those it took.
    """

    def __init__(self) -> None:
        self.is_up = False
        self.jobs: list[NewJob] = []

    async def enqueue_each(self, jobs: Iterable[NewJob]) -> AsyncIterator[Any]:
        """As of :class:`engine.Client`."""
        for job in jobs:
            if not self.is_up:
                raise EnqueueUnsure("away")
            self.jobs.append(job)
            yield None


async def test_one_user_leaves_room_for_the_others() -> None:
    server = Server()
    confirmations = Confirmations(
        cast(Client, server), ManualClock(), wait_ms=1, counters=Counters()
    )
    greedy, other = uuid4(), uuid4()
    for n in range(OWN_MAX):
        ids = [uuid4()] if n % 2 else []
        assert confirmations.add(greedy, uuid4() if not ids else None, 1, ids, is_read=True)

    assert not confirmations.add(greedy, uuid4(), 1, is_read=True)
    assert not await confirmations.flush()
    assert confirmations.waiting == OWN_MAX
    assert not confirmations.add(greedy, None, None, [uuid4()], is_read=True), "nor afterwards"
    assert confirmations.add(other, uuid4(), 1, is_read=True)
    server.is_up = True
    assert await confirmations.flush()
    assert confirmations.add(greedy, uuid4(), 1, is_read=True)
    assert len({job.payload.user_id for job in server.jobs}) == 2
