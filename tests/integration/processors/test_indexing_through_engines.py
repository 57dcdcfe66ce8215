"""Indexing through real engines: what is sent is found, and a run outlives a killed engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from engine import Client
from processors.app import registry
from processors.settings import from_env
from schemas.messages import Reindex, SendMessage
from tests.integration.processors.searching import searching
from tests.integration.processors.world import World
from tests.support.daemon import SHORT_LEASES, Daemon, Start
from tests.support.servers import RedisTestServer

pytestmark = [pytest.mark.servers, pytest.mark.timeout(200)]

MESSAGES = 60


@pytest.fixture
def start_engine(
    start_daemon: Start, redis_server: RedisTestServer, postgres_url: str
) -> Callable[[], Daemon]:
    def start() -> Daemon:
        environ = {
            **SHORT_LEASES,
            "ENGINE_POSTGRES_URL": postgres_url,
            "PROCESSORS_SEARCH_CHUNK_MESSAGES": "3",
            "PROCESSORS_OUTBOX_JOBS_LEASE_MS": "1000",
            "PROCESSORS_GATEWAY_LISTEN": "",
        }
        return start_daemon(redis_server.url, app="processors.app:build", environ=environ)

    return start


async def until(world: World, statement: str, *arguments: Any) -> None:
    async with asyncio.timeout(120):
        while not await world.value(statement, *arguments):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.02)


INDEXED = "SELECT count(*) = $1 FROM message_search"


async def test_what_is_sent_is_found(
    world: World, redis_server: RedisTestServer, start_engine: Callable[[], Daemon]
) -> None:
    conversation, (ada, bob) = await world.conversation(2)
    engine = start_engine()
    async with Client(redis_server.url, registry=registry(from_env({}))) as client:
        for number in range(MESSAGES):
            message = SendMessage(
                conversation_id=conversation,
                sender_id=ada,
                content=f"horse {number}",
                client_message_id=str(uuid4()),
            )
            await client.enqueue("send-message", message)

    await until(world, INDEXED, MESSAGES)

    async with searching(world) as search:
        pages = await search.pages(bob, "horses", limit=50, order="newest")
    assert [len(page) for page in pages] == [50, MESSAGES - 50]
    assert engine.stop() == 0


async def test_a_reindex_goes_on_after_its_engine_was_killed(
    world: World, redis_server: RedisTestServer, start_engine: Callable[[], Daemon]
) -> None:
    conversation, (ada, _) = await world.conversation(2)
    for number in range(MESSAGES):
        await world.send(conversation, ada, content=f"horse {number}")
    await world.database.execute("DELETE FROM outbox")
    engine = start_engine()
    async with Client(redis_server.url, registry=registry(from_env({}))) as client:
        await client.enqueue("indexing", Reindex(), id="again")
    await until(world, "SELECT count(*) > 5 FROM message_search")
    engine.kill9()
    left = MESSAGES - await world.value("SELECT count(*) FROM message_search")
    start_engine()

    last = "SELECT result->>'messages' FROM job_inbox WHERE result->>'nextJobId' IS NULL"
    await until(world, last)

    assert left > 0, "the engine was killed on the way"
    assert await world.value(last) == str(MESSAGES)
    assert await world.value(INDEXED, MESSAGES)
    # One job per chunk, and a last one that finds nothing more.
    assert await world.value("SELECT count(*) FROM job_inbox") == MESSAGES // 3 + 1
