"""
One connection for the hot path.

redis-py connects, which brings TLS, passwords, unix sockets and everything else a URL can say.
Then this module's protocol takes the transport over: one future for each write, whatever number of
commands it holds, and replies parsed by hiredis. A waiter that is cancelled leaves its place in the
queue behind, so replies never come to the wrong caller.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import hiredis
import redis.asyncio
from redis.exceptions import RedisError

from engine.errors import StoreUnavailable
from engine.store.faults import fault, reply_fault
from engine.store.scripts import Script

Argument = bytes | str | int
Command = bytes | Sequence[Argument]
"""The words of a command, or what :func:`packed` made of them."""


_RUN_ID = re.compile(rb"^run_id:(\w+)", re.MULTILINE)
_pack = cast(Callable[[tuple[Argument, ...]], bytes], hiredis.pack_command)


def packed(command: Command) -> bytes:
    """Write a command as it goes over the wire."""
    return command if isinstance(command, bytes) else _pack(tuple(command))


class Waiter(Protocol):
    """Who is told of replies: a future, or what looks like one."""

    def done(self) -> bool: ...
    def set_result(self, result: list[Any], /) -> None: ...
    def set_exception(self, exception: StoreUnavailable, /) -> None: ...


class _Replies(asyncio.Protocol):
    """
    Sorts replies to the writes that wait for them, and gives up on a server that stays silent.

    One timer watches all of them, since one for each would cost more than the write.

    Args:
        timeout_s: Time after which a silent server counts as gone.
    """

    def __init__(self, timeout_s: float) -> None:
        self.reader = hiredis.Reader()
        self.waiting: deque[tuple[Waiter, int, float]] = deque()
        self.gathered: list[Any] = []
        self.alive = True
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.TimerHandle | None = None

    def expect(self, count: int) -> asyncio.Future[list[Any]]:
        """Return what will hold the replies to the write just made."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self.hand_to(future, count)
        return future

    def hand_to(self, waiter: Waiter, count: int) -> None:
        """Hand the replies to the write just made to a waiter."""
        self.waiting.append((waiter, count, self._loop.time() + self._timeout_s))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_s, self._look)

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        try:
            self._deliver()
        except hiredis.ProtocolError as error:
            self.fail("connection", str(error))

    def _deliver(self) -> None:
        gets = self.reader.gets
        while self.waiting:
            reply = gets()
            if reply is False:
                return
            self.gathered.append(reply)
            future, wanted, _ = self.waiting[0]
            if len(self.gathered) == wanted:
                self.waiting.popleft()
                replies, self.gathered = self.gathered, []
                if not future.done():
                    future.set_result(replies)

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail("connection", str(exc or "the server closed the connection"))

    def fail(self, kind: str, detail: str) -> None:
        """Tell all waiters that no reply will come."""
        self.alive = False
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        while self.waiting:
            future, _, _ = self.waiting.popleft()
            if not future.done():
                future.set_exception(StoreUnavailable(kind, detail))

    def _look(self) -> None:
        """See whether a reply is overdue, and look again when the next one would be."""
        self._watch = None
        until = next((until for future, _, until in self.waiting if not future.done()), None)
        if until is None:
            return
        left_s = until - self._loop.time()
        if left_s <= 0:
            self.fail("timeout", "the server did not answer in time")
        else:
            self._watch = self._loop.call_later(left_s, self._look)


class Link:
    """
    One connection that heals at the next call.

    Args:
        pool: Says where and how to connect; the link takes none of its connections.
        timeout_s: Time after which a silent server counts as gone.
        asks_server: Learn which server process each connection leads to.

    Attributes:
        connects: Connections made so far.
        server: Run id of the server behind the present connection; empty while it is not known.
    """

    def __init__(
        self,
        pool: redis.asyncio.ConnectionPool,
        *,
        timeout_s: float,
        asks_server: bool = False,
    ) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._asks_server = asks_server
        self.server = b""
        self._writer: Any = None
        self._replies: _Replies | None = None
        self._transport: asyncio.Transport | None = None
        self._connecting = asyncio.Lock()
        self.connects = 0

    async def call(self, *commands: Command) -> list[Any]:
        """
        Send commands in one write and return their replies.

        Error replies come back as :class:`hiredis.ReplyError` in their places.

        Raises:
            StoreError: The connection failed; what was sent may or may not have been done.
        """
        replies = self._replies
        if replies is None or not replies.alive:
            replies = await self._connect()
        assert self._transport is not None
        try:
            self._transport.write(b"".join([packed(command) for command in commands]))
        except RuntimeError as error:
            # uvloop's way to say that the other side has just closed the connection.
            self._drop_if(replies)
            raise StoreUnavailable("connection", str(error)) from None
        try:
            answers = await replies.expect(len(commands))
        except StoreUnavailable:
            self._drop_if(replies)
            raise
        for each in answers:
            if isinstance(each, hiredis.ReplyError) and _is_demoted(each):
                # A name that leads to the primary may lead to another server by now: ask it again.
                self._drop_if(replies)
        return answers

    async def one(self, *command: Argument) -> Any:
        """Send one command and return its reply; an error reply is raised."""
        return checked(await self.call(command))[0]

    async def run(self, wanted: Script, keys: Sequence[str], *arguments: Argument) -> Any:
        """Run a script, loading it first where the server does not have it."""
        command = evalsha(wanted, keys, *arguments)
        (reply,) = await self.call(command)
        if is_noscript(reply):
            # Nothing was run, so sending it again is safe.
            connects = self.connects
            await self.one(b"SCRIPT", b"LOAD", wanted.text)
            if not self.is_alive or self.connects != connects:
                # What the arguments say may hold for the server before only.
                raise StoreUnavailable("connection", "the connection broke between two calls")
            (reply,) = await self.call(command)
        return checked([reply])[0]

    @property
    def is_alive(self) -> bool:
        """Whether the next call goes over the present connection."""
        return self._replies is not None and self._replies.alive

    async def ready(self) -> None:
        """Connect if need be: what is sent before the next pause goes over this connection."""
        if not self.is_alive:
            await self._connect()

    def drop(self) -> None:
        """Close the connection; the next call opens a new one."""
        if self._replies is not None:
            self._replies.fail("connection", "the connection was given up")
            self._replies = None
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        self._writer = None

    def _drop_if(self, replies: _Replies) -> None:
        """Close the connection that failed, unless another caller has opened a new one since."""
        if self._replies is replies:
            self.drop()

    async def _connect(self) -> _Replies:
        async with self._connecting:
            if self._replies is not None and self._replies.alive:
                return self._replies
            self.drop()
            connection = cast(Any, self._pool).make_connection()
            try:
                await connection.connect()
            except (RedisError, OSError, TimeoutError) as error:
                raise fault(error) from None
            except RuntimeError as error:
                # uvloop's way to say that the other side has closed the connection meanwhile.
                raise StoreUnavailable("connection", str(error)) from None
            # Handshake done: from here on the bytes are ours. The stream objects have no public
            # names; the writer is kept, since its finaliser would close the transport.
            self._writer = connection._writer  # noqa: SLF001
            connection._writer = connection._reader = None  # noqa: SLF001
            self._transport = self._writer.transport
            self._replies = _Replies(self._timeout_s)
            assert self._transport is not None
            self._transport.set_protocol(self._replies)
            if self._transport.is_closing():
                # Its end was told to the protocol before ours.
                self._replies.alive = False
                raise StoreUnavailable("connection", "the server closed the connection")
            self.connects += 1
            self.server = b""
            if self._asks_server:
                self._ask_server(self._replies)
            return self._replies

    def _ask_server(self, replies: _Replies) -> None:
        """Send the question ahead of everything else, so that its answer is known by then."""
        assert self._transport is not None

        def answered(future: asyncio.Future[list[Any]]) -> None:
            # Who may not ask, or whose connection broke, knows nothing.
            told = None if future.cancelled() or future.exception() else future.result()[0]
            found = _RUN_ID.search(told) if isinstance(told, bytes) else None
            if found and self._replies is replies:
                self.server = found[1]

        try:
            self._transport.write(_pack((b"INFO", b"server")))
        except RuntimeError as error:
            self._drop_if(replies)
            raise StoreUnavailable("connection", str(error)) from None
        replies.expect(1).add_done_callback(answered)


def evalsha(wanted: Script, keys: Sequence[str], *arguments: Argument) -> Command:
    """Build the command that runs a script."""
    return (b"EVALSHA", wanted.sha, len(keys), *keys, *arguments)


def is_noscript(reply: Any) -> bool:
    """Tell whether the server does not have the script that it was asked to run."""
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT")


def _is_demoted(reply: hiredis.ReplyError) -> bool:
    return getattr(reply_fault(str(reply)), "kind", "") == "readonly"


def checked(replies: list[Any]) -> list[Any]:
    """
    Return replies that hold no error.

    Raises:
        StoreError: The first error among them.
    """
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError):
            raise reply_fault(str(reply))
    return replies
