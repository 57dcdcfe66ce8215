"""Gateways that stop, or are killed."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import orjson
import pytest

from engine import SystemClock
from processors.errors import ConfigurationError
from processors.realtime.gateway import Gateway
from processors.services.presence import PresenceService
from processors.services.protocols import Present
from processors.services.redis_link import connect
from tests.integration.processors.realtime.processes import gateway_process
from tests.integration.processors.realtime.rig import Rig

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_clients_are_sent_elsewhere(rig: Rig, how: str) -> None:
    """Goal: by SIGTERM or as an engine's background work, clients hear when to come back."""
    gateway = await rig.gateway()
    people = [await rig.world.user() for _ in range(8)]
    chats = [await rig.chat(gateway, user) for user in people]

    await (gateway.stop() if how == "stop" else gateway.cancel())

    hints = []
    for chat in chats:
        assert await chat.end() == (1012, "restart")
        (hint,) = chat.frames
        assert hint["type"] == "reconnect"
        hints.append(hint.get("afterMs", 0))
    assert len(set(hints)) > 1, "spread over a while"
    assert all(0 <= hint < 10_000 for hint in hints)
    assert await gateway.backing.presence.look(people) == {}
    with pytest.raises(OSError, match="onnect"):
        await rig.dial(gateway.url)


async def test_what_clients_confirmed_is_not_lost(rig: Rig) -> None:
    conversation_id, (ada, _) = await rig.world.conversation(2)
    gateway = await rig.gateway(GATEWAY_CONFIRM_MS="3600000")
    chat = await rig.chat(gateway, ada)
    await chat.tell("read", conversationId=conversation_id, seq=3)
    await chat.settled()
    await gateway.stop()
    async with connect(rig.redis_url) as client:
        ((_, fields),) = await client.xrange("mq:{message-delivery}:normal")
    assert orjson.loads(fields[b"data"])["readUpToSeq"] == 3


async def test_an_address_in_use_is_named(rig: Rig) -> None:
    gateway = await rig.gateway()
    second = Gateway(gateway.backing, gateway.http.removeprefix("http://"))
    with pytest.raises(ConfigurationError, match=r"cannot listen on 127\.0\.0\.1:\d+ .*in use"):
        await second.run()


async def test_sigterm_ends_the_process_in_order(rig: Rig, tmp_path: Path) -> None:
    async with gateway_process(rig, tmp_path) as gateway:
        chat = await rig.chat(gateway.url, await rig.world.user())
        code = asyncio.create_task(gateway.end(signal.SIGTERM))
        assert await chat.end() == (1012, "restart")
        assert await code == 0
        log = [orjson.loads(line) for line in gateway.log.read_text().splitlines()]
    assert [line["event"] for line in log][-1] == "gateway_stopped"
    assert log[-1]["opened"] == 1


async def test_clients_of_a_killed_gateway_miss_nothing(rig: Rig, tmp_path: Path) -> None:
    """Goal: kill -9 amid sends; resumed elsewhere, each place is told once and in order."""
    conversation_id, (ada, bob) = await rig.world.conversation(2)
    await rig.relay()
    other = await rig.gateway()
    async with gateway_process(rig, tmp_path) as gateway:
        chat = await rig.chat(gateway.url, bob)
        await chat.follow(conversation_id)
        for _ in range(10):
            await rig.world.send(conversation_id, ada)
        told = await chat.seqs(10)
        sending = asyncio.gather(*(rig.world.send(conversation_id, ada) for _ in range(40)))
        await gateway.end(signal.SIGKILL)
        assert (await chat.end())[0] == 1006, "no goodbye"
        await sending
    told += [frame["seq"] for frame in chat.frames if frame["type"] == "message.created"]
    assert told == list(range(1, len(told) + 1))
    moved = await rig.chat(other, bob)
    await moved.tell("resume", conversations={str(conversation_id): told[-1]})
    rest = await moved.seqs(50) if told[-1] < 50 else []
    assert told + rest == list(range(1, 51))


async def test_presence_of_a_killed_gateway_passes(rig: Rig, tmp_path: Path) -> None:
    ada = await rig.world.user()
    async with connect(rig.redis_url) as client:
        presence = PresenceService(client, SystemClock(), ttl_ms=1_000)
        async with gateway_process(rig, tmp_path, PROCESSORS_GATEWAY_PRESENCE_MS="1000") as gateway:
            await rig.chat(gateway.url, ada)
            while not await presence.look([ada]):
                pass
            await gateway.end(signal.SIGKILL)
        assert await presence.look([ada]) == {ada: Present(is_online=True)}
        while await presence.look([ada]):
            pass


async def test_a_bad_setting_is_one_line(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"Error: processors: .*TICKET_MS"):
        async with gateway_process(rig, tmp_path, PROCESSORS_GATEWAY_TICKET_MS="1"):
            pass
