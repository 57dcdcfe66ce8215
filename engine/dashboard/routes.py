"""
The table of routes: what each takes and gives, and who may ask.

The server is bound from this table, requests are judged by it, and the OpenAPI document is made of
it, so that no route can exist for one of them and not for the others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, TypeVar

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

Scope = Literal["open", "read", "operate", "admin"]
SCOPES: tuple[Scope, ...] = ("open", "read", "operate", "admin")
"""What a caller may do, each including those before it."""

Params = TypeVar("Params")


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
        request: The request itself; None where a live stream asks.
    """

    caller: Caller
    path: Mapping[str, str]
    query: Any = None
    body: Any = None
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


class Refused(EngineError):
    """
    A request that is not carried out.

    Attributes:
        status: The HTTP status.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


async def carry_out(route: Route, request: web.Request, caller: Caller) -> web.StreamResponse:
    """
    Read a request as its route has it, and answer.

    Raises:
        EngineError: It cannot be read, or not be carried out; :func:`problem` says it.
    """
    ask = Ask(
        caller=caller,
        path=dict(request.match_info),
        query=read_query(route, dict(request.query)),
        body=await _read_body(route, request),
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


async def _read_body(route: Route, request: web.Request) -> Any:
    if route.body is None:
        return None
    if request.content_type != "application/json":
        raise Refused(415, "the body must be JSON, with Content-Type: application/json")
    try:
        return msgspec.json.decode(await request.read(), type=route.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"body: {error}") from None


def as_json(
    value: Any, *, status: int = 200, content_type: str = "application/json"
) -> web.Response:
    """Answer with JSON."""
    body = orjson.dumps(msgspec.to_builtins(value))
    return web.Response(status=status, body=body, content_type=content_type)


def problem(error: EngineError) -> web.Response:
    """Say what went wrong, as RFC 9457 has it: title, status, detail."""
    status = _status(error)
    told = {"title": _TITLES.get(status, "failed"), "status": status, "detail": str(error)}
    response = as_json(told, status=status, content_type="application/problem+json")
    if status in {429, 503}:
        response.headers[hdrs.RETRY_AFTER] = "1"
    return response


_TITLES = {
    400: "bad request",
    401: "a token is needed",
    403: "not allowed",
    404: "not found",
    409: "not possible now",
    413: "too large",
    415: "not JSON",
    421: "unknown host",
    429: "too many requests",
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
    "NOBODY",
    "SCOPES",
    "Answer",
    "Ask",
    "Caller",
    "Refused",
    "Route",
    "Scope",
    "as_json",
    "carry_out",
    "problem",
    "read_query",
]
