"""The producers' way to the server without an event loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from engine.clock import Clock
from engine.errors import EnqueueError, QueueFull, StoreError, StoreUnavailable
from engine.store.batches import (
    PRODUCER_NAME,
    Batched,
    Channel,
    NotSent,
    Outgoing,
    Pauses,
    Tries,
    batched,
    cancelling,
    check_give_up,
    check_laid,
)
from engine.store.connection import sync_client
from engine.store.faults import fault
from engine.store.link import Argument
from engine.store.pressure import Answer, EnqueueReply, KnownBounds
from engine.store.scripts import Script, script
from engine.wire.keys import QueueKeys

Reply = TypeVar("Reply")
Sent = Answer | EnqueueError
"""What became of a job, or why that is not known or did not happen."""


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
        self._channels: dict[str, tuple[Channel, KnownBounds]] = {}

    def send(self, queue: str, jobs: Sequence[Outgoing]) -> list[Sent]:
        """
        Send one batch and return what became of its jobs.

        Jobs that may wait for room are tried for until their time is over. Where the server is
        given up meanwhile, their answers are that error: others of the batch were accepted.

        Raises:
            ValueError: The queue's name breaks the rule for names.
            EnqueueError: All of it was given up.
        """
        deadline = self._clock.monotonic() + self._give_up_s
        answers: list[Sent] = [*self._send(queue, jobs, deadline)]
        pauses = Pauses(self._clock)
        while left := [at for at, answer in enumerate(answers) if _waits(answer, jobs[at])]:
            left_s = deadline - self._clock.monotonic()
            if left_s <= 0:
                for at in left:
                    answer = answers[at]
                    assert isinstance(answer, QueueFull)
                    answers[at] = answer.again(waited=True)
                break
            # Clock.sleep is for event loops, of which there is none here.
            time.sleep(min(pauses.next_s(), left_s))
            asked = left[: pauses.jobs_max]
            try:
                found: list[Sent] = [*self._send(queue, [jobs[at] for at in asked], deadline)]
            except EnqueueError as error:
                found, asked = [error] * len(left), left
            pauses.note(taken=isinstance(found[0], str))
            for at, answer in zip(asked, found, strict=True):
                answers[at] = answer
        return answers

    def _send(self, queue: str, jobs: Sequence[Outgoing], deadline: float) -> list[Answer]:
        """Send one batch until there is an answer, whatever it says."""
        if queue not in self._channels:
            self._channels[queue] = Channel(QueueKeys(queue)), KnownBounds(queue)
        channel, known = self._channels[queue]
        command: Batched | None = None

        def send() -> EnqueueReply:
            nonlocal command
            if command is None:
                self._learn(known)
                # A batch is sent again as it was, so that its answer is that of the first time.
                command = batched(channel, jobs, known)
            reply: EnqueueReply = self._run(command.script, command.keys, command.rest)
            return reply

        return known.answers(self._until_answered(send, deadline), (job.lane for job in jobs))

    def cancel(self, queue: str, job_id: str, **order: Any) -> None:
        """
        Lay a tombstone; see :func:`engine.store.batches.cancelling`.

        Raises:
            EnqueueError: It was given up, or there are too many.
        """
        keys, arguments = cancelling(queue, job_id, **order)
        deadline = self._clock.monotonic() + self._give_up_s
        lay = partial(self._run, script("cancel"), keys, arguments)
        check_laid(self._until_answered(lay, deadline), queue)

    def _until_answered(self, call: Callable[[], Reply], deadline: float) -> Reply:
        """Do what is safe to repeat until the server answers."""
        tries = Tries(self._clock, deadline)
        while True:
            try:
                return call()
            except StoreError as error:
                delay_s = tries.delay_s(error)
            time.sleep(delay_s)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _learn(self, known: KnownBounds) -> None:
        """Look at a queue's bounds before its first batch, and before a later one now and then."""
        if not (known.is_due(self._clock.monotonic()) or known.is_unknown):
            return
        try:
            flat = self._with_connection(partial(_all_of, known.keys.control))
        except StoreUnavailable as error:
            known.forget()
            raise NotSent(error.kind, str(error).removeprefix(f"{error.kind}: ")) from None
        except StoreError:
            # Who may not read this may yet enqueue; a server that refuses all will say so.
            flat = []
        known.note(flat, self._clock.monotonic())

    def _run(self, wanted: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        return self._with_connection(partial(_call, wanted, keys, arguments))

    def _with_connection(self, call: Callable[[Any], Any]) -> Any:
        connections = self._client.connection_pool
        try:
            connection = connections.get_connection()
        except (RedisError, OSError) as error:
            found = fault(error)
            if isinstance(found, StoreUnavailable):
                raise NotSent(found.kind, str(error)) from None
            raise found from None
        try:
            return call(connection)
        except ResponseError as error:
            raise fault(error) from None
        except (RedisError, OSError) as error:
            # What is left of the reply must not answer the next call.
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise fault(error) from None
        finally:
            connections.release(connection)


def _waits(answer: Sent, job: Outgoing) -> bool:
    return isinstance(answer, QueueFull) and not answer.waited and job.when_full == "wait"


def _all_of(key: str, connection: Any) -> list[bytes]:
    connection.send_command("HGETALL", key)
    flat: list[bytes] = connection.read_response()
    return flat


def _call(
    wanted: Script, keys: Sequence[str], arguments: Sequence[Argument], connection: Any
) -> Any:
    try:
        connection.send_command("EVALSHA", wanted.sha, len(keys), *keys, *arguments)
        return connection.read_response()
    except NoScriptError:
        # Nothing was run; EVAL runs the script and makes it known.
        connection.send_command("EVAL", wanted.text, len(keys), *keys, *arguments)
        return connection.read_response()
