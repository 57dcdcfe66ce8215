"""The producers' way to the server without an event loop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from engine.clock import Clock
from engine.errors import StoreError, StoreUnavailable
from engine.store.batches import (
    PRODUCER_NAME,
    Channel,
    NotSent,
    Outgoing,
    Tries,
    cancelling,
    check_give_up,
    check_laid,
)
from engine.store.connection import sync_client
from engine.store.faults import fault
from engine.store.link import Argument
from engine.store.scripts import script
from engine.wire.keys import QueueKeys


class SyncProducer:
    """
    The same for programs without an event loop; one thread at a time.

    Args:
        url: The server.
        clock: Gives time and chance.
        give_up_s: How long a batch is tried for.
        timeout_s: Time after which a silent server counts as gone.
    """

    def __init__(self, url: str, *, clock: Clock, give_up_s: float, timeout_s: float) -> None:
        check_give_up(give_up_s)
        self._clock = clock
        self._give_up_s = give_up_s
        self._client: redis.Redis = sync_client(url, name=PRODUCER_NAME, timeout_s=timeout_s)
        self._channels: dict[str, Channel] = {}

    def send(self, queue: str, jobs: Sequence[Outgoing]) -> list[str]:
        """
        Append one batch and return its entry ids.

        Raises:
            ValueError: The queue's name breaks the rule for names.
            EnqueueError: It was given up.
        """
        channel = self._channels.get(queue)
        if channel is None:
            channel = self._channels[queue] = Channel(QueueKeys(queue))
        keys, arguments = channel.command(jobs)
        return [entry.decode() for entry in self._until_answered("enqueue", keys, arguments)]

    def cancel(self, queue: str, job_id: str, **order: Any) -> None:
        """
        Lay a tombstone; see :func:`engine.store.batches.cancelling`.

        Raises:
            EnqueueError: It was given up, or there are too many.
        """
        keys, arguments = cancelling(queue, job_id, **order)
        check_laid(self._until_answered("cancel", keys, arguments), queue)

    def _until_answered(self, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run a script that is safe to repeat until the server answers."""
        tries = Tries(self._clock, self._clock.monotonic() + self._give_up_s)
        while True:
            try:
                return self._run(name, keys, arguments)
            except StoreError as error:
                delay_s = tries.delay_s(error)
            # Clock.sleep is for event loops, of which there is none here.
            time.sleep(delay_s)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _run(self, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        connections = self._client.connection_pool
        try:
            connection = connections.get_connection()
        except (RedisError, OSError) as error:
            found = fault(error)
            if isinstance(found, StoreUnavailable):
                raise NotSent(found.kind, str(error)) from None
            raise found from None
        try:
            return _call(connection, name, keys, arguments)
        except ResponseError as error:
            raise fault(error) from None
        except (RedisError, OSError) as error:
            # What is left of the reply must not answer the next call.
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise fault(error) from None
        finally:
            connections.release(connection)


def _call(connection: Any, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
    wanted = script(name)
    try:
        connection.send_command("EVALSHA", wanted.sha, len(keys), *keys, *arguments)
        return connection.read_response()
    except NoScriptError:
        # Nothing was run; EVAL runs the script and makes it known.
        connection.send_command("EVAL", wanted.text, len(keys), *keys, *arguments)
        return connection.read_response()
