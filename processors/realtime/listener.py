"""
The gateway's HTTP side: upgrades to WebSockets, tickets for the application, probes.

Connections are bounded in number and in the time that they may take for a request, and so is
what the kernel keeps for a client that does not read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, cast
from uuid import UUID

import msgspec
import structlog
from aiohttp import hdrs, web

from processors.errors import ConfigurationError, ProcessorError, Refused
from processors.realtime.guard import client_address, is_bearer, is_origin_allowed
from processors.realtime.parts import Parts
from processors.realtime.session import Session
from processors.services.tickets import SessionId
from processors.settings.gateway import address

log = structlog.get_logger("processors.gateway")

PATH: Final = "/ws"
BODY_BYTES_MAX: Final = 4_096
REQUEST_S_MAX: Final = 10.0
"""Time for which a connection may be open without a complete request."""

TICK_S: Final = 1.0
SEND_BUFFER_BYTES: Final = 262_144
"""What the kernel may keep for a client; without it, it would be megabytes."""

SPARE_CONNECTIONS: Final = 256
"""Connections beyond the sockets, for probes and tickets."""

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Server": "streamlane",
}
LOOPBACK: Final = {"127.0.0.1", "::1", "localhost"}


class TicketWish(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """
    Body of ``POST /tickets``.

    Attributes:
        user_id: Whom the ticket lets in.
        session_id: The application's own name of the user's session, to revoke it by.
    """

    user_id: UUID
    session_id: SessionId = ""


class Listener:
    """
    Accepts connections.

    Args:
        parts: What sessions share.
        listen: Where, as host:port.
        ready: Says why the gateway is not ready, or an empty string.
        status: What the gateway tells of itself.
        routes: What else is served.
        shares_port: Let several processes listen on the same port.
    """

    def __init__(
        self,
        parts: Parts,
        listen: str,
        *,
        ready: Callable[[], str],
        status: Callable[[], dict[str, Any]],
        routes: Sequence[web.RouteDef] = (),
        shares_port: bool = False,
    ) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._listen = listen
        self._ready = ready
        self._status = status
        self._routes = routes
        self._shares_port = shares_port
        self._addresses: Counter[str] = Counter()
        self._open = 0
        self.idle = asyncio.Event()
        """Set while no connection is upgraded."""

        self.idle.set()
        self._is_draining = False
        self._connections: set[_Connection] = set()
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    @property
    def open(self) -> int:
        """Upgraded connections, with or without a ticket yet."""
        return self._open

    async def start(self, sock: socket.socket | None = None) -> str:
        """
        Listen, and return the address as host:port.

        Args:
            sock: A socket that is bound already; else one is made.

        Raises:
            ConfigurationError: Nothing can listen there.
        """
        app = web.Application(middlewares=[_surround], client_max_size=BODY_BYTES_MAX)
        app.add_routes(
            [
                web.get(PATH, self._upgrade),
                web.post("/tickets", self._issue),
                web.get("/live", self._live),
                web.get("/ready", self._tell_ready),
                web.get("/status", self._tell_status),
                *self._routes,
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        host, port = address(self._listen)
        try:
            if sock is not None:
                self._server = await loop.create_server(self._accept, sock=sock, backlog=512)
            else:
                self._server = await loop.create_server(
                    self._accept, host, port, backlog=512, reuse_port=self._shares_port or None
                )
        except OSError as error:
            await self._runner.cleanup()
            why = error.strerror or str(error)
            raise ConfigurationError(
                f"the gateway cannot listen on {self._listen} ({why}); "
                "set PROCESSORS_GATEWAY_LISTEN to another address"
            ) from None
        bound = self._server.sockets[0].getsockname()[1]
        return f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"

    def drain(self) -> None:
        """Accept no more; what is open stays."""
        self._is_draining = True
        if self._server is not None:
            self._server.close()

    async def stop(self) -> None:
        """Close what is left."""
        self.drain()
        if self._runner is not None:
            await self._runner.cleanup()

    async def tick(self) -> None:
        """Close connections that never finish a request, until cancelled."""
        clock = self._parts.clock
        while True:
            await clock.sleep(TICK_S)
            oldest_s = clock.monotonic() - REQUEST_S_MAX
            for connection in list(self._connections):
                if not connection.busy and connection.since_s < oldest_s:
                    connection.force_close()

    async def _upgrade(self, request: web.Request) -> web.StreamResponse:
        client = client_address(
            request.remote,
            request.headers.getall("X-Forwarded-For", []),
            self._settings.proxies,
        )
        ticket = request.query.get("ticket", "")
        refused = self._refusal(request, client, ticket)
        if refused is not None:
            self._parts.counters.refused += 1
            return refused
        ws = web.WebSocketResponse(
            heartbeat=self._settings.ping_ms / 1_000,
            max_msg_size=self._settings.frame_bytes_max,
            compress=False,
            timeout=1.0,
        )
        if not ws.can_prepare(request):
            return _plain(426, "connect with a WebSocket", {"Upgrade": "websocket"})
        self._open += 1
        self.idle.clear()
        self._addresses[client] += 1
        try:
            await ws.prepare(request)
            await Session(self._parts, ws).run(ticket)
        finally:
            self._open -= 1
            if not self._open:
                self.idle.set()
            self._addresses[client] -= 1
            if not self._addresses[client]:
                del self._addresses[client]
            if request.transport is not None:
                # What a client does not read must not stay in memory.
                request.transport.abort()
        return ws

    def _refusal(self, request: web.Request, client: str, ticket: str) -> web.Response | None:
        if self._is_draining:
            return _plain(503, "stopping", {"Retry-After": "1"})
        if not is_origin_allowed(request.headers.get(hdrs.ORIGIN), self._settings.origins):
            log.warning("gateway_origin_refused", origin=request.headers[hdrs.ORIGIN][:200])
            return _plain(403, "this origin may not connect; see PROCESSORS_GATEWAY_ORIGINS")
        if self._open >= self._settings.sockets_max:
            return _plain(503, "too many sockets", {"Retry-After": "5"})
        if self._addresses[client] >= self._settings.sockets_ip_max:
            return _plain(429, "too many sockets from this address", {"Retry-After": "30"})
        if ticket and not self._settings.ticket_in_query:
            return _plain(400, "show the ticket in the first frame")
        return None

    async def _issue(self, request: web.Request) -> web.Response:
        if not self._settings.token:
            return _plain(404, "off; set PROCESSORS_GATEWAY_TOKEN")
        if not is_bearer(request.headers, self._settings.token):
            log.warning("gateway_token_refused", remote=request.remote)
            return _plain(401, "a token is needed", {"WWW-Authenticate": "Bearer"})
        if request.content_type != "application/json":
            return _plain(415, "the body must be application/json")
        try:
            wish = msgspec.json.decode(await request.read(), type=TicketWish)
            ticket = await self._parts.tickets.issue_ticket(wish.user_id, wish.session_id)
        except msgspec.DecodeError as error:
            return _plain(400, str(error)[:300])
        except Refused as refused:
            return _plain(400, str(refused))
        except ProcessorError as error:
            log.warning("gateway_ticket_failed", error=str(error)[:200])
            return _plain(503, "tickets cannot be stored now", {"Retry-After": "1"})
        told = {"ticket": ticket, "expiresInMs": self._parts.tickets.ttl_ms}
        return web.json_response(told, status=201)

    async def _live(self, _: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _tell_ready(self, _: web.Request) -> web.Response:
        reason = "stopping" if self._is_draining else self._ready()
        return web.json_response(
            {"ready": not reason, "reason": reason}, status=503 if reason else 200
        )

    async def _tell_status(self, request: web.Request) -> web.Response:
        host, _ = address(self._listen)
        is_allowed = (
            is_bearer(request.headers, self._settings.token)
            if self._settings.token
            else host in LOOPBACK
        )
        if not is_allowed:
            return _plain(401, "a token is needed", {"WWW-Authenticate": "Bearer"})
        return web.json_response(self._status())

    def _accept(self) -> asyncio.Protocol:
        if len(self._connections) >= self._settings.sockets_max + SPARE_CONNECTIONS:
            return _Refused()
        assert self._runner is not None
        assert self._runner.server is not None
        connection = _Connection(
            self._runner.server, self._parts.clock.monotonic(), self._connections.discard
        )
        self._connections.add(connection)
        return connection


@web.middleware
async def _surround(
    request: web.Request, handler: Callable[[web.Request], Any]
) -> web.StreamResponse:
    """Note that a request is under way, and give every answer its headers."""
    connection = request.protocol
    assert isinstance(connection, _Connection)
    connection.busy = True
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPException as error:
        response = _plain(error.status, error.reason.lower())
    except Exception as error:
        # Callers learn nothing of the inside.
        log.error("gateway_request_bug", path=request.path, exc_info=error)
        response = _plain(500, "something went wrong; the log says what")
    finally:
        connection.busy = False
    if not response.prepared:
        for name, value in HEADERS.items():
            # A page has a policy of its own.
            response.headers.setdefault(name, value)
        response.force_close()
    return response


class _Connection(web.RequestHandler):
    """One connection, with limits, and with errors that tell nothing of the inside."""

    def __init__(
        self, server: web.Server, since_s: float, on_lost: Callable[[_Connection], None]
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=cast(logging.Logger, None),
            max_line_size=4_096,
            max_field_size=8_190,
            max_headers=64,
            lingering_time=1.0,
            auto_decompress=False,
        )
        self.since_s = since_s
        self.busy = False
        self._on_lost = on_lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._on_lost(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - the base class says what it is called with
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """Answer what could not be read as a request."""
        response = _plain(status, "the request could not be read" if status < 500 else "failed")
        response.headers.update(HEADERS)
        response.force_close()
        return response


class _Refused(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _plain(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers=headers)
