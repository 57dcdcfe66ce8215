"""The server: routes, limits, and what stands around every answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any, cast

import msgspec
import orjson
from aiohttp import hdrs, web
from prometheus_client import exposition
from prometheus_client.registry import CollectorRegistry

from engine.clock import Clock
from engine.dashboard.guard import HEADERS, OPEN_PATHS, Guard
from engine.dashboard.overview import Overviews, Reads
from engine.dashboard.views import page
from engine.errors import EngineError
from engine.logs import get_logger
from engine.settings import http_address
from schemas.rules import TYPE_NAME

log = get_logger("http")

BODY_BYTES_MAX = 1_048_576
HEADER_BYTES_MAX = 8_190
CONNECTIONS_MAX = 256
REQUESTS_MAX = 32
SILENT_S_MAX = 15.0
"""Time for which a connection may be open without a complete request."""

TICK_S = 1.0
LIVE_S_MAX = 10.0
STOP_S = 2.0

STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpState(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the server tells of.

    Attributes:
        address: Where it listens, as host:port; port 0 picks one.
        token: What callers must show; empty for no check.
        reads: What the page shows.
        metrics: Read at each scrape; its collectors must not ask the server of the queues.
        ready: Reasons for which the engine is not ready.
        schemas: JSON Schemas by job type.
        clock: Tells the time.
        engine: Name of the engine that answers.
        version: Its version.
        backlog_age_ms_max: Age of the oldest waiting job that is still well.
    """

    address: str
    token: str
    reads: Reads
    metrics: CollectorRegistry
    ready: Callable[[], list[str]]
    schemas: Mapping[str, Mapping[str, Any]]
    clock: Clock
    engine: str
    version: str
    backlog_age_ms_max: int = 60_000


class HttpServer:
    """
    Serves the page, the API, metrics, probes and schemas from the loop that runs the jobs.

    Args:
        state: What it tells of.
    """

    def __init__(self, state: HttpState) -> None:
        self._state = state
        host, _ = http_address(state.address)
        self._guard = Guard(host, state.token)
        self._overviews = Overviews(
            state.reads, state.clock, backlog_age_ms_max=state.backlog_age_ms_max
        )
        static = files("engine.dashboard").joinpath("static")
        self._static = {name: static.joinpath(name).read_bytes() for name in STATIC}
        self._ticked_s = 0.0
        self._requests = 0
        self._connections: set[_Connection] = set()
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """
        Listen, and return the address as host:port.

        Raises:
            EngineError: Nothing can listen there.
        """
        host, port = http_address(self._state.address)
        app = web.Application(middlewares=[self._surround])
        app.add_routes([web.get(path, answer) for path, answer in self._routes().items()])
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
        self._ticked_s = self._state.clock.monotonic()
        self._ticking = loop.create_task(self._tick())
        bound = self._listener.sockets[0].getsockname()[1]
        return f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"

    async def stop(self) -> None:
        """Stop listening, let answers under way finish for a moment, and close."""
        if self._listener is None or self._runner is None:
            return
        self._listener.close()
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait({self._ticking})
        await self._overviews.close()
        await self._runner.cleanup()
        self._listener = None

    def _routes(self) -> dict[str, Answer]:
        return {
            "/": self._page,
            "/static/{name}": self._static_file,
            "/api/overview": self._overview,
            "/metrics": self._metrics,
            "/live": self._live,
            "/ready": self._ready,
            "/sd": self._sd,
            "/schemas": self._schemas,
            "/schemas/{name}.json": self._schema,
        }

    @web.middleware
    async def _surround(self, request: web.Request, handler: Answer) -> web.StreamResponse:
        """Let a request in or not, and give every answer its headers."""
        connection = request.protocol
        assert isinstance(connection, _Connection)
        connection.busy = True
        self._requests += 1
        try:
            refused = self._refusal(request)
            response = refused if refused is not None else await self._answer(request, handler)
        finally:
            self._requests -= 1
            connection.busy = False
            connection.since_s = self._state.clock.monotonic()
        response.headers.update(HEADERS)
        return response

    def _refusal(self, request: web.Request) -> web.Response | None:
        is_probe = request.path in OPEN_PATHS
        if self._requests > REQUESTS_MAX and not is_probe:
            return _plain(503, "too many requests at a time", {"Retry-After": "1"})
        if (request.content_length or 0) > BODY_BYTES_MAX:
            response = _plain(413, "the body is too large")
            response.force_close()
            return response
        if is_probe:
            return None
        if not self._guard.knows_host(request.headers.get(hdrs.HOST, "")):
            return _plain(421, "unknown host; set http_token to serve under other names")
        if not self._guard.is_let_in(request.headers):
            log.warning("http_refused", path=request.path, remote=request.remote)
            # Browsers ask for a password, which is the token; the user's name does not matter.
            challenge = {"WWW-Authenticate": 'Basic realm="Streamlane", charset="UTF-8"'}
            return _plain(401, "a token is needed", challenge)
        return None

    async def _answer(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        try:
            return await answer(request)
        except web.HTTPException as error:
            allowed = error.headers.get(hdrs.ALLOW)
            headers = {"Allow": allowed} if allowed else None
            return _plain(error.status, error.reason.lower(), headers)
        except Exception as error:
            # Callers learn nothing of the inside.
            log.error("http_failed", path=request.path, exc_info=error)
            return _plain(500, "something went wrong; the log says what")

    async def _page(self, _: web.Request) -> web.Response:
        seen = await self._overviews.latest()
        text = page(seen, engine=self._state.engine, version=self._state.version)
        return web.Response(text=text, content_type="text/html")

    async def _static_file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._static:
            raise web.HTTPNotFound
        return web.Response(body=self._static[name], content_type=STATIC[name], charset="utf-8")

    async def _overview(self, _: web.Request) -> web.Response:
        seen = await self._overviews.latest()
        return _json(msgspec.to_builtins(seen), status=503 if seen.trouble else 200)

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = exposition.choose_encoder(request.headers.get(hdrs.ACCEPT, ""))
        body = encode(self._state.metrics)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    async def _live(self, _: web.Request) -> web.Response:
        silent_s = self._state.clock.monotonic() - self._ticked_s
        alive = silent_s <= LIVE_S_MAX
        return _json({"live": alive}, status=200 if alive else 503)

    async def _ready(self, request: web.Request) -> web.Response:
        reasons = self._state.ready()
        told: dict[str, object] = {"ready": not reasons}
        if self._guard.is_let_in(request.headers):
            # Reasons quote addresses and errors of servers, which are nobody else's business.
            told["reasons"] = reasons
        return _json(told, status=503 if reasons else 200)

    async def _sd(self, _: web.Request) -> web.Response:
        try:
            engines = await self._state.reads.engines()
        except EngineError:
            # Prometheus keeps the targets that it has.
            return _plain(503, "the engines are not known now")
        targets = [
            {
                "targets": [each.beat.http],
                "labels": {
                    "__meta_streamlane_engine": each.beat.name,
                    "__meta_streamlane_host": each.beat.host,
                    "__meta_streamlane_version": each.beat.version,
                    "__meta_streamlane_queues": ",".join(sorted(each.beat.queues)),
                },
            }
            for each in engines
            if each.live and each.beat.http
        ]
        return _json(targets)

    async def _schemas(self, _: web.Request) -> web.Response:
        names = {name: f"/schemas/{name}.json" for name in self._state.schemas}
        return _json({"schemas": names})

    async def _schema(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if not TYPE_NAME.fullmatch(name) or name not in self._state.schemas:
            raise web.HTTPNotFound
        return _json(dict(self._state.schemas[name]), content_type="application/schema+json")

    def _accept(self) -> asyncio.Protocol:
        if len(self._connections) >= CONNECTIONS_MAX:
            return _Refused()
        assert self._runner is not None
        assert self._runner.server is not None
        connection = _Connection(
            self._runner.server, self._state.clock.monotonic(), self._connections.discard
        )
        self._connections.add(connection)
        return connection

    async def _tick(self) -> None:
        """Show that the loop turns, and close connections that never finish a request."""
        while True:
            now = self._ticked_s = self._state.clock.monotonic()
            for connection in list(self._connections):
                if not connection.busy and now - connection.since_s > SILENT_S_MAX:
                    connection.force_close()
            await self._state.clock.sleep(TICK_S)


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


def _plain(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers=headers)


def _json(value: Any, *, status: int = 200, content_type: str = "application/json") -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type=content_type)
