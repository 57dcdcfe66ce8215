"""A queue to write into, and an admin that looks at it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from engine.admin import Admin
from engine.store.operator import OperatorStore
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter
from tests.support.servers import NotInstalled, RedisTestServer

SERVERS = [
    pytest.param("valkey", marks=pytest.mark.servers),
    *(
        pytest.param(name, marks=[pytest.mark.servers, pytest.mark.full])
        for name in ("redis62", "redis70", "redis82")
    ),
]


@pytest.fixture(scope="session")
def older(session_directory: Path) -> Iterator[dict[str, RedisTestServer]]:
    """Give the servers besides Valkey that these tests have started so far."""
    started: dict[str, RedisTestServer] = {}
    yield started
    for server in started.values():
        server.stop()


@pytest.fixture(params=SERVERS)
def redis_url(
    request: pytest.FixtureRequest,
    session_directory: Path,
    older: dict[str, RedisTestServer],
    shared_redis: RedisTestServer,
) -> str:
    """Give an empty server of each supported kind."""
    name = request.param
    if name == "valkey":
        shared_redis.call("FLUSHALL")
        return shared_redis.url
    if name not in older:
        try:
            older[name] = RedisTestServer(session_directory / f"operator-{name}", name=name)
        except NotInstalled as reason:
            pytest.skip(str(reason))
        older[name].start()
    older[name].call("FLUSHALL")
    return older[name].url


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
