"""A command whose task is cancelled ends, at whatever moment the cancellation comes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engine.store.connection import client

pytestmark = pytest.mark.servers


async def test_a_cancel_that_comes_when_a_command_has_just_left_is_not_lost(redis_url: str) -> None:
    """Before Python 3.12, ``asyncio.wait_for`` takes the bytes that were sent for an answer."""
    redis = client(redis_url, name="test")
    await redis.set("word", "mine")
    connection: Any = await redis.connection_pool.get_connection()
    await redis.connection_pool.release(connection)
    send = connection._send_packed_command

    async def send_and_be_cancelled(command: Any) -> None:
        await send(command)
        asyncio.get_running_loop().call_soon(asked.cancel)

    connection._send_packed_command = send_and_be_cancelled
    asked = asyncio.ensure_future(redis.get("word"))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(asked), 5)
    assert asked.cancelled()

    connection._send_packed_command = send
    assert await redis.ping() is True, "it is the answer to this command, not to the one before"
    await redis.aclose()
