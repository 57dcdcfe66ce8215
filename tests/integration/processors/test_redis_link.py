"""The client names a connection that was closed under it."""

from __future__ import annotations

from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as ConnectionLost

from processors.services.redis_link import connect

pytestmark = pytest.mark.servers


async def test_a_write_to_a_closed_connection_is_a_lost_one(redis_url: str) -> None:
    """Goal: uvloop's RuntimeError does not pass for a fault of ours; the next command works."""
    async with connect(redis_url) as client:
        connection = await client.connection_pool.get_connection()
        cast(Any, connection)._writer.transport.abort()
        with pytest.raises(ConnectionLost):
            await connection.send_command("PING")
        await client.connection_pool.release(connection)
        assert await client.ping()
