"""One suite, several stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from engine.store.base import Store
from tests.support.rigs import QUEUE, MemoryRig, Rig, ServerRig
from tests.support.servers import NotInstalled, RedisTestServer

STORES = [
    "memory",
    pytest.param("valkey", marks=pytest.mark.servers),
    *(
        pytest.param(name, marks=[pytest.mark.servers, pytest.mark.full])
        for name in ("redis62", "redis70", "redis82")
    ),
]


@pytest.fixture(scope="session")
def servers(
    session_directory: Path, request: pytest.FixtureRequest
) -> Iterator[dict[str, RedisTestServer]]:
    """Give the servers that the suite has started so far."""
    started: dict[str, RedisTestServer] = {}
    yield started
    for server in started.values():
        server.stop()


@pytest.fixture(params=STORES)
async def rig(
    request: pytest.FixtureRequest, session_directory: Path, servers: dict[str, RedisTestServer]
) -> AsyncIterator[Rig]:
    """Give the memory store's rig, or that of an empty real server."""
    name = request.param
    if name == "memory":
        yield MemoryRig()
        return
    if name not in servers:
        try:
            servers[name] = RedisTestServer(session_directory / f"suite-{name}", name=name)
        except NotInstalled as reason:
            pytest.skip(str(reason))
        servers[name].start()
    servers[name].call("FLUSHALL")
    made = ServerRig(name, servers[name].url)
    yield made
    await made.close()


@pytest.fixture
async def store(rig: Rig) -> Store:
    """Give an open store whose consumer is called ``a``."""
    made = rig.store("a")
    await made.open(QUEUE)
    return made


@pytest.fixture
async def other(rig: Rig, store: Store) -> Store:
    """Give another engine's store, whose consumer is called ``b``."""
    made = rig.store("b")
    await made.open(QUEUE)
    return made
