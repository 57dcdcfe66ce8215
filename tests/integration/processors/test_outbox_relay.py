"""The outbox relay between a real PostgreSQL and a real Valkey, both of which may go away."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import orjson
import pytest
import redis.asyncio

from processors.database import outbox
from processors.database.migrations import migrate
from processors.database.pool import Database, open_database
from processors.services.redis_link import connect
from processors.services.relay import OutboxRelay
from processors.settings import from_env
from tests.integration.processors.world import World
from tests.support.servers import PostgresTestServer, RedisTestServer

pytestmark = pytest.mark.servers


class Listener:
    """Hears every event on one channel."""

    def __init__(self, client: redis.asyncio.Redis, channel: str, *, sharded: bool) -> None:
        self._pubsub = client.pubsub()
        self._channel = channel
        self._sharded = sharded

    async def open(self) -> None:
        """Subscribe, and wait until the server says so."""
        if self._sharded:
            await self._pubsub.ssubscribe(self._channel)
        else:
            await self._pubsub.subscribe(self._channel)
        assert (await self._next())["type"].endswith("subscribe")

    async def hear(self) -> tuple[str, dict[str, Any]]:
        """Wait for the next event: its channel and content."""
        found = await self._next()
        return found["channel"].decode(), orjson.loads(found["data"])

    async def close(self) -> None:
        await self._pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _next(self) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while True:
                found = await self._pubsub.get_message(timeout=30)
                if found is not None:
                    return dict(found)


@contextlib.asynccontextmanager
async def listening(
    url: str, channel: str = "user:{u}", *, sharded: bool = True
) -> AsyncIterator[Listener]:
    async with connect(url) as client:
        listener = Listener(client, channel, sharded=sharded)
        await listener.open()
        yield listener
        await listener.close()


@contextlib.asynccontextmanager
async def running(*relays: OutboxRelay) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(relay.run()) for relay in relays]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


def relay_of(world: World, client: redis.asyncio.Redis, **variables: str) -> OutboxRelay:
    settings = from_env({f"PROCESSORS_{name}": value for name, value in variables.items()})
    return OutboxRelay(world.database, client, settings, draw=lambda: 0.0)


async def put(world: World, key: str, count: int, *, start: int = 0) -> None:
    async with world.database.transaction() as connection:
        for number in range(start, start + count):
            await outbox.insert(connection, "user", key, {"n": number})


class Deletions:
    """Signals when events were deleted, which is when they are done with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ids: list[int] = []
        self._changed = asyncio.Condition()
        self._delete = outbox.delete
        monkeypatch.setattr(outbox, "delete", self._deleting)

    async def reach(self, count: int) -> None:
        """Wait until that many events were deleted, each once."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: len(self._ids) >= count)
        assert len(set(self._ids)) == len(self._ids) == count

    async def _deleting(self, database: Database, ids: Sequence[int]) -> None:
        await self._delete(database, ids)
        async with self._changed:
            self._ids.extend(ids)
            self._changed.notify_all()


@pytest.fixture
def deletions(monkeypatch: pytest.MonkeyPatch) -> Deletions:
    return Deletions(monkeypatch)


async def test_committed_message_is_heard_without_waiting_for_the_poll(
    world: World, redis_url: str
) -> None:
    """Goal: the bell, not the poll of one hour, gets the event out."""
    conversation_id, (ada, _) = await world.conversation(2)
    channel = f"conv:{{{conversation_id}}}"
    async with connect(redis_url) as client, listening(redis_url, channel) as listener:
        relay = relay_of(world, client, OUTBOX_POLL_MS="3600000")
        world.listeners.append(relay.wake)
        async with running(relay):
            for seq in (1, 2):
                sent = await world.send(conversation_id, ada)
                heard_on, event = await listener.hear()
                assert heard_on == channel
                assert (event["type"], event["seq"]) == ("message.created", seq)
                assert UUID(event["messageId"]) == sent.message_id


async def test_three_relays_publish_each_event_once(
    world: World, redis_url: str, deletions: Deletions
) -> None:
    await put(world, "u", 600)
    async with listening(redis_url) as listener, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(redis_url)) for _ in range(3)]
        relays = [relay_of(world, client, OUTBOX_BATCH_MAX="20") for client in clients]
        await stack.enter_async_context(running(*relays))

        heard = Counter([(await listener.hear())[1]["n"] for _ in range(600)])
        await deletions.reach(600)

    assert heard == Counter(range(600))


async def test_row_that_commits_late_is_published_too(world: World, redis_url: str) -> None:
    """Goal: a lower id that commits after a higher one is not passed over."""
    async with connect(redis_url) as client, listening(redis_url) as listener:
        relay = relay_of(world, client)
        async with world.database.connection() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await outbox.insert(connection, "user", "u", {"n": "early id"})
            await put(world, "u", 1)
            assert await relay.publish_batch() == 1
            await transaction.commit()
        assert await relay.publish_batch() == 1
        assert [(await listener.hear())[1]["n"] for _ in range(2)] == [0, "early id"]


async def test_claim_that_ran_out_is_anyones_again(world: World, redis_url: str) -> None:
    await put(world, "u", 2)
    assert len(await outbox.claim(world.database, events_max=9, claim_ms=60_000)) == 2
    async with connect(redis_url) as client:
        relay = relay_of(world, client)
        assert await relay.publish_batch() == 0
        await world.database.execute("UPDATE outbox SET claimed_until = now()")
        assert await relay.publish_batch() == 2
    assert await world.value("SELECT count(*) FROM outbox") == 0


async def test_topics_of_others_are_left_alone(world: World, redis_url: str) -> None:
    await world.database.execute(
        "INSERT INTO outbox (topic, key, payload) VALUES ('job', 'q', '{}')"
    )
    async with connect(redis_url) as client:
        assert await relay_of(world, client).publish_batch() == 0
    assert await world.value("SELECT claimed_until IS NULL FROM outbox")


async def test_relay_outlives_redis(
    world: World, redis_server: RedisTestServer, deletions: Deletions
) -> None:
    """Goal: events committed while Redis is gone are published once it is back."""
    await put(world, "u", 250)
    redis_server.kill9()
    async with connect(redis_server.url) as client:
        relay = relay_of(world, client)
        with pytest.raises(redis.ConnectionError):
            await relay.publish_batch()
        # Given back at once, not when the claim ends.
        assert await world.value("SELECT count(*) FROM outbox WHERE claimed_until IS NULL") == 250
        async with running(relay):
            redis_server.start()
            await deletions.reach(250)


async def test_relay_outlives_postgresql(
    postgres_server: PostgresTestServer, redis_url: str
) -> None:
    """Goal: after a crash of PostgreSQL the same relay, pool and services go on."""
    url = postgres_server.url
    await migrate(url)
    database = await open_database(url, from_env({"PROCESSORS_POOL_WAIT_MS": "1000"}))
    world = World(database, from_env({}))
    conversation_id, (ada, _) = await world.conversation(2)
    channel = f"conv:{{{conversation_id}}}"
    async with connect(redis_url) as client, listening(redis_url, channel) as listener:
        relay = relay_of(world, client, OUTBOX_POLL_MS="20")
        async with running(relay):
            await world.send(conversation_id, ada)
            assert (await listener.hear())[1]["seq"] == 1
            await asyncio.to_thread(postgres_server.kill9)
            await asyncio.to_thread(postgres_server.start)
            await world.send(conversation_id, ada)
            assert (await listener.hear())[1]["seq"] == 2
    await database.close()
