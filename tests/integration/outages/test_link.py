"""The connection of the hot path and a server that answers late, or not at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import uvloop

from engine.errors import StoreUnavailable
from engine.store.connection import pool
from engine.store.link import Link
from tests.support.proxy import FaultProxy
from tests.support.servers import RedisTestServer

pytestmark = pytest.mark.servers

TIMEOUT_S = 0.3


@pytest.fixture
async def proxy(redis_server: RedisTestServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
async def link(redis_server: RedisTestServer, proxy: FaultProxy) -> AsyncIterator[Link]:
    link = Link(pool(proxy.url(redis_server.url), name="test"), timeout_s=TIMEOUT_S)
    yield link
    link.drop()


async def test_all_that_wait_for_a_silent_server_are_told_and_the_next_call_connects_anew(
    link: Link, proxy: FaultProxy
) -> None:
    assert await link.one(b"PING") == b"PONG"
    proxy.to_client.blackhole()
    calls = [asyncio.create_task(link.one(b"ECHO", word)) for word in (b"a", b"b")]
    for call in calls:
        with pytest.raises(StoreUnavailable) as caught:
            await call
        assert caught.value.kind == "timeout"
    proxy.to_client.heal()
    assert await link.one(b"ECHO", b"c") == b"c"
    assert link.connects == 2


async def test_a_silence_is_noticed_after_calls_that_were_answered_or_given_up(
    link: Link, proxy: FaultProxy
) -> None:
    for _ in range(3):
        await link.one(b"PING")
    proxy.to_client.blackhole()
    given_up = asyncio.create_task(link.one(b"ECHO", b"a"))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(StoreUnavailable, match="timeout"):
        await link.one(b"ECHO", b"b")


def test_a_reply_that_came_while_a_handler_held_the_loop_is_not_overdue(
    redis_server: RedisTestServer,
) -> None:
    """The engine's own loop: what it reads late has come in time."""

    async def call() -> int:
        link = Link(pool(redis_server.url, name="test"), timeout_s=TIMEOUT_S)
        await link.one(b"PING")
        reply = asyncio.create_task(link.one(b"ECHO", b"a"))
        await asyncio.sleep(0)
        time.sleep(2 * TIMEOUT_S)  # noqa: ASYNC251 - holding the loop is what this is about
        assert await reply == b"a"
        link.drop()
        return link.connects

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(call()) == 1
