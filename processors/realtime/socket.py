"""
One client's socket, outwards: frames wait in a bounded queue, and nobody waits for a slow client.

Frames are encoded once, by whoever has them, and shared by all sockets that they go to.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from enum import IntEnum
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
from aiohttp import WSMsgType, web

from processors.realtime.counters import Counters
from processors.services.presence import Here
from processors.services.tickets import Grant
from schemas.realtime import Answer

GOODBYE_S: Final = 1.0
"""Time for the last frames, and again for the closing handshake."""

_encoder = msgspec.json.Encoder()


class Code(IntEnum):
    """Why sockets are closed; beside those of the WebSocket protocol itself."""

    UNSUPPORTED = 1003
    POLICY = 1008
    BUG = 1011
    RESTART = 1012
    BUSY = 1013
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    SLOW = 4008
    TOO_MANY = 4429


class End(NamedTuple):
    """
    How a socket ends.

    Attributes:
        code: The close code.
        reason: A short name that goes with it.
        is_abrupt: Waiting frames are dropped.
    """

    code: int
    reason: str
    is_abrupt: bool = False


class Socket:
    """
    A client that showed its ticket.

    Args:
        ws: The connection.
        grant: What the ticket stands for.
        socket_id: Its name, different from all others.
        opened_s: When it was opened, by a monotonic clock.
        frames_max: Frames that may wait.
        bytes_max: The same in bytes.
        counters: What is counted.
    """

    def __init__(
        self,
        ws: web.WebSocketResponse,
        grant: Grant,
        *,
        socket_id: str,
        opened_s: float,
        frames_max: int,
        bytes_max: int,
        counters: Counters,
    ) -> None:
        self.ws = ws
        self.grant = grant
        self.socket_id = socket_id
        self.opened_s = opened_s
        self.active: UUID | None = None
        self.ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self._counters = counters
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._more = asyncio.Event()
        self._less = asyncio.Event()
        self._less.set()

    @property
    def user_id(self) -> UUID:
        """Whose it is."""
        return self.grant.user_id

    @property
    def here(self) -> Here:
        """What presence keeps of it."""
        return Here(self.user_id, self.socket_id, self.active)

    @property
    def waiting(self) -> int:
        """Frames that wait."""
        return len(self._queue)

    def put(self, frame: bytes) -> None:
        """Queue a frame; a client that left no room for it is too slow and gets closed."""
        if self.ended.done():
            return
        if len(self._queue) >= self._frames_max or self._bytes >= self._bytes_max:
            self._counters.closed_slow += 1
            self._queue.clear()
            self.end(End(Code.SLOW, "slow", is_abrupt=True))
            return
        self._queue.append(frame)
        self._bytes += len(frame)
        self._more.set()
        if len(self._queue) * 2 >= self._frames_max or self._bytes * 2 >= self._bytes_max:
            self._less.clear()

    def tell(self, answer: Answer) -> None:
        """Queue a frame of the gateway's own."""
        self.put(_encoder.encode(answer))

    async def room(self) -> None:
        """Wait until half the queue is free, or the socket ends; for what can wait."""
        while not self._less.is_set() and not self.ended.done():
            await self._less.wait()

    def end(self, end: End) -> None:
        """Close the socket; the first reason counts."""
        if not self.ended.done():
            self.ended.set_result(end)
            self._less.set()

    async def write(self) -> None:
        """Send what is queued until cancelled or the connection breaks."""
        while True:
            while self._queue:
                frame = self._queue.popleft()
                self._bytes -= len(frame)
                if len(self._queue) * 2 < self._frames_max and self._bytes * 2 < self._bytes_max:
                    self._less.set()
                await self.ws.send_frame(frame, WSMsgType.TEXT)
                self._counters.frames_out += 1
            self._more.clear()
            await self._more.wait()

    async def flush(self) -> None:
        """Send what is left, for a moment."""
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(GOODBYE_S):
                while self._queue:
                    await self.ws.send_frame(self._queue.popleft(), WSMsgType.TEXT)


async def close(ws: web.WebSocketResponse, end: End) -> None:
    """Say why, wait a moment for the client's answer, and let the connection go in any case."""
    with contextlib.suppress(TimeoutError, OSError, RuntimeError):
        async with asyncio.timeout(GOODBYE_S):
            await ws.close(code=end.code, message=end.reason.encode())
