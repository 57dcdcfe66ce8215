"""
The table of routes: what each takes and gives, and who may ask.

The server is bound from this table, requests are judged by it, and the OpenAPI document is made of
it, so that no route can exist for one of them and not for the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, get_args

import msgspec
import orjson
from aiohttp import hdrs, web

from engine.errors import (
    EngineError,
    NotFound,
    StoreError,
    StoreRefused,
    WrongState,
)

BODY_BYTES_MAX = 1_048_576
BODY_S_MAX = 10.0
"""Time that a body may take to come."""

Scope = Literal["open", "metrics", "read", "operate", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""What a caller may do, each including those before it; ``metrics`` is for what scrapes."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """
    Who asks.

    Attributes:
        name: As the audit stream shows it.
        scope: The most that it may do.
    """

    name: str
    scope: Scope

    def may(self, scope: Scope) -> bool:
        """Tell whether this caller may do what a scope stands for."""
        return SCOPES.index(scope) <= SCOPES.index(self.scope)


NOBODY = Caller(name="", scope="open")
"""Who showed nothing that is known."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """
    One request, read and checked.

    Attributes:
        caller: Who asks.
        path: The path's variables.
        query: What the query string says, as the route's ``query`` type has it.
        body: What the body says, as the route's ``body`` type has it.
        csrf: What the session's requests that change something must carry; empty without one.
        request: The request itself; None where a live stream asks.
    """

    caller: Caller
    path: Mapping[str, str]
    query: Any = None
    body: Any = None
    csrf: str = ""
    request: web.Request | None = None


Answer = Callable[[Ask], Awaitable[Any]]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """
    One route.

    Attributes:
        method: GET to look, POST or DELETE to change.
        path: With variables in braces.
        scope: What a caller must be allowed.
        summary: What it does, in one sentence.
        answer: Answers; returns a response, or what is sent as JSON.
        query: A struct of what the query string may say; None for nothing.
        body: A struct of what the JSON body must say; None for no body.
        returns: The type of the answer, for the OpenAPI document; None where that is no JSON.
        live: Whether a live stream may ask for it once a second.
        gives: Content types of the answer; none where there is nothing to say.
        probe: Whether it says that something is not well by 503, in the same words.
        report: Whether browsers send it by themselves, from wherever, with nothing shown.
    """

    method: Literal["GET", "POST", "DELETE"] = "GET"
    path: str
    scope: Scope
    summary: str
    answer: Answer
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    returns: Any = None
    live: bool = False
    gives: tuple[str, ...] = ("application/json",)
    probe: bool = False
    report: bool = False


class Problem(msgspec.Struct, frozen=True):
    """
    What went wrong, as RFC 9457 has it.

    Attributes:
        title: The kind of problem.
        status: The HTTP status.
        detail: What was wrong, and often what to do.
    """

    title: str
    status: int
    detail: str


class Refused(EngineError):
    """
    A request that is not carried out.

    Attributes:
        status: The HTTP status.
        retry_after_s: When to try again, where that may help.
    """

    def __init__(self, status: int, detail: str, *, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.status = status
        self.retry_after_s = retry_after_s


async def carry_out(
    route: Route, request: web.Request, caller: Caller, csrf: str = ""
) -> web.StreamResponse:
    """
    Read a request as its route has it, and answer.

    Raises:
        EngineError: It cannot be read, or not be carried out; :func:`problem` says it.
    """
    ask = Ask(
        caller=caller,
        path=dict(request.match_info),
        query=read_query(route, dict(request.query)),
        body=await _read_json(route, request),
        csrf=csrf,
        request=request,
    )
    told = await route.answer(ask)
    return told if isinstance(told, web.StreamResponse) else as_json(told)


def read_query(route: Route, given: Mapping[str, str]) -> Any:
    """
    Read a query string as a route's ``query`` type.

    Raises:
        Refused: Something in it is unknown or out of range.
    """
    if route.query is None:
        if given and route.path.startswith("/api/"):
            raise Refused(400, f"{route.path} takes no query, but got {', '.join(sorted(given))}")
        return None
    try:
        return msgspec.convert(given, route.query, strict=False)
    except msgspec.ValidationError as error:
        raise Refused(400, f"query: {error}") from None


async def read_body(request: web.Request, *, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """
    Read a body, bounded in size and time.

    Raises:
        Refused: It is too large, packed, or does not come.
    """
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        # What a few bytes unpack to has no bound.
        raise Refused(415, "the body must not be packed")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S_MAX):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > bytes_max:
                    raise Refused(413, f"the body may have {bytes_max} bytes")
    except TimeoutError:
        raise Refused(408, f"the body did not come within {BODY_S_MAX:.0f} s") from None
    return bytes(body)


async def _read_json(route: Route, request: web.Request) -> Any:
    if route.body is None:
        return None
    try:
        return msgspec.json.decode(await read_body(request), type=route.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"body: {error}") from None


def as_json(
    value: Any, *, status: int = 200, content_type: str = "application/json"
) -> web.Response:
    """Answer with JSON."""
    body = encoded(msgspec.to_builtins(value))
    return web.Response(status=status, body=body, content_type=content_type)


def encoded(value: Any) -> bytes:
    """Write plain values as JSON."""
    try:
        return orjson.dumps(value)
    except TypeError:
        # A number of more than 64 bits, which somebody set by hand, must not hide all else.
        return msgspec.json.encode(value)


def problem(error: EngineError) -> web.Response:
    """Say what went wrong, as RFC 9457 has it: title, status, detail."""
    status = _status(error)
    told = Problem(title=TITLES.get(status, "failed"), status=status, detail=str(error))
    response = as_json(told, status=status, content_type="application/problem+json")
    if status in {429, 503}:
        after_s = error.retry_after_s if isinstance(error, Refused) else 1
        response.headers[hdrs.RETRY_AFTER] = str(after_s)
    if status == 401:
        # Not Basic, for which browsers would ask by themselves, beside the page's own form.
        response.headers[hdrs.WWW_AUTHENTICATE] = 'Bearer realm="Streamlane"'
    return response


TITLES = {
    400: "bad request",
    401: "a token is needed",
    403: "not allowed",
    404: "not found",
    405: "not allowed",
    408: "too slow",
    409: "not possible now",
    413: "too large",
    415: "not JSON",
    421: "unknown host",
    429: "too many requests",
    500: "failed",
    502: "refused by the server of the queues",
    503: "not possible now",
}


def _status(error: EngineError) -> int:
    match error:
        case Refused():
            return error.status
        case NotFound():
            return 404
        case WrongState():
            return 409
        case StoreRefused():
            return 502
        case StoreError():
            return 503
    return 400


__all__ = [
    "BODY_BYTES_MAX",
    "NOBODY",
    "SCOPES",
    "TITLES",
    "Answer",
    "Ask",
    "Caller",
    "Problem",
    "Refused",
    "Route",
    "Scope",
    "as_json",
    "carry_out",
    "encoded",
    "problem",
    "read_body",
    "read_query",
]
