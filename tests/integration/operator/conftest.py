"""A queue to write into, and an admin that looks at it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from engine.admin import Admin
from engine.store.operator import OperatorStore
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter


@pytest.fixture
def queue(redis_url: str) -> Iterator[QueueWriter]:
    """Give a queue whose lanes are open."""
    writer = QueueWriter(redis_url)
    writer.open()
    yield writer
    writer.close()


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[OperatorStore]:
    """Give the operator's side of the server."""
    store = OperatorStore(redis_url)
    yield store
    store.close()


@pytest.fixture
async def admin(redis_url: str) -> AsyncIterator[Admin]:
    """Give the operator's verbs."""
    async with Admin(redis_url, who="ada@here", types={QUEUE: [TYPE]}) as admin:
        yield admin
