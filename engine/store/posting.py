"""The producers' connection: scripts whose replies are handed to a callback, without a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

from engine.errors import StoreError, StoreUnavailable
from engine.store.batches import Batched, NotSent
from engine.store.faults import reply_fault
from engine.store.link import Argument, Link, evalsha, is_noscript
from engine.store.pressure import EnqueueReply

_pack = cast(Callable[[Sequence[Argument]], bytes], hiredis.pack_command)

Told = Callable[[Batched, EnqueueReply | StoreError | None], None]
"""Takes a batch's call with the reply, why there is none, or None where it was not run."""


class _Posted:
    """
    Stands in the place of a future among those who wait for replies.

    Args:
        call: The script call.
        told: Takes it with the reply, an error, or None where the server does not have the script.
    """

    __slots__ = ("_call", "_told")

    def __init__(self, call: Batched, told: Told) -> None:
        self._call = call
        self._told = told

    def done(self) -> bool:
        return False

    def set_result(self, replies: list[Any]) -> None:
        (reply,) = replies
        if not isinstance(reply, hiredis.ReplyError):
            self._told(self._call, reply)
        elif is_noscript(reply):
            self._told(self._call, None)
        else:
            self._told(self._call, reply_fault(str(reply)))

    def set_exception(self, error: StoreUnavailable) -> None:
        self._told(self._call, error)


class PostingLink(Link):
    """A link that also takes calls without anybody awaiting them, and tells what was not sent."""

    def post(self, call: Batched, told: Told) -> bool:
        """
        Send a script call.

        Args:
            call: The call.
            told: Called with it and the reply, with it and a :class:`StoreError`, or with it and
                None where nothing was run, since the server does not have the script.

        Returns:
            False where the connection is gone; nothing was sent then, and nobody will be told.
        """
        replies, transport = self._replies, self._transport
        if replies is None or transport is None or not replies.alive:
            return False
        try:
            transport.write(_pack(evalsha(call.script, call.keys, *call.rest)))
        except RuntimeError:
            # uvloop's way to say that the other side has just closed the connection.
            self._drop_if(replies)
            return False
        replies.hand_to(_Posted(call, told), 1)
        return True

    async def _connect(self) -> Any:
        try:
            return await super()._connect()
        except StoreUnavailable as error:
            raise NotSent(error.kind, str(error).removeprefix(f"{error.kind}: ")) from None
