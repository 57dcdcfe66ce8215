"""One client, from the upgrade to the end of its socket."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import Final

import structlog
from aiohttp import WSMsgType, web
from redis.exceptions import RedisError

from engine import Clock
from processors.errors import ServiceUnavailable
from processors.realtime.channels import DatabaseTrouble
from processors.realtime.joining import Follower
from processors.realtime.parts import Parts
from processors.realtime.requests import BadFrame, read_frame
from processors.realtime.socket import Code, End, Socket, close
from processors.services.tickets import Grant
from schemas.realtime import PROTOCOL, Auth, Fault, Hello

log = structlog.get_logger("processors.gateway")

ENTER_S_MAX: Final = 10.0
BAD_FRAMES_MAX: Final = 20
BURST_S: Final = 4.0
"""A socket may send as many frames at once as it may send in this time."""

GONE: Final = End(1006, "gone", is_abrupt=True)
"""The client went, or broke the protocol and was told so already."""

UNAVAILABLE: Final = End(Code.BUSY, "unavailable")
NO_TICKET: Final = End(Code.UNAUTHENTICATED, "ticket")

Trouble = (*DatabaseTrouble, ServiceUnavailable, RedisError, OSError, TimeoutError)


class Pace:
    """
    Slows down a client that sends more than it may; it is made to wait, not refused.

    Args:
        clock: Gives time.
        frames_per_s: How much it may send.
    """

    def __init__(self, clock: Clock, frames_per_s: int) -> None:
        self._clock = clock
        self._rate = frames_per_s
        self._left = frames_per_s * BURST_S
        self._at_s = clock.monotonic()

    async def step(self) -> None:
        """Wait until one more frame may be looked at."""
        now_s = self._clock.monotonic()
        self._left = min(self._rate * BURST_S, self._left + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        self._left -= 1
        if self._left < 0:
            await self._clock.sleep(-self._left / self._rate)


class Session:
    """
    Serves one connection.

    Args:
        parts: What all sessions of a gateway share.
        ws: The connection, after its upgrade.
    """

    def __init__(self, parts: Parts, ws: web.WebSocketResponse) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._ws = ws

    async def run(self, ticket: str = "") -> End:
        """
        Serve until the socket ends, and return how it did.

        Args:
            ticket: One that came with the request; empty where the first frame brings it.
        """
        grant = await self._authenticate(ticket)
        if isinstance(grant, End):
            self._parts.counters.refused += 1
            await close(self._ws, grant)
            return grant
        socket = self._socket(grant)
        follower = self._parts.follower(socket)
        try:
            end = await self._serve(socket, follower)
        finally:
            follower.leave_all()
            self._parts.hub.leave(socket)
            self._parts.attendance.close(socket)
        if end is not GONE:
            if not end.is_abrupt:
                await socket.flush()
            await close(self._ws, end)
        return end

    async def _authenticate(self, ticket: str) -> Grant | End:
        """Take the ticket, and see whether its user may come in."""
        try:
            shown = ticket or await self._first_ticket()
            grant = await self._parts.tickets.redeem(shown) if shown else None
            if grant is None:
                return NO_TICKET
            if await self._parts.sync.gone_users([grant.user_id]):
                return End(Code.FORBIDDEN, "user-disabled")
        except Trouble as error:
            log.debug("gateway_ticket_unknown", error=type(error).__name__)
            return UNAVAILABLE
        return grant

    async def _first_ticket(self) -> str:
        try:
            async with asyncio.timeout(self._settings.auth_ms / 1_000):
                message = await self._ws.receive()
        except TimeoutError:
            return ""
        if message.type is not WSMsgType.TEXT:
            return ""
        with contextlib.suppress(BadFrame):
            frame = read_frame(message.data)
            return frame.ticket if isinstance(frame, Auth) else ""
        return ""

    async def _serve(self, socket: Socket, follower: Follower) -> End:
        """Run reader and writer until one of them, or somebody else, ends the socket."""
        reader = asyncio.create_task(self._read(socket, follower))
        writer = asyncio.create_task(socket.write())
        for task in (reader, writer):
            task.add_done_callback(lambda task: socket.end(_end_of(task)))
        try:
            return await socket.ended
        finally:
            reader.cancel()
            writer.cancel()
            await asyncio.wait({reader, writer})

    async def _read(self, socket: Socket, follower: Follower) -> None:
        """Let the socket in, then follow its frames until it goes."""
        try:
            await self._enter(socket)
        except Trouble as error:
            log.debug("gateway_enter_failed", error=type(error).__name__)
            socket.end(UNAVAILABLE)
            return
        requests = self._parts.requests(socket, follower)
        pace = Pace(self._parts.clock, self._settings.frames_per_s)
        bad = 0
        while True:
            message = await self._ws.receive()
            if message.type is WSMsgType.BINARY:
                socket.end(End(Code.UNSUPPORTED, "text-only"))
                return
            if message.type is not WSMsgType.TEXT:
                return
            self._parts.counters.frames_in += 1
            await pace.step()
            try:
                frame = read_frame(message.data)
            except BadFrame as error:
                bad += 1
                self._parts.counters.frames_bad += 1
                socket.tell(Fault(code="bad-frame", detail=str(error)))
                if bad >= BAD_FRAMES_MAX:
                    socket.end(End(Code.POLICY, "bad-frames"))
                    return
                continue
            await requests.follow(frame)

    async def _enter(self, socket: Socket) -> None:
        """Hear the user's events, then see what was revoked before they were heard."""
        others = self._parts.hub.users.get(socket.user_id, ())
        if len(others) >= self._settings.sockets_user_max:
            self._parts.counters.refused += 1
            socket.end(End(Code.TOO_MANY, "too-many-sockets"))
            return
        async with asyncio.timeout(ENTER_S_MAX):
            await self._parts.hub.enter(socket)
        for revoked in await self._parts.revocations.since(socket.grant.issued_ms):
            if revoked.user_id == socket.user_id:
                self._parts.hub.revoke(revoked)
        if socket.ended.done():
            return
        self._parts.counters.opened += 1
        socket.tell(
            Hello(
                protocol=PROTOCOL,
                user_id=socket.user_id,
                socket_id=socket.socket_id,
                ping_ms=self._settings.ping_ms,
                frame_bytes_max=self._settings.frame_bytes_max,
                subscriptions_max=self._settings.subscriptions_max,
                server_ms=self._parts.clock.now_ms(),
            )
        )
        self._parts.attendance.open(socket)

    def _socket(self, grant: Grant) -> Socket:
        return Socket(
            self._ws,
            grant,
            socket_id=secrets.token_hex(8),
            opened_s=self._parts.clock.monotonic(),
            frames_max=self._settings.queue_max,
            bytes_max=self._settings.queue_bytes_max,
            counters=self._parts.counters,
        )


def _end_of(task: asyncio.Task[None]) -> End:
    """Say how a socket ends whose reader or writer has ended."""
    if task.cancelled() or (error := task.exception()) is None or isinstance(error, OSError):
        return GONE
    log.error("gateway_bug", exc_info=error)
    return End(Code.BUG, "internal")
