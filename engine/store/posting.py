"""The producers' connection: scripts whose replies are handed to a callback, without a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

from engine.errors import StoreUnavailable
from engine.store.batches import NotSent
from engine.store.faults import reply_fault
from engine.store.link import Argument, Link, evalsha, is_noscript
from engine.store.scripts import Script

_pack = cast(Callable[[Sequence[Argument]], bytes], hiredis.pack_command)


class _Posted:
    """
    Stands in the place of a future among those who wait for replies.

    Args:
        told: Takes the reply, an error, or None where the server does not have the script.
    """

    __slots__ = ("_told",)

    def __init__(self, told: Callable[[Any], None]) -> None:
        self._told = told

    def done(self) -> bool:
        return False

    def set_result(self, replies: list[Any]) -> None:
        (reply,) = replies
        if not isinstance(reply, hiredis.ReplyError):
            self._told(reply)
        elif is_noscript(reply):
            self._told(None)
        else:
            self._told(reply_fault(str(reply)))

    def set_exception(self, error: StoreUnavailable) -> None:
        self._told(error)


class PostingLink(Link):
    """A link that also takes calls without anybody awaiting them, and tells what was not sent."""

    @property
    def is_up(self) -> bool:
        """Whether it is connected, as far as is known."""
        return self._replies is not None and self._replies.alive

    def post(
        self,
        wanted: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        told: Callable[[Any], None],
    ) -> bool:
        """
        Send a script call.

        Args:
            wanted: The script.
            keys: Its keys.
            arguments: Its other arguments.
            told: Called with the reply, with a :class:`StoreError`, or with None where nothing was
                run, since the server does not have the script.

        Returns:
            False where the connection is gone; nothing was sent then, and nobody will be told.
        """
        replies, transport = self._replies, self._transport
        if replies is None or transport is None or not replies.alive:
            return False
        try:
            transport.write(_pack(evalsha(wanted, keys, *arguments)))
        except RuntimeError:
            # uvloop's way to say that the other side has just closed the connection.
            self._drop_if(replies)
            return False
        replies.hand_to(_Posted(told), 1)
        return True

    async def _connect(self) -> Any:
        try:
            return await super()._connect()
        except StoreUnavailable as error:
            raise NotSent(error.kind, str(error).removeprefix(f"{error.kind}: ")) from None
