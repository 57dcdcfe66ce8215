"""
Which pub/sub the server has, and publishing with it.

Redis 7 and Valkey have sharded pub/sub (SPUBLISH, SSUBSCRIBE), whose messages stay on one shard of
a cluster; older servers have the plain kind alone, which a cluster passes on to all its nodes. The
two never meet, so whoever publishes and whoever listens asks the server the same question. An
answer holds for one connection: another may lead to a server that was upgraded meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import redis.asyncio
from redis.exceptions import NoPermissionError

from processors.errors import ConfigurationError

Choice = Literal["auto", "plain", "sharded"]
"""The setting ``PROCESSORS_PUBSUB``; ``auto`` asks the server."""

ASK: Final = ("COMMAND INFO", "spublish")
PUBLISH_S_MAX: Final = 5.0


class Dialect(NamedTuple):
    """
    The commands of one kind of pub/sub.

    Attributes:
        publish: Command that publishes.
        subscribe: Command that subscribes.
        unsubscribe: Command that ends subscriptions.
        message: First element of what arrives.
    """

    publish: str
    subscribe: str
    unsubscribe: str
    message: bytes


PLAIN: Final = Dialect("PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE", b"message")
SHARDED: Final = Dialect("SPUBLISH", "SSUBSCRIBE", "SUNSUBSCRIBE", b"smessage")


def fixed(choice: Choice) -> Dialect | None:
    """Return what a setting demands; None for what the server says."""
    return {"plain": PLAIN, "sharded": SHARDED}.get(choice)


def dialect_of(answer: Any) -> Dialect:
    """
    Read a server's answer to :data:`ASK`: nothing where it does not know the command.

    Raises:
        ConfigurationError: The user of the connection may not ask.
        RedisError: The server could not answer.
    """
    if isinstance(answer, NoPermissionError):
        raise ConfigurationError(
            "the user of Redis may not run COMMAND INFO, which tells sharded pub/sub from plain: "
            "allow +command|info, or set PROCESSORS_PUBSUB to sharded (Redis 7, Valkey) or plain"
        )
    if isinstance(answer, Exception):
        raise answer
    return SHARDED if isinstance(answer, list) and answer and answer[0] else PLAIN


class Publisher:
    """
    Publishes in the way in which others listen.

    Each batch carries the question along, so that even a server that was exchanged under an open
    pool is noticed; the batch is then published again the other way.

    Args:
        client: Where to publish; it must not repeat commands by itself.
        choice: The setting.
    """

    def __init__(self, client: redis.asyncio.Redis, choice: Choice = "auto") -> None:
        self._client = client
        self._fixed = fixed(choice)
        self._dialect = self._fixed

    async def publish(self, events: Sequence[tuple[str, str | bytes]]) -> None:
        """
        Publish events, each a channel and its text, in one round trip.

        Raises:
            RedisError: Nothing, or a part, was published.
            TimeoutError: The server did not answer in time; likewise.
            ConfigurationError: The server does not tell which pub/sub it has.
        """
        async with asyncio.timeout(PUBLISH_S_MAX):
            dialect = self._dialect or dialect_of(await self._ask())
            while True:
                answers = await self._send(dialect, events)
                self._dialect = self._fixed or dialect_of(answers[0])
                if self._dialect is dialect:
                    break
                dialect = self._dialect
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer

    async def _ask(self) -> Any:
        try:
            return await self._client.execute_command(*ASK)  # type: ignore[no-untyped-call]
        except NoPermissionError as error:
            return error

    async def _send(self, dialect: Dialect, events: Sequence[tuple[str, str | bytes]]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipe:
            if self._fixed is None:
                pipe.execute_command(*ASK)
            for channel, text in events:
                pipe.execute_command(dialect.publish, channel, text)
            return await pipe.execute(raise_on_error=False)
