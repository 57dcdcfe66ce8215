"""Clients, gateway and an engine: everything over the socket."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from processors import demo
from tests.integration.processors.realtime.rig import Rig, until
from tests.support.daemon import ROOT, Daemon, Start, daemons
from tests.support.servers import RedisTestServer

pytestmark = pytest.mark.servers


@pytest.mark.timeout(180)
async def test_two_people_write_to_each_other(
    rig: Rig, redis_server: RedisTestServer, tmp_path: Path
) -> None:
    """Goal: an engine with a gateway in it is all that a chat needs."""
    rig.redis_url = redis_server.url
    await rig.world.conversations.ensure(demo.CONVERSATION, "Demo", demo.PEOPLE)
    with daemons(tmp_path) as start:
        engine = started(start, rig)
        await until(lambda: address_in(tmp_path), "the gateway says where it is")
        url = address_in(tmp_path)
        ada, bob = [await rig.chat(url, user) for user in (demo.ADA, demo.BOB)]
        for chat in (ada, bob):
            await chat.follow(demo.CONVERSATION)
        written = [f"message {number}" for number in range(20)]
        for text in written:
            message = {
                "conversationId": str(demo.CONVERSATION),
                "content": text,
                "clientMessageId": str(uuid4()),
            }
            await ada.tell("send", message=message)
        told = [await bob.next("message.created") for _ in written]
        assert [event["content"] for event in told] == written, "in the order of their writing"
        await bob.tell("read", conversationId=demo.CONVERSATION, seq=20)
        read = await ada.next("watermark.advanced")
        while read["readUpToSeq"] < 20:
            read = await ada.next("watermark.advanced")
        assert (read["userId"], read["readUpToSeq"]) == (str(demo.BOB), 20)
        assert await asyncio.to_thread(engine.stop) == 0
    assert await bob.end() == (1012, "restart")


def started(start: Start, rig: Rig) -> Daemon:
    return start(
        rig.redis_url,
        app="processors.app:build",
        environ={
            "ENGINE_POSTGRES_URL": rig.postgres_url,
            "PROCESSORS_GATEWAY_LISTEN": "127.0.0.1:0",
        },
    )


def address_in(directory: Path) -> str:
    found = re.search(r"ws://[\d.:]+/ws", "".join(p.read_text() for p in directory.glob("*.log")))
    return found[0] if found else ""


async def test_the_command_prints_a_ticket(rig: Rig) -> None:
    ada = await rig.world.user()
    asked = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "processors", "ticket", str(ada), "--session", "s",
        env={"ENGINE_REDIS_URL": rig.redis_url, "PATH": "", "PYTHONPATH": ":".join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await asked.communicate()
    gateway = await rig.gateway()
    chat = await rig.dial(gateway.url)
    await chat.tell("auth", ticket=said.decode().strip())
    assert (await chat.next())["userId"] == str(ada)


async def test_the_client_of_the_page_works(
    rig: Rig, redis_server: RedisTestServer, tmp_path: Path
) -> None:
    """Goal: the Python program of processors/README.md does what it says, as it stands there."""
    rig.redis_url = redis_server.url
    await rig.world.conversations.ensure(demo.CONVERSATION, "Demo", demo.PEOPLE)
    page = (ROOT / "processors" / "README.md").read_text()
    shown = re.search(r"gateway client: begin -->\n```python\n(.*?)```", page, re.DOTALL)
    assert shown is not None
    (tmp_path / "client.py").write_text(shown[1])
    with daemons(tmp_path) as start:
        started(start, rig)
        await until(lambda: address_in(tmp_path), "the gateway says where it is")
        client = await asyncio.create_subprocess_exec(
            sys.executable, str(tmp_path / "client.py"),
            address_in(tmp_path), await rig.ticket(demo.ADA), str(demo.CONVERSATION),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert client.stdout is not None
        lines: list[str] = []
        async with asyncio.timeout(60):
            while not lines or not lines[-1].startswith("watermark.advanced"):
                lines.append((await client.stdout.readline()).decode().strip())
                assert lines[-1], lines
        client.kill()
        await client.wait()
    assert lines[0] == "hello"
    assert "message.created 1 hello" in lines
