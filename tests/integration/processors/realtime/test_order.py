"""Each message once, in order, whatever happens to its event."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import UUID

import pytest
import redis.asyncio

from processors.database import outbox
from processors.realtime import feed
from processors.services.pubsub import Publisher
from processors.services.redis_link import connect
from tests.integration.processors.realtime.rig import Chat, Rig, until
from tests.integration.processors.world import World
from tests.support.proxy import FaultProxy
from tests.support.servers import RedisTestServer, StartRedis

pytestmark = pytest.mark.servers

HOUR = "3600000"


@contextlib.asynccontextmanager
async def rig_over(world: World, url: str) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield Rig(world, url, stack)


async def committed(
    rig: Rig, conversation_id: UUID, sender: UUID, count: int
) -> list[outbox.Event]:
    """Send messages, and take their events out of the outbox, unpublished."""
    for _ in range(count):
        await rig.world.send(conversation_id, sender)
    events = await outbox.claim(rig.world.database, events_max=1_000, claim_ms=60_000)
    await outbox.delete(rig.world.database, [event.id for event in events])
    return [event for event in events if event.channel.startswith("conv:")]


async def publish(client: redis.asyncio.Redis, *events: outbox.Event) -> None:
    await Publisher(client).publish([(event.channel, event.payload) for event in events])


async def test_messages_that_overtook_others_wait_for_them(rig: Rig) -> None:
    """Goal: order without a look into the database, where events are merely shuffled."""
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    gateway = await rig.gateway(GATEWAY_REORDER_MS=HOUR)
    chat = await rig.chat(gateway, bob)
    await chat.follow(conversation_id)
    events = await committed(rig, conversation_id, ada, 5)
    async with connect(rig.redis_url) as client:
        await publish(client, *(events[number] for number in (2, 4, 0, 1, 0, 3, 2, 4)))
        assert await chat.seqs(5) == [1, 2, 3, 4, 5]
    assert await chat.settled() == []
    assert gateway.gateway.counters.filled == 0
    assert gateway.gateway.counters.repeated == 3


async def test_messages_whose_events_were_lost_are_read(rig: Rig) -> None:
    conversation_id, (ada, bob, cleo) = await rig.world.conversation(3)
    gateway = await rig.gateway(GATEWAY_REORDER_MS="1")
    chats = [await rig.chat(gateway, user) for user in (bob, cleo)]
    for chat in chats:
        await chat.follow(conversation_id)
    events = await committed(rig, conversation_id, ada, 500)
    async with connect(rig.redis_url) as client:
        await publish(client, events[0], events[9], events[499])
        for chat in chats:
            assert await chat.seqs(500) == list(range(1, 501))
        (more,) = await committed(rig, conversation_id, ada, 1)
        await publish(client, more)
        for chat in chats:
            assert await chat.seqs(501) == [501]
    assert gateway.gateway.counters.filled == 497, "once for all who follow here"


async def test_read_messages_look_like_events(rig: Rig) -> None:
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    gateway = await rig.gateway(GATEWAY_REORDER_MS="1")
    chat = await rig.chat(gateway, bob)
    await chat.follow(conversation_id)
    events = await committed(rig, conversation_id, ada, 2)
    async with connect(rig.redis_url) as client:
        await publish(client, events[1])
        read, heard = await chat.next(), await chat.next()
    assert read.keys() == heard.keys()
    differing = {name for name in read if read[name] != heard[name]}
    assert differing == {"messageId", "seq", "clientMessageId", "sentAt"}


async def test_a_gap_that_is_too_long_is_left_to_the_clients(rig: Rig) -> None:
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    gateway = await rig.gateway(GATEWAY_REORDER_MS="1", GATEWAY_RESUME_MAX="10")
    chat = await rig.chat(gateway, bob)
    await chat.follow(conversation_id)
    events = await committed(rig, conversation_id, ada, 30)
    async with connect(rig.redis_url) as client:
        await publish(client, events[29])
        assert await chat.next() == {
            "type": "resync", "conversationId": str(conversation_id), "seq": 30,
        }  # fmt: skip
        (more,) = await committed(rig, conversation_id, ada, 1)
        await publish(client, more)
    assert (await chat.next())["seq"] == 31


async def test_places_that_were_emptied_are_not_waited_for(rig: Rig) -> None:
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    gateway = await rig.gateway(GATEWAY_REORDER_MS="1")
    chat = await rig.chat(gateway, bob)
    await chat.follow(conversation_id)
    events = await committed(rig, conversation_id, ada, 5)
    await rig.world.database.execute("DELETE FROM messages WHERE seq IN (2, 3)")
    async with connect(rig.redis_url) as client:
        await publish(client, events[0], events[4])
        assert await chat.seqs(5) == [1, 4, 5]


async def test_nothing_is_lost_over_deaths_of_redis(
    world: World, redis_server: RedisTestServer
) -> None:
    """Goal: concurrent sends, two relays, kill -9 of Redis: each socket has 1, 2, 3 … once."""
    async with rig_over(world, redis_server.url) as rig:
        conversation_id, people = await world.conversation(5)
        for _ in range(2):
            await rig.relay()
        gateways = [await rig.gateway() for _ in range(2)]
        chats = [await rig.chat(gateways[n % 2], user) for n, user in enumerate(people)]
        for chat in chats:
            await chat.follow(conversation_id)
        readers = [asyncio.create_task(chat.seqs(120)) for chat in chats]

        async def write(user: UUID, count: int) -> None:
            for _ in range(count):
                await world.send(conversation_id, user)

        await asyncio.gather(*(write(user, 8) for user in people))
        for _ in range(2):
            await asyncio.gather(
                *(write(user, 8) for user in people),
                asyncio.to_thread(redis_server.restart, kill=True),
            )

        for reader in readers:
            assert await reader == list(range(1, 121))
        for chat in chats:
            await chat.tell("ping")
            await chat.next("pong")
            assert any(frame["type"] == "resync" for frame in chat.frames)
        assert all(gateway.hub.feed.losses for gateway in gateways)


async def test_after_redis_was_lost_clients_are_told_and_served(
    world: World, redis_server: RedisTestServer
) -> None:
    async with rig_over(world, redis_server.url) as rig:
        conversation_id, (ada, bob) = await world.conversation(2)
        gateway = await rig.gateway()
        chat = await rig.chat(gateway, bob)
        await chat.follow(conversation_id)
        redis_server.kill9()
        await until(lambda: not gateway.hub.feed.is_up, "the loss is noticed")
        await committed(rig, conversation_id, ada, 3)  # events that nobody hears
        other, _ = await world.conversation(1)
        await world.conversations.add_member(other, bob)
        await chat.tell("subscribe", conversationId=other)
        await asyncio.to_thread(redis_server.start)
        frames = [await chat.next() for _ in range(5)]
        kinds = [frame["type"] for frame in frames]
        assert [frame["seq"] for frame in frames if frame["type"] == "message.created"] == [1, 2, 3]
        assert {"type": "resync"} in frames
        assert "subscribed" in kinds, "what was asked for meanwhile is done, too"


async def test_a_silent_connection_is_given_up(
    world: World, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: a half-open connection to Redis does not look like a quiet one."""
    monkeypatch.setattr(feed, "TICK_S", 0.05)
    monkeypatch.setattr(feed, "SILENT_S_MAX", 0.5)
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    async with FaultProxy(port) as proxy, rig_over(world, proxy.url(redis_url)) as rig:
        conversation_id, (ada, bob) = await world.conversation(2)
        gateway = await rig.gateway()
        chat = await rig.chat(gateway, bob)
        await chat.follow(conversation_id)
        events = await committed(rig, conversation_id, ada, 1)
        proxy.to_client.blackhole()
        async with connect(redis_url) as client:
            await publish(client, *events)
        await until(lambda: gateway.hub.feed.losses, "the silence is noticed")
        proxy.reset_all()
        await proxy.heal()
        assert await chat.seqs(1) == [1]
        assert {"type": "resync"} in chat.frames


@pytest.mark.parametrize("server", ["valkey", "redis82", "redis70", "redis62"])
async def test_every_server_carries_events(
    world: World, start_redis: StartRedis, server: str
) -> None:
    """Goal: relay and gateway meet, over plain pub/sub as over the sharded one."""
    async with rig_over(world, start_redis(name=server).url) as rig:
        conversation_id, (ada, bob) = await world.conversation(2)
        await rig.relay()
        chat = await rig.chat(await rig.gateway(), bob)
        await chat.follow(conversation_id)
        await world.send(conversation_id, ada)
        assert await chat.seqs(1) == [1]


async def test_a_setting_decides_for_relay_and_gateway(
    world: World, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig_over(world, redis_url) as rig, connect(redis_url) as client:
        conversation_id, (ada, bob) = await world.conversation(2)
        chat = await rig.chat(await rig.gateway(PUBSUB="plain"), bob)
        await chat.follow(conversation_id)
        events = await committed(rig, conversation_id, ada, 1)
        await Publisher(client, "plain").publish([(each.channel, each.payload) for each in events])
        assert await chat.seqs(1) == [1]


async def test_a_client_moves_to_another_gateway_where_it_was(rig: Rig) -> None:
    """Goal: a gateway stops amid sends; clients resume elsewhere and miss nothing."""
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    await rig.relay()
    first, second = await rig.gateway(), await rig.gateway()
    chat = await rig.chat(first, bob)
    await chat.follow(conversation_id)
    for _ in range(10):
        await rig.world.send(conversation_id, ada)
    told = await chat.seqs(10)
    writing = asyncio.gather(*(rig.world.send(conversation_id, ada) for _ in range(40)))
    await first.stop()
    told += await rest(chat)
    await writing
    moved = await rig.chat(second, bob)
    await moved.tell("resume", conversations={str(conversation_id): max(told)})
    assert told + await moved.seqs(50) == list(range(1, 51))


async def rest(chat: Chat) -> list[int]:
    assert (await chat.end())[0] == 1012
    return [frame["seq"] for frame in chat.frames if frame["type"] == "message.created"]
