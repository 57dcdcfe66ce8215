"""A batch through real engines: from the first job to the summary, over a killed engine."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from engine import Client
from processors.app import registry
from processors.settings import from_env
from schemas.messages import CancelBatch, StartBatch
from tests.integration.processors.world import World
from tests.support.daemon import SHORT_LEASES, Daemon, Start
from tests.support.servers import RedisTestServer

pytestmark = [pytest.mark.servers, pytest.mark.timeout(200)]

RECIPIENTS = 300


@pytest.fixture
def start_engine(
    start_daemon: Start, redis_server: RedisTestServer, postgres_url: str
) -> Callable[[], Daemon]:
    def start(**more: str) -> Daemon:
        environ = {
            **SHORT_LEASES,
            "ENGINE_POSTGRES_URL": postgres_url,
            "PROCESSORS_BATCH_CHUNK": "25",
            "PROCESSORS_BATCH_LEASE_MS": "1000",
            "PROCESSORS_OUTBOX_JOBS_LEASE_MS": "1000",
            "PROCESSORS_GATEWAY_LISTEN": "",
            **more,
        }
        return start_daemon(redis_server.url, app="processors.app:build", environ=environ)

    return start


async def until(world: World, statement: str, *arguments: Any) -> Any:
    """Ask until the answer is true, and return it."""
    async with asyncio.timeout(120):
        while not (found := await world.value(statement, *arguments)):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.02)
    return found


async def begin(world: World, url: str, **more: Any) -> tuple[Any, Any, list[Any]]:
    _, (sender, *users) = await world.conversation(RECIPIENTS + 1)
    batch_id = uuid4()
    start = StartBatch(
        sender_id=sender, recipient_ids=tuple(users), content="news", batch_id=batch_id, **more
    )
    async with Client(url, registry=registry(from_env({}))) as client:
        await client.enqueue("batch-message", start)
    return batch_id, sender, users


async def received(world: World, sender: Any) -> Counter[Any]:
    return Counter(
        await world.values(
            "SELECT d.user_id FROM message_deliveries d JOIN messages m ON m.id = d.message_id "
            "WHERE m.sender_id = $1",
            sender,
        )
    )


FINISHED = "SELECT counts FROM message_batches WHERE id = $1 AND finished_at IS NOT NULL"


async def test_a_batch_goes_on_after_its_engine_was_killed(
    world: World, redis_server: RedisTestServer, start_engine: Callable[[], Daemon]
) -> None:
    """Goal: nobody without the message, nobody with two, one summary."""
    engine = start_engine()
    batch_id, sender, users = await begin(world, redis_server.url)
    await until(world, "SELECT count(*) > 20 FROM messages WHERE sender_id = $1", sender)
    engine.kill9()
    sent = await world.value("SELECT count(*) FROM messages WHERE sender_id = $1", sender)
    start_engine()

    counts = await until(world, FINISHED, batch_id)

    assert sent < RECIPIENTS, "the engine was killed on the way"
    assert (counts["sent"], counts["failed"], counts["state"]) == (RECIPIENTS, 0, "finished")
    assert await received(world, sender) == Counter(users)


async def test_a_cancelled_batch_comes_to_an_end(
    world: World, redis_server: RedisTestServer, start_engine: Callable[[], Daemon]
) -> None:
    start_engine()
    batch_id, sender, _ = await begin(world, redis_server.url, rate_per_s=50)
    await until(world, "SELECT count(*) > 20 FROM messages WHERE sender_id = $1", sender)
    async with Client(redis_server.url, registry=registry(from_env({}))) as client:
        await client.enqueue("batch-message", CancelBatch(batch_id=batch_id))

    counts = await until(world, FINISHED, batch_id)

    assert counts["state"] == "cancelled"
    assert counts["sent"] + counts["cancelled"] == RECIPIENTS
    assert 20 < counts["sent"] < RECIPIENTS
    assert (await received(world, sender)).total() == counts["sent"]
