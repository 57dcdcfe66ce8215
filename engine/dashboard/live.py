"""
Live values: one stream of server-sent events per address that somebody looks at.

An address is asked for once a second however many streams follow it, by the route that plain
requests take; less often where the answer is so large that the engine would notice. A stream begins
with a ``snapshot``; what changes comes as ``patch`` (JSON Merge Patch, RFC 7396), or as another
snapshot where a patch cannot say it; ``same`` says that nothing did, and ``trouble`` why nothing
newer is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from aiohttp import hdrs, web

from engine.clock import Clock
from engine.dashboard.access import Access
from engine.dashboard.guard import HEADERS
from engine.dashboard.routes import Ask, Caller, Refused, Route, encoded, problem, read_query
from engine.errors import EngineError, StoreError
from engine.logs import get_logger

log = get_logger("http")

EVERY_S = 1.0
REST = 20
"""An address whose answer took the loop for some time is left alone for so many times that."""
STREAMS_MAX = 64
STREAMS_EACH_MAX = 40
"""Of one caller, so that one alone does not take the streams of all."""
CHECK_S = 5.0
"""Time between two looks at whether a reader's session goes on."""
SILENT_S_MAX = 10.0
"""Time that a reader may take nothing of an event before its connection is ended."""
BEHIND_MAX = 16
"""Events that a slow reader may be behind before it is dropped; its browser connects again."""

SAME: Final = object()


class LiveQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What a stream follows.

    Attributes:
        of: Path and query of a route that is live, such as ``/api/overview``.
    """

    of: str


class Live:
    """
    All streams of one server.

    Args:
        clock: Paces them.
        access: Tells who may still look.
    """

    def __init__(self, clock: Clock, access: Access) -> None:
        self._clock = clock
        self._access = access
        self._routes: list[tuple[re.Pattern[str], Route]] = []
        self._channels: dict[tuple[str, Caller], _Channel] = {}
        self._streams: Counter[str] = Counter()

    def follow(self, routes: Sequence[Route]) -> None:
        """Learn which routes there are."""
        self._routes = [(_pattern(route.path), route) for route in routes if route.live]

    async def close(self) -> None:
        """End all streams."""
        for channel in list(self._channels.values()):
            await channel.close()

    async def answer(self, ask: Ask) -> web.StreamResponse:
        """
        Answer with a stream.

        Raises:
            Refused: There is no such live route, the caller may not see it, or there are too many
                streams.
        """
        assert ask.request is not None
        key = (ask.query.of, ask.caller)
        channel = self._channels.get(key)
        who = ask.caller.name
        if self._streams.total() >= STREAMS_MAX or self._streams[who] >= STREAMS_EACH_MAX:
            told = f"{self._streams[who]} live streams of {who} are open, and all in all "
            raise Refused(503, f"{told}{self._streams.total()}; close some tabs")
        if channel is None:
            channel = _Channel(*self._resolve(ask.query.of, ask.caller), clock=self._clock)
            self._channels[key] = channel
        self._streams[who] += 1
        try:
            return await self._send(ask.request, ask.caller, channel)
        finally:
            self._streams[who] -= 1
            if not channel.readers and self._channels.get(key) is channel:
                del self._channels[key]
                await channel.close()

    async def _send(
        self, request: web.Request, caller: Caller, channel: _Channel
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={**HEADERS, hdrs.CONTENT_TYPE: "text/event-stream"})
        reader = channel.join()
        checked_s = self._clock.monotonic()
        try:
            await response.prepare(request)
            while (event := await reader.get()) is not None:
                async with asyncio.timeout(SILENT_S_MAX):
                    await response.write(event)
                if self._clock.monotonic() - checked_s >= CHECK_S:
                    checked_s = self._clock.monotonic()
                    if not await self._may_stay(request, caller):
                        break
        except ConnectionError:
            # The reader went away.
            pass
        except TimeoutError:
            # It is there and does not read, so it keeps its place from others for nothing.
            if request.transport is not None:
                request.transport.abort()
        finally:
            channel.readers.discard(reader)
        return response

    async def _may_stay(self, request: web.Request, caller: Caller) -> bool:
        """Tell whether the session still is what it was when the stream began."""
        try:
            return (await self._access.visitor(request)).caller == caller
        except StoreError:
            # The stream itself says that the server is away.
            return True

    def _resolve(self, of: str, caller: Caller) -> tuple[Route, Ask]:
        parts = urlsplit(of)
        for pattern, route in self._routes:
            found = pattern.fullmatch(parts.path)
            if found is None:
                continue
            if not caller.may(route.scope):
                raise Refused(403, f"{caller.name} may not follow this; it needs {route.scope}")
            query = read_query(route, dict(parse_qsl(parts.query)))
            path = {name: unquote(value) for name, value in found.groupdict().items()}
            return route, Ask(caller=caller, path=path, query=query)
        raise Refused(404, f"{parts.path!r} is nothing that can be followed live")


class _Channel:
    """One address, asked for once a second, and those who follow it."""

    def __init__(self, route: Route, ask: Ask, *, clock: Clock) -> None:
        self._route = route
        self._ask = ask
        self._clock = clock
        self._last: Any = SAME
        self._trouble = b""
        self._took_s = 0.0
        self.readers: set[asyncio.Queue[bytes | None]] = set()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def join(self) -> asyncio.Queue[bytes | None]:
        """Take in a reader; it begins with what is known."""
        reader: asyncio.Queue[bytes | None] = asyncio.Queue(BEHIND_MAX)
        if self._last is not SAME:
            reader.put_nowait(_event("snapshot", self._last))
        if self._trouble:
            reader.put_nowait(self._trouble)
        self.readers.add(reader)
        return reader

    async def close(self) -> None:
        """End the stream for all readers."""
        self._task.cancel()
        await asyncio.wait({self._task})
        for reader in self.readers:
            _end(reader)

    async def _run(self) -> None:
        while True:
            self._tell(await self._next())
            await self._clock.sleep(max(EVERY_S, REST * self._took_s))

    async def _next(self) -> bytes:
        try:
            return self._told(await self._route.answer(self._ask))
        except EngineError as error:
            self._trouble = b"event: trouble\ndata: " + _text(problem(error)) + b"\n\n"
            return self._trouble
        except Exception as error:
            # Readers learn nothing of the inside, and the stream goes on.
            log.error("live_failed", path=self._route.path, exc_info=error)
            self._trouble = _event("trouble", {"status": 500, "detail": "the log says what failed"})
            return self._trouble

    def _told(self, told: Any) -> bytes:
        """Say what is new, and note how long the loop was kept from all else by that."""
        began_s = self._clock.monotonic()
        value = msgspec.to_builtins(told)
        event = change_of(self._last, value)
        self._trouble, self._last = b"", value
        self._took_s = self._clock.monotonic() - began_s
        return event

    def _tell(self, event: bytes) -> None:
        for reader in list(self.readers):
            try:
                reader.put_nowait(event)
            except asyncio.QueueFull:
                self.readers.discard(reader)
                _end(reader)


def change_of(before: Any, after: Any) -> bytes:
    """Say by an event what turns one value into another."""
    if before is SAME:
        return _event("snapshot", after)
    change = merge_patch(before, after)
    if change is SAME:
        return _event("same", None)
    return _event("patch", change) if is_sayable(before, change) else _event("snapshot", after)


def is_sayable(before: Any, patch: Any) -> bool:
    """
    Tell whether a patch can be told apart from one that takes things away.

    In a patch null takes a member away, so it cannot bring an object that holds null, such as the
    result of a job.
    """
    if not isinstance(patch, Mapping):
        return True
    known = before if isinstance(before, Mapping) else {}
    return all(
        name in known if value is None else is_sayable(known.get(name), value)
        for name, value in patch.items()
    )


def merge_patch(before: Any, after: Any) -> Any:
    """Return what turns one value into another, as RFC 7396 has it, or ``SAME``."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        changes = {name: None for name in before if name not in after}
        for name, value in after.items():
            change = merge_patch(before[name], value) if name in before else value
            if change is not SAME:
                changes[name] = change
        return changes or SAME
    return SAME if before == after else after


def _end(reader: asyncio.Queue[bytes | None]) -> None:
    """Let a reader's stream end, whatever it has not read yet."""
    with contextlib.suppress(asyncio.QueueEmpty):
        while True:
            reader.get_nowait()
    reader.put_nowait(None)


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)))


def _event(name: str, data: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + encoded(data) + b"\n\n"


def _text(response: web.Response) -> bytes:
    body = response.body
    assert isinstance(body, bytes)
    return body
