"""What clients ask for: sending, confirming, typing, being active."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
import redis.asyncio

from processors.app import registry
from processors.realtime.backing import QUEUES
from processors.services.protocols import Present
from processors.services.redis_link import connect
from processors.settings import from_env
from tests.integration.processors.realtime.rig import Rig, RunningGateway, until
from tests.support.servers import RedisTestServer

pytestmark = pytest.mark.servers


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with connect(redis_url) as opened:
        yield opened


async def jobs(client: redis.asyncio.Redis) -> list[tuple[str, dict[str, Any]]]:
    """Return the jobs of the queue: their types and payloads."""
    entries = await client.xrange("mq:{message-delivery}:normal")
    return [(fields[b"type"].decode(), orjson.loads(fields[b"data"])) for _, fields in entries]


async def enqueued(client: redis.asyncio.Redis, count: int) -> list[dict[str, Any]]:
    """Wait for that many jobs; returns their payloads."""
    found: list[tuple[str, dict[str, Any]]] = []
    while len(found) < count:
        found = await jobs(client)
    return [payload for _, payload in found]


def test_jobs_go_where_engines_look_for_them() -> None:
    types = registry(from_env({})).types
    assert {name: types[name].queue for name in QUEUES} == QUEUES


async def test_a_message_becomes_a_job_of_its_user(rig: Rig, client: redis.asyncio.Redis) -> None:
    conversation_id, (ada, _) = await rig.world.conversation(2)
    chat = await rig.chat(await rig.gateway(), ada)
    message = {
        "conversationId": str(conversation_id), "content": "hi", "clientMessageId": "c-1",
        "kind": "markdown",
    }  # fmt: skip
    await chat.tell("send", id="7", message=message)
    answer = await chat.next()
    ((job_type, payload),) = await jobs(client)
    assert (answer["type"], answer["id"], answer["clientMessageId"]) == ("accepted", "7", "c-1")
    assert answer["jobId"]
    assert job_type == "send-message"
    sent = {name: value for name, value in payload.items() if value}
    assert sent == {**message, "senderId": str(ada)}


async def test_nobody_writes_in_another_s_name(rig: Rig, client: redis.asyncio.Redis) -> None:
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    chat = await rig.chat(await rig.gateway(), ada)
    good = {"conversationId": str(conversation_id), "content": "hi", "clientMessageId": "c"}
    for change in (
        {"senderId": str(bob)},
        {"sender_id": str(bob)},
        {"content": ""},
        {"content": "x" * 16_385},
        {"clientMessageId": ""},
        {"conversationId": "x"},
        {"more": 1},
    ):
        await chat.tell("send", id="7", message={**good, **change})
        answer = await chat.next()
        assert (answer["code"], answer["id"]) == ("bad-message", "7"), change
    assert await jobs(client) == []


async def test_confirmations_of_a_while_are_one_job(rig: Rig, client: redis.asyncio.Redis) -> None:
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    gateway = await rig.gateway(GATEWAY_CONFIRM_MS="3600000")
    chat, other = await rig.chat(gateway, ada), await rig.chat(gateway, bob)
    for seq in (1, 5, 3):
        await chat.tell("ack", conversationId=conversation_id, seq=seq)
    for seq in (2, 4):
        await chat.tell("read", conversationId=conversation_id, seq=seq)
    first, second, third = uuid4(), uuid4(), uuid4()
    await chat.tell("read", messageIds=[first])
    await chat.tell("ack", messageIds=[first, second])
    await chat.settled()
    await other.tell("ack", conversationId=conversation_id, seq=9, messageIds=[third])
    await other.settled()
    assert await jobs(client) == []
    await gateway.stop()  # which waits for nothing

    payloads = await enqueued(client, 3)
    for receipt in (receipt for payload in payloads for receipt in payload["receipts"]):
        del receipt["at"]

    told = [{name: value for name, value in each.items() if value} for each in payloads]
    assert sorted(told, key=repr) == sorted(
        [
            {
                "userId": str(ada), "conversationId": str(conversation_id),
                "deliveredUpToSeq": 5, "readUpToSeq": 4,
            },
            {
                "userId": str(bob), "conversationId": str(conversation_id),
                "deliveredUpToSeq": 9,
            },
            {
                "userId": str(ada),
                "receipts": [
                    {"messageId": str(first), "state": "read", "userId": None},
                    {"messageId": str(second), "state": "delivered", "userId": None},
                    {"messageId": str(third), "state": "delivered", "userId": str(bob)},
                ],
            },
        ],
        key=repr,
    )  # fmt: skip
    assert gateway.gateway.counters.confirmed == 3


async def test_only_members_confirm(rig: Rig, client: redis.asyncio.Redis) -> None:
    """Goal: nobody makes jobs that can only end dead."""
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    other, _ = await rig.world.conversation(1)
    await rig.world.conversations.remove_member(conversation_id, bob)
    gateway = await rig.gateway(GATEWAY_CONFIRM_MS="3600000")
    stranger, member = await rig.chat(gateway, bob), await rig.chat(gateway, ada)
    for kind in ("ack", "read"):
        for where, code in (
            (conversation_id, "left"), (other, "not-a-member"), (uuid4(), "not-a-member"),
        ):  # fmt: skip
            await stranger.tell(kind, id="c", conversationId=where, seq=1)
            answer = await stranger.next()
            assert (answer["code"], answer["id"]) == (code, "c")
    await member.follow(conversation_id)
    await member.tell("ack", conversationId=conversation_id, seq=1)
    await member.settled()
    await gateway.stop()

    (payload,) = await enqueued(client, 1)
    assert payload["userId"] == str(ada)


async def test_confirmations_outlive_an_outage_of_redis(
    rig: Rig, redis_server: RedisTestServer
) -> None:
    rig.redis_url = redis_server.url
    conversation_id, (ada, _) = await rig.world.conversation(2)
    gateway = await rig.gateway(GATEWAY_CONFIRM_MS="1")
    chat = await rig.chat(gateway, ada)
    redis_server.kill9()
    await chat.tell("read", conversationId=conversation_id, seq=7)
    await chat.tell("ping")
    await chat.next("pong")
    redis_server.start()
    async with connect(redis_server.url) as client:
        (payload,) = await enqueued(client, 1)
    assert payload["readUpToSeq"] == 7


async def test_typing_is_passed_on_and_kept_apart(rig: Rig) -> None:
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    writer = await rig.chat(await rig.gateway(), ada)
    reader = await rig.chat(await rig.gateway(), bob)
    await writer.tell("typing", id="t", conversationId=conversation_id)
    assert (await writer.next())["code"] == "not-subscribed"
    for chat in (writer, reader):
        await chat.follow(conversation_id)
    for _ in range(5):
        await writer.tell("typing", conversationId=conversation_id)
    assert await reader.next() == {
        "type": "typing.started", "conversationId": str(conversation_id), "userId": str(ada),
    }  # fmt: skip
    await writer.settled()
    assert await reader.settled() == [], "at most one a second"
    assert await rig.world.value("SELECT count(*) FROM outbox") == 0


async def look(gateway: RunningGateway, user_id: UUID, talk: UUID | None = None) -> Present | None:
    return (await gateway.backing.presence.look([user_id], talk)).get(user_id)


async def test_presence_follows_the_sockets(rig: Rig) -> None:
    conversation_id, (ada, _) = await rig.world.conversation(2)
    gateway = await rig.gateway()
    assert await look(gateway, ada) is None
    one, two = await rig.chat(gateway, ada), await rig.chat(gateway, ada)
    while await look(gateway, ada) is None:
        pass
    await one.tell("active", id="a", conversationId=conversation_id)
    assert (await one.next())["code"] == "not-subscribed"
    await one.follow(conversation_id)
    await one.tell("active", conversationId=conversation_id)
    while not (await look(gateway, ada, conversation_id) or Present()).is_active:
        pass
    assert await look(gateway, ada, uuid4()) == Present(is_online=True)
    await one.ws.close()
    while (await look(gateway, ada, conversation_id) or Present()).is_active:
        pass
    assert await look(gateway, ada) == Present(is_online=True)
    await two.ws.close()
    while await look(gateway, ada) is not None:
        pass


async def test_leaving_a_conversation_ends_its_being_in_front(rig: Rig) -> None:
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    await rig.relay()
    gateway = await rig.gateway()
    for user, ends in ((ada, "unsubscribe"), (bob, "removal")):
        chat = await rig.chat(gateway, user)
        await chat.follow(conversation_id)
        await chat.tell("active", conversationId=conversation_id)
        while not (await look(gateway, user, conversation_id) or Present()).is_active:
            pass
        if ends == "unsubscribe":
            await chat.tell("unsubscribe", conversationId=conversation_id)
        else:
            await rig.world.conversations.remove_member(conversation_id, user)
        await chat.next("unsubscribed")
        while (await look(gateway, user, conversation_id) or Present()).is_active:
            pass


async def test_presence_is_said_again_after_redis_lost_it(
    rig: Rig, redis_server: RedisTestServer
) -> None:
    rig.redis_url = redis_server.url
    gateway, ada = await rig.gateway(), await rig.world.user()
    await rig.chat(gateway, ada)
    while await look(gateway, ada) is None:
        pass
    redis_server.call("FLUSHALL")
    redis_server.restart(kill=True)
    while await look(gateway, ada) is None:
        pass


async def test_presence_is_kept_alive(rig: Rig, client: redis.asyncio.Redis) -> None:
    gateway, ada = await rig.gateway(GATEWAY_PRESENCE_MS="1000"), await rig.world.user()
    await rig.chat(gateway, ada)
    while await look(gateway, ada) is None:
        pass
    ((_, first),) = await client.zrange(f"gateway:here:{ada}", 0, -1, withscores=True)
    later = first
    while later <= first + 1_000:  # longer than it would have held
        ((_, later),) = await client.zrange(f"gateway:here:{ada}", 0, -1, withscores=True)
    assert await look(gateway, ada)


async def test_user_events_reach_all_sockets_of_the_user(rig: Rig) -> None:
    ada, bob = await rig.world.user(), await rig.world.user()
    gateways = [await rig.gateway() for _ in range(2)]
    chats = [await rig.chat(gateway, ada) for gateway in gateways]
    other = await rig.chat(gateways[0], bob)
    await gateways[0].backing.websockets.to_users([ada], {"type": "notification.created"})
    for chat in chats:
        assert await chat.next() == {"type": "notification.created"}
    assert await other.settled() == []


async def test_a_second_ticket_is_not_taken(rig: Rig) -> None:
    ada = await rig.world.user()
    chat = await rig.chat(await rig.gateway(), ada)
    await chat.tell("auth", id="1", ticket=await rig.ticket(ada))
    assert (await chat.next())["code"] == "already-authenticated"
    await chat.tell("ping", id="p")
    pong = await chat.next()
    assert (pong["type"], pong["id"]) == ("pong", "p")
    assert pong["serverMs"] >= chat.hello["serverMs"]


async def test_troubles_are_told_without_their_inside(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation_id, (ada, _) = await rig.world.conversation(2)
    gateway = await rig.gateway()
    chat = await rig.chat(gateway, ada)

    async def fails(*_: object, **__: object) -> None:
        raise OSError("secret inside")

    monkeypatch.setattr(gateway.backing.sync, "last_seqs", fails)
    answer = await chat.follow(conversation_id)
    assert (answer["code"], answer["detail"]) == ("unavailable", "try again later")
    monkeypatch.undo()
    assert (await chat.follow(conversation_id))["type"] == "subscribed"
    await until(lambda: len(gateway.hub.channels) == 1, "one channel")


async def test_without_redis_nobody_comes_in(rig: Rig, redis_server: RedisTestServer) -> None:
    rig.redis_url = redis_server.url
    gateway = await rig.gateway()
    chat = await rig.dial(gateway.url)
    redis_server.kill9()
    await chat.tell("auth", ticket="x" * 43)
    assert await chat.end() == (1013, "unavailable")
