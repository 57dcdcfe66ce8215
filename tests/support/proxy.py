"""A TCP proxy that breaks connections in the ways in which networks do."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import struct
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from engine.embedded import unused_port

LOOPBACK = "127.0.0.1"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
CHUNK_BYTES = 64 * 1024


class Faults:
    """
    What happens to bytes on their way in one direction; may be changed at any time.

    Attributes:
        latency_s: Delay of every chunk.
        slice_bytes: Pass bytes on in pieces of this size, each a write of its own.
        limit_bytes: How many bytes may still pass before the connection is closed.
    """

    def __init__(self) -> None:
        self.latency_s = 0.0
        self.slice_bytes = CHUNK_BYTES
        self.limit_bytes: int | None = None
        self._open = asyncio.Event()
        self._open.set()

    def blackhole(self) -> None:
        """Hold everything back, also the end of a connection: a half-open one, until healed."""
        self._open.clear()

    def heal(self) -> None:
        """Let everything pass, what was held back first."""
        self.latency_s, self.slice_bytes, self.limit_bytes = 0.0, CHUNK_BYTES, None
        self._open.set()

    async def carry(self, data: bytes, writer: asyncio.StreamWriter) -> bool:
        """Pass a chunk on; False once the limit is used up."""
        for start in range(0, len(data), self.slice_bytes):
            await asyncio.sleep(self.latency_s)
            await self._open.wait()
            if writer.is_closing():
                return False
            piece = data[start : start + self.slice_bytes][: self.limit_bytes]
            writer.write(piece)
            await writer.drain()
            if self.limit_bytes is not None:
                self.limit_bytes -= len(piece)
                if self.limit_bytes <= 0:
                    return False
        return True

    async def end(self) -> None:
        """Return once the end of a connection may be seen."""
        await self._open.wait()


@dataclasses.dataclass
class Cut:
    """Which reply to cut; see :meth:`FaultProxy.rst_on_reply`."""

    match: bytes
    request: bytes
    left: int


class FaultProxy:
    """
    Stands between clients and one server; an async context manager.

    Args:
        target: The server's loopback port, or the path of its socket file.

    Attributes:
        port: Where clients connect; stays the same over refusing.
        to_server: Faults of what clients send.
        to_client: Faults of what the server answers.
        accepted: Connections accepted so far.
        was_reset: Set once :meth:`rst_on_reply` has cut its reply.
    """

    def __init__(self, target: int | str) -> None:
        self.target = target
        self.port = unused_port()
        self.to_server = Faults()
        self.to_client = Faults()
        self.accepted = 0
        self.was_reset = asyncio.Event()
        self._cut: Cut | None = None
        self._listener: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def url(self, server_url: str) -> str:
        """Return a server's URL with the proxy in its place."""
        parts = urlsplit(server_url)
        login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        return urlunsplit(parts._replace(netloc=f"{login}{LOOPBACK}:{self.port}"))

    def rst_on_reply(self, match: bytes = b"", *, request: bytes = b"", nth: int = 1) -> None:
        """
        Reset the client's connection in the middle of a reply, once.

        Args:
            match: The reply contains these bytes.
            request: It follows a request of the same connection that contains these bytes.
            nth: Which of such replies.
        """
        self.was_reset.clear()
        self._cut = Cut(match, request, nth)

    def reset_all(self) -> None:
        """Reset every open connection."""
        for client in self._links.values():
            _reset(client)

    async def refuse(self) -> None:
        """Refuse new connections from now on; open ones stay."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            # The loop closes the socket in its next turn.
            await asyncio.sleep(0)

    async def accept(self) -> None:
        """Accept connections, on the same port as ever."""
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, LOOPBACK, self.port)

    async def heal(self) -> None:
        """Take every fault away; what was held back arrives late."""
        self._cut = None
        self.to_server.heal()
        self.to_client.heal()
        await self.accept()

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.refuse()
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._links[task] = client
        try:
            await self._link(reader, client)
        except (OSError, asyncio.CancelledError):
            # The server is away, a side has reset, or the proxy closes: the link just ends.
            _reset(client)
        finally:
            del self._links[task]
            client.close()

    async def _link(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if isinstance(self.target, str):
            replies, server = await asyncio.open_unix_connection(self.target)
        else:
            replies, server = await asyncio.open_connection(LOOPBACK, self.target)
        asked = asyncio.Event()
        ways = {
            asyncio.create_task(self._requests(reader, server, asked)),
            asyncio.create_task(self._replies(replies, client, asked)),
        }
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                way.result()
        finally:
            # Before the first await, at which the closing of the proxy may cut this short.
            server.close()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _requests(
        self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, asked: asyncio.Event
    ) -> None:
        tail = b""
        while data := await reader.read(CHUNK_BYTES):
            if self._cut is not None and self._cut.request in tail + data:
                asked.set()
            # What is looked for may lie over two chunks.
            tail = data[-64:]
            if not await self.to_server.carry(data, server):
                return
        await self.to_server.end()

    async def _replies(
        self, reader: asyncio.StreamReader, client: asyncio.StreamWriter, asked: asyncio.Event
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if self._is_cut(data, asked):
                await self.to_client.carry(data[: len(data) // 2], client)
                _reset(client)
                self.was_reset.set()
                return
            if not await self.to_client.carry(data, client):
                return
        await self.to_client.end()

    def _is_cut(self, data: bytes, asked: asyncio.Event) -> bool:
        cut = self._cut
        if cut is None or cut.match not in data or (cut.request and not asked.is_set()):
            return False
        asked.clear()
        cut.left -= 1
        if cut.left > 0:
            return False
        self._cut = None
        return True


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    # ValueError: it is closed already.
    with contextlib.suppress(OSError, ValueError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()
