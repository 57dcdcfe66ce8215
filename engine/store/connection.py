"""
How every part of the engine connects to the server.

Automatic retries are off: redis-py would send a command again whose reply was lost, and one lost
reply of an XADD would double a job. What is safe to repeat is repeated by its caller.

A cancelled command ends. redis-py sends with ``asyncio.wait_for``, which before Python 3.12 loses a
cancellation that comes when the bytes have just left (cpython issue 86296): whoever waits for the
cancelled task then waits for ever. :class:`Cancellable` gives it back.
"""

from __future__ import annotations

import asyncio
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from engine.errors import SettingsError


class Cancellable:
    """Mixed into redis-py's connections: a command whose task is cancelled is given up."""

    async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        """
        Send a command that is packed.

        Raises:
            asyncio.CancelledError: The task was cancelled, even if the command has left.
        """
        task = asyncio.current_task()
        before = task.cancelling() if task is not None else 0
        await super().send_packed_command(*args, **kwargs)  # type: ignore[misc]
        if task is not None and task.cancelling() > before:
            # Nobody will read the reply, so the connection is of no use to the next command.
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise asyncio.CancelledError


def cancellable(kind: type[Any]) -> type[Any]:
    """Derive from a kind of connection one whose commands can be cancelled."""
    return type(f"Cancellable{kind.__name__}", (Cancellable, kind), {})


def pool(
    url: str, *, name: str, timeout_s: float = 5.0, connect_timeout_s: float = 5.0
) -> redis.asyncio.ConnectionPool:
    """
    Build a pool of asyncio connections without retries.

    Args:
        url: redis://, rediss:// or unix://.
        name: What CLIENT LIST shows.
        timeout_s: Time after which a silent server counts as gone.
        connect_timeout_s: Time that connecting may take.

    Raises:
        SettingsError: The URL cannot be read.
    """
    try:
        made = redis.asyncio.ConnectionPool.from_url(
            url,
            protocol=2,
            client_name=name,
            retry=AsyncRetry(NoBackoff(), 0),
            socket_timeout=timeout_s,
            socket_connect_timeout=connect_timeout_s,
            health_check_interval=0,
        )
    except ValueError as error:
        raise SettingsError(f"redis_url: {error}") from None
    made.connection_class = cancellable(made.connection_class)
    return made


def client(url: str, *, name: str, timeout_s: float = 5.0) -> redis.asyncio.Redis:
    """Build an asyncio client without retries, for everything off the hot path."""
    return redis.asyncio.Redis.from_pool(pool(url, name=name, timeout_s=timeout_s))


def sync_client(url: str, *, name: str, timeout_s: float = 5.0) -> redis.Redis:
    """Build a blocking client without retries, for threads and scripts."""
    try:
        return redis.Redis.from_url(
            url,
            protocol=2,
            client_name=name,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            health_check_interval=0,
        )
    except ValueError as error:
        raise SettingsError(f"redis_url: {error}") from None
