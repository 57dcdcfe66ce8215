"""
HTTP/2 for many small requests to one host, over one connection at a time.

Libraries of general use lose requests when a server ends a connection in good order, which APNs
does often. Here a request that the server says it has not seen (GOAWAY below its stream,
REFUSED_STREAM) goes out again over a new connection; one whose fate is unknown is reported as such;
and none waits for longer than its time limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Final
from urllib.parse import urlsplit

from processors.senders.http2_connection import Connection, Http2Error, Lost, Response, Unsent

__all__ = ["Http2Client", "Http2Error", "Lost", "Response", "Unsent"]

REPLAYS_MAX: Final = 32
"""A server that refuses for ever is left alone; one that ends connections often is not."""


class Http2Client:
    """
    Requests to one host; makes connections as they are needed.

    Args:
        url: ``https://host[:port]``, or ``http://`` for HTTP/2 without TLS.
        context: For TLS; the system's trust if left out.
        timeout_s: Time limit of one request, with connecting and replays.
        streams_max: Requests under way at a time, at most.
        ping_s: After so long a silence with requests under way the server is asked for a sign.
    """

    def __init__(
        self,
        url: str,
        *,
        context: ssl.SSLContext | None = None,
        timeout_s: float,
        streams_max: int = 500,
        ping_s: float = 20.0,
    ) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._authority = parts.netloc
        self._context = None
        if parts.scheme == "https":
            self._context = context or ssl.create_default_context()
            self._context.set_alpn_protocols(["h2"])
        self._timeout_s = timeout_s
        self._streams_max = streams_max
        self._ping_s = ping_s
        self._connection: Connection | None = None
        self._all: set[Connection] = set()
        self._lock = asyncio.Lock()

    async def request(
        self, method: str, path: str, headers: list[tuple[str, str]], body: bytes
    ) -> Response:
        """
        Send one request and return its answer.

        Raises:
            Unsent: The server did not act on it.
            Lost: Nobody knows; the time limit counts among these.
        """
        connection = None
        try:
            async with asyncio.timeout(self._timeout_s):
                for tries_left in reversed(range(REPLAYS_MAX)):
                    connection = await self._usable()
                    with contextlib.suppress(*([Unsent] if tries_left else [])):
                        return await connection.request(method, path, headers, body)
                raise AssertionError("the last try either answers or raises")
        except TimeoutError as error:
            if connection is None:
                raise Unsent(f"no connection within {self._timeout_s:g} s") from error
            connection.suspect()
            raise Lost(f"no answer within {self._timeout_s:g} s") from error

    async def close(self) -> None:
        """Hang up everything."""
        await asyncio.gather(*(connection.close() for connection in self._all))
        self._all.clear()
        self._connection = None

    async def _usable(self) -> Connection:
        async with self._lock:
            if self._connection is None or not self._connection.is_usable:
                await self._drop_ended()
                self._connection = await self._connect()
            return self._connection

    async def _drop_ended(self) -> None:
        ended = {each for each in self._all if each.is_ended}
        self._all -= ended
        for connection in ended:
            await connection.close()

    async def _connect(self) -> Connection:
        try:
            reader, writer = await asyncio.open_connection(
                self._host, self._port, ssl=self._context
            )
        except (OSError, ssl.SSLError) as error:
            raise Unsent(f"cannot connect: {type(error).__name__}: {error}") from error
        if self._context is not None:
            chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
            if chosen != "h2":
                writer.close()
                raise Unsent("the server does not speak HTTP/2")
        connection = Connection(
            reader,
            writer,
            authority=self._authority,
            streams_max=self._streams_max,
            ping_s=self._ping_s,
            answer_s=min(5.0, self._timeout_s),
        )
        self._all.add(connection)
        try:
            await connection.open()
        except BaseException:
            connection.abort(Unsent("not opened in time"))
            raise
        return connection
