"""A client that does not read is let go, and nobody else waits for it."""

from __future__ import annotations

import socket
from pathlib import Path
from uuid import UUID

import psutil
import pytest
import redis.asyncio

from processors.services.pubsub import Publisher
from processors.services.redis_link import connect
from tests.integration.processors.realtime.processes import gateway_process
from tests.integration.processors.realtime.rig import Chat, Rig, until

pytestmark = pytest.mark.servers

BIG = "x" * 16_000


def narrow_socket(url: str) -> socket.socket:
    """Connect with a small buffer, so that not reading is felt soon."""
    host, _, port = url.removeprefix("ws://").removesuffix("/ws").rpartition(":")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    sock.connect((host, int(port)))
    sock.setblocking(False)
    return sock


async def flood(client: redis.asyncio.Redis, conversation_id: UUID, start: int, count: int) -> None:
    """Publish events whose text is long."""
    channel = f"conv:{{{conversation_id}}}"
    events = [
        (channel, f'{{"type": "some.thing", "n": {n}, "content": "{BIG}"}}')
        for n in range(start, start + count)
    ]
    await Publisher(client).publish(events)


def connected_ports() -> set[int]:
    """Return the other ends of this process' open connections."""
    found = psutil.Process().net_connections("tcp")
    return {each.raddr.port for each in found if each.status == "ESTABLISHED" and each.raddr}


async def read_all(chat: Chat, count: int) -> list[int]:
    return [(await chat.next("some.thing"))["n"] for _ in range(count)]


async def test_a_slow_client_is_closed_while_others_go_on(rig: Rig) -> None:
    """Goal: its queue never holds more than it may, and the others get all of it."""
    conversation_id, (ada, bob, cleo) = await rig.world.conversation(3)
    gateway = await rig.gateway(GATEWAY_QUEUE_MAX="64")
    slow = await rig.chat(gateway, ada, sock=narrow_socket(gateway.url), max_queue=1)
    others = [await rig.chat(gateway, user) for user in (bob, cleo)]
    for chat in (slow, *others):
        await chat.follow(conversation_id)
    (held,) = gateway.hub.users[ada]
    longest = 0
    async with connect(rig.redis_url) as client:
        for part in range(60):
            await flood(client, conversation_id, part * 20, 20)
            for chat in others:
                assert await read_all(chat, 20) == list(range(part * 20, part * 20 + 20))
            longest = max(longest, held.waiting)
    await until(lambda: ada not in gateway.hub.users, "the slow socket is gone")
    port = slow.ws.local_address[1]
    await until(lambda: port not in connected_ports(), "nothing is kept for it any more")
    assert 0 < longest <= 64
    assert held.ended.result()[:2] == (4008, "slow")
    assert gateway.gateway.counters.closed_slow == 1
    for chat in others:
        assert await chat.settled() == []


async def test_a_client_that_reads_again_in_time_misses_nothing(rig: Rig) -> None:
    """Goal: what waits within the bounds is kept, in order."""
    conversation_id, (ada, _) = await rig.world.conversation(2)
    gateway = await rig.gateway()
    chat = await rig.chat(gateway, ada, sock=narrow_socket(gateway.url), max_queue=1)
    await chat.follow(conversation_id)
    async with connect(rig.redis_url) as client:
        await flood(client, conversation_id, 0, 120)
    await until(lambda: gateway.gateway.counters.events == 120, "all are heard")
    (held,) = gateway.hub.users[ada]
    assert held.waiting > 0
    assert await read_all(chat, 120) == list(range(120))


async def test_history_waits_for_its_reader(rig: Rig) -> None:
    """Goal: a long history does not overflow the queue of a client that reads slowly."""
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    for _ in range(300):
        await rig.world.send(conversation_id, bob, content=BIG)
    gateway = await rig.gateway(GATEWAY_QUEUE_MAX="8", GATEWAY_QUEUE_BYTES_MAX="1048576")
    chat = await rig.chat(gateway, ada, sock=narrow_socket(gateway.url), max_queue=1)
    await chat.tell("subscribe", conversationId=conversation_id, afterSeq=0)
    (held,) = gateway.hub.users[ada]
    await until(lambda: held.waiting >= 4, "the queue fills")
    assert await chat.seqs(300) == list(range(1, 301))
    assert gateway.gateway.counters.closed_slow == 0


async def test_memory_stays_flat_however_many_do_not_read(rig: Rig, tmp_path: Path) -> None:
    """Goal: 20 clients that never read cost no more than their bounded queues."""
    conversation_id, people = await rig.world.conversation(21)
    environ = {"PROCESSORS_GATEWAY_QUEUE_MAX": "64", "PROCESSORS_GATEWAY_PING_MS": "3600000"}
    async with gateway_process(rig, tmp_path, **environ) as gateway:
        reader = await rig.chat(gateway.url, people[0])
        slow = [
            await rig.chat(gateway.url, user, sock=narrow_socket(gateway.url), max_queue=1)
            for user in people[1:]
        ]
        for chat in (reader, *slow):
            await chat.follow(conversation_id)
        async with connect(rig.redis_url) as client:
            await flood(client, conversation_id, 0, 1)
            assert await read_all(reader, 1) == [0]
            before = psutil.Process(gateway.pid).memory_info().rss
            highest = before
            for part in range(100):
                # 100 times 20 events of 16 kB: 32 MB for each of the 21.
                await flood(client, conversation_id, part * 20, 20)
                assert len(await read_all(reader, 20)) == 20
                highest = max(highest, psutil.Process(gateway.pid).memory_info().rss)
        status = await gateway.status()
    assert status["totals"]["closed_slow"] == 20
    assert status["sockets"] == 1
    # Without bounds it would be 20 times 32 MB.
    assert highest - before < 64 * 1024 * 1024, (before, highest)
