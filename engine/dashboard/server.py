"""The server: routes, limits, and what stands around every answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import hdrs, web

from engine.dashboard.access import Access
from engine.dashboard.api import all_routes
from engine.dashboard.assets import Assets
from engine.dashboard.guard import HEADERS, OPEN_PATHS, Guard
from engine.dashboard.live import Live
from engine.dashboard.overview import Overviews
from engine.dashboard.pulse import Pulse
from engine.dashboard.redact import Redactor
from engine.dashboard.routes import (
    BODY_BYTES_MAX,
    NOBODY,
    Refused,
    Route,
    carry_out,
    problem,
)
from engine.dashboard.site import HttpState, Site
from engine.dashboard.tokens_file import TokensFile
from engine.errors import EngineError
from engine.logs import get_logger
from engine.settings import http_address
from engine.tokens import all_tokens

log = get_logger("http")

HEADER_BYTES_MAX = 8_190
CONNECTIONS_MAX = 256
REQUESTS_MAX = 32
STRANGERS_MAX = 8
"""Requests at a time of those who showed nothing that is known, whose bodies may come slowly."""
SILENT_S_MAX = 15.0
"""Time for which a connection may be open without a complete request."""

TICK_S = 1.0
STOP_S = 2.0

PAGES = {
    "/": "overview",
    "/queues": "queues",
    "/queues/{queue}": "queue",
    "/jobs": "jobs",
    "/jobs/{queue}/{id}": "job",
    "/dead": "dead",
    "/dead/{queue}/{fingerprint}": "dead_group",
    "/operations": "operations",
    "/operations/{queue}/{id}": "operation",
    "/schedules": "schedules",
    "/engines": "engines",
    "/engines/{name}": "engine",
    "/audit": "audit",
    "/about": "about",
    "/login": "login",
}
"""Addresses of the page and their views; all get a shell, which asks for what it shows."""

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpServer:
    """
    Serves the page, the API, metrics, probes and schemas from the loop that runs the jobs.

    Args:
        state: What it tells of.

    Attributes:
        routes: What it answers, apart from the page's own files.
    """

    def __init__(self, state: HttpState) -> None:
        self._state = state
        host, _ = http_address(state.address)
        self._guard = Guard(host, all_tokens(state.token, state.tokens, state.tokens_file))
        self._tokens = TokensFile(
            state.token,
            state.tokens,
            state.tokens_file,
            guard=self._guard,
            engine=state.engine,
            clock=state.clock,
        )
        self._access = Access(self._guard, state.admin, state.rates, state.clock, state.metrics)
        self._overviews = Overviews(
            state.admin,
            state.clock,
            backlog_age_ms_max=state.backlog_age_ms_max,
            own=self._tokens.troubles,
        )
        self._pulse = Pulse(state.clock)
        self._site = Site(
            state=state,
            overviews=self._overviews,
            pulse=self._pulse,
            access=self._access,
            redactor=Redactor(state.payloads, state.redact),
        )
        self._assets = Assets()
        self._live = Live(state.clock, self._access)
        self.routes = all_routes(self._site, self._live)
        self._requests = 0
        self._strangers = 0
        self._connections: set[_Connection] = set()
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """
        Listen, and return the address as host:port.

        Raises:
            EngineError: Nothing can listen there.
        """
        host, port = http_address(self._state.address)
        app = web.Application(middlewares=[self._surround])
        app.add_routes([web.get(path, self._page(view)) for path, view in PAGES.items()])
        app.add_routes([web.get("/static/{digest}/{name:.+}", self._file)])
        app.add_routes([self._bind(route) for route in self.routes])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_S)
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(self._accept, host, port, backlog=128)
        except OSError as error:
            await self._runner.cleanup()
            why = error.strerror or str(error)
            raise EngineError(
                f"http cannot listen on {self._state.address} ({why}); set ENGINE_HTTP to another"
            ) from None
        self._pulse.tick()
        self._ticking = loop.create_task(self._tick())
        if self._state.tokens_file:
            self._following = loop.create_task(self._tokens.follow())
        bound = self._listener.sockets[0].getsockname()[1]
        return f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"

    async def stop(self) -> None:
        """Stop listening, let answers under way finish for a moment, and close."""
        if self._listener is None or self._runner is None:
            return
        self._listener.close()
        for task in filter(None, (self._ticking, self._following)):
            task.cancel()
            await asyncio.wait({task})
        await self._live.close()
        await self._overviews.close()
        await self._runner.cleanup()
        self._listener = None

    @web.middleware
    async def _surround(self, request: web.Request, handler: Answer) -> web.StreamResponse:
        """Let a request in or not, and give every answer its headers."""
        connection = request.protocol
        assert isinstance(connection, _Connection)
        connection.busy = True
        # Streams stay open, and have a bound of their own.
        weight = 0 if request.path == "/api/live" else 1
        self._requests += weight
        try:
            refused = self._refusal(request)
            response = refused if refused is not None else await self._answer(request, handler)
        finally:
            self._requests -= weight
            connection.busy = False
            connection.since_s = self._state.clock.monotonic()
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    def _refusal(self, request: web.Request) -> web.Response | None:
        is_probe = request.path in OPEN_PATHS
        if self._requests > REQUESTS_MAX and not is_probe:
            return problem(Refused(503, "too many requests at a time"))
        if (request.content_length or 0) > BODY_BYTES_MAX:
            response = problem(Refused(413, f"the body may have {BODY_BYTES_MAX} bytes"))
            response.force_close()
            return response
        if is_probe or self._guard.knows_host(request.headers.get(hdrs.HOST, "")):
            return None
        return problem(Refused(421, "unknown host; set a token to serve under other names"))

    async def _answer(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        try:
            return await answer(request)
        except EngineError as error:
            response = problem(error)
            if response.status in {408, 413}:
                # The rest of the body is not waited for.
                response.force_close()
            return response
        except web.HTTPException as error:
            if error.status == 404 and _is_read_by_a_person(request):
                return self._nowhere(request)
            response = problem(Refused(error.status, error.reason.lower()))
            allowed = error.headers.get(hdrs.ALLOW)
            if allowed:
                response.headers[hdrs.ALLOW] = allowed
            return response
        except Exception as error:
            # Callers learn nothing of the inside.
            log.error("http_failed", path=request.path, exc_info=error)
            return problem(Refused(500, "something went wrong; the log says what"))

    def _bind(self, route: Route) -> web.AbstractRouteDef:
        async def answer(request: web.Request) -> web.StreamResponse:
            visitor = await self._access.admit(route, request)
            if visitor.caller is not NOBODY or route.probe:
                return await carry_out(route, request, visitor.caller, visitor.csrf)
            if self._strangers >= STRANGERS_MAX:
                raise Refused(503, "too many requests at a time")
            self._strangers += 1
            try:
                return await carry_out(route, request, visitor.caller, visitor.csrf)
            finally:
                self._strangers -= 1

        return web.route(route.method, route.path, answer)

    def _page(self, view: str) -> Answer:
        async def answer(request: web.Request) -> web.StreamResponse:
            return self._assets.shell(view, request)

        return answer

    def _nowhere(self, request: web.Request) -> web.StreamResponse:
        """Answer with the page, which says that there is nothing and leads back."""
        response = self._assets.shell("overview", request)
        response.set_status(404)
        return response

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return self._assets.file(request)

    def _accept(self) -> asyncio.Protocol:
        if len(self._connections) >= CONNECTIONS_MAX and not self._make_room():
            return _Refused()
        assert self._runner is not None
        assert self._runner.server is not None
        connection = _Connection(
            self._runner.server, self._state.clock.monotonic(), self._connections.discard
        )
        self._connections.add(connection)
        return connection

    def _make_room(self) -> bool:
        """
        Close the connection that has been silent for longest; False where none is silent.

        Without that, whoever opens many and says nothing would keep probes out, and an engine that
        does not answer those is ended.
        """
        silent = [each for each in self._connections if not each.busy]
        if not silent:
            return False
        longest = min(silent, key=lambda each: each.since_s)
        self._connections.discard(longest)
        longest.force_close()
        return True

    async def _tick(self) -> None:
        """Show that the loop turns, and close connections that never finish a request."""
        while True:
            now = self._pulse.tick()
            for connection in list(self._connections):
                if not connection.busy and now - connection.since_s > SILENT_S_MAX:
                    connection.force_close()
            await self._state.clock.sleep(TICK_S)


def _is_read_by_a_person(request: web.Request) -> bool:
    return request.method == "GET" and "text/html" in request.headers.get(hdrs.ACCEPT, "")


class _Connection(web.RequestHandler):
    """One connection, with limits, and with errors that tell nothing of the inside."""

    def __init__(
        self,
        server: web.Server,
        since_s: float,
        on_lost: Callable[[_Connection], None],
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=cast(logging.Logger, None),
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            max_headers=64,
            lingering_time=1.0,
            keepalive_timeout=SILENT_S_MAX,
            auto_decompress=False,
        )
        self.since_s = since_s
        self.busy = False
        self._on_lost = on_lost

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


def _plain(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n")
