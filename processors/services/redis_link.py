"""The client over which the processors speak to Redis, beside the engine's own connections."""

from __future__ import annotations

from typing import Any, Final

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost

CONNECT_S_MAX: Final = 5.0


def connect(url: str) -> redis.asyncio.Redis:
    """
    Make a client that never repeats a command by itself: a second PUBLISH would be seen.

    It has no time limit of its own for commands: redis-py would keep it with ``asyncio.wait_for``,
    which on Python 3.11 can lose a cancellation. Callers bring one.
    """
    client = redis.asyncio.Redis.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        socket_timeout=None,
        socket_connect_timeout=CONNECT_S_MAX,
        client_name="streamlane",
    )
    pool = client.connection_pool
    pool.connection_class = _naming_losses(pool.connection_class)
    return client


def _naming_losses(kind: type[Any]) -> type[Any]:
    """Let a kind of connection name a loss that uvloop reports as a RuntimeError."""

    class Named(kind):  # type: ignore[misc]
        async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
            try:
                await super().send_packed_command(*args, **kwargs)
            except RuntimeError as error:
                # The other side has closed the connection, and no read has seen it yet.
                await self.disconnect(nowait=True)
                raise ConnectionLost(f"the connection was closed: {error}") from error

    return Named
