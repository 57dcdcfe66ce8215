"""Lets requests in: who asks, whether it may, whether a page elsewhere sent it, how often."""

from __future__ import annotations

import hmac
import math

import msgspec
from aiohttp import hdrs, web
from prometheus_client import Counter
from prometheus_client.registry import CollectorRegistry

from engine.clock import Clock
from engine.dashboard.guard import Guard, is_embedded, is_from_elsewhere
from engine.dashboard.limits import Buckets, Rates
from engine.dashboard.routes import NOBODY, Caller, Refused, Route
from engine.dashboard.sessions import Found, Keeps, Sessions
from engine.logs import get_logger

log = get_logger("http")

COOKIE = "__Host-streamlane"
PLAIN_COOKIE = "streamlane"
"""Over plain HTTP from elsewhere than loopback, where browsers refuse the other."""
COOKIE_CHARS_MAX = 128
CSRF = "X-CSRF-Token"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class Visitor(msgspec.Struct, frozen=True):
    """
    Who asks, and how it showed that.

    Attributes:
        caller: Who.
        csrf: What a session's requests that change something must carry; empty without one.
    """

    caller: Caller
    csrf: str = ""


class Access:
    """
    Lets requests in.

    Args:
        guard: Knows tokens and hosts.
        keeps: Where sessions are kept.
        rates: How much each caller may ask for.
        clock: Refills that.
        metrics: Takes the counts of what was refused.

    Attributes:
        guard: Knows tokens and hosts.
        sessions: Sessions of browsers.
    """

    def __init__(
        self, guard: Guard, keeps: Keeps, rates: Rates, clock: Clock, metrics: CollectorRegistry
    ) -> None:
        self.guard = guard
        self.sessions = Sessions(keeps, guard, clock)
        self._reads = Buckets(rates.reads, clock)
        self._writes = Buckets(rates.writes, clock)
        self._failures = Buckets(rates.failures, clock)
        self._reports = Buckets(rates.reports, clock)
        self._refusals = Counter(
            "engine_http_refused",
            "Requests that were not let in, by why.",
            ["why"],
            registry=metrics,
        )

    async def admit(self, route: Route, request: web.Request) -> Visitor:
        """
        Let a request in.

        Raises:
            Refused: It may not come in.
            StoreError: Its session cannot be looked up now.
        """
        if route.report:
            self._limit(self._reports, _address(request))
            return Visitor(NOBODY)
        visitor = await self.visitor(request, with_session=route.scope != "open")
        if not visitor.caller.may(route.scope):
            raise self._not_allowed(route, request, visitor.caller)
        if route.method == "GET":
            if is_embedded(request.headers):
                raise self._refused(403, "cross-site", "pages of other sites may not ask for this")
        else:
            self._check_sender(request, visitor.csrf)
        self._limit(self._buckets(route), visitor.caller.name or _address(request))
        return visitor

    async def visitor(self, request: web.Request, *, with_session: bool = True) -> Visitor:
        """
        Tell who asks.

        Raises:
            StoreError: Its session cannot be looked up now.
        """
        caller = self.guard.caller(request.headers)
        if caller is not NOBODY or not with_session:
            return Visitor(caller)
        found = await self.session(request)
        return Visitor(found.caller, found.csrf) if found else Visitor(NOBODY)

    async def session(self, request: web.Request) -> Found | None:
        """
        Find the session of the browser that asks.

        Raises:
            StoreError: It cannot be looked up now.
        """
        name = self.cookie(request)
        return await self.sessions.find(name) if name else None

    def cookie(self, request: web.Request) -> str:
        """Return what the browser keeps of its session; empty for nothing."""
        kept = request.cookies.get(COOKIE) or request.cookies.get(PLAIN_COOKIE, "")
        return kept if len(kept) <= COOKIE_CHARS_MAX else ""

    def check_csrf(self, request: web.Request, csrf: str) -> None:
        """
        Check that a session's own page sent a request.

        Raises:
            Refused: It did not.
        """
        shown = request.headers.get(CSRF, "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(shown, csrf.encode()):
            raise self._refused(403, "csrf", f"{CSRF} must be what /api/me tells as csrf")

    def check_failures(self, request: web.Request) -> None:
        """
        Refuse an address that showed too many wrong tokens of late.

        Raises:
            Refused: It did.
        """
        wait_s = self._failures.wait_s(_address(request))
        if wait_s:
            raise self._too_many(wait_s)

    def note_failure(self, request: web.Request) -> None:
        """
        Note that a token was shown that is none.

        Raises:
            Refused: That was one too many.
        """
        log.warning("http_wrong_token", path=request.path, remote=request.remote)
        self._limit(self._failures, _address(request))

    def _not_allowed(self, route: Route, request: web.Request, caller: Caller) -> Refused:
        if caller is not NOBODY:
            detail = f"{caller.name} may {caller.scope}, but this needs {route.scope}"
            self._limit(self._buckets(route), caller.name)
            if route.method != "GET":
                # The audit holds what was changed, the log what somebody tried to.
                log.warning("http_refused", who=caller.name, path=request.path, needs=route.scope)
            return self._refused(403, "scope", detail)
        if hdrs.AUTHORIZATION in request.headers:
            self.note_failure(request)
        return self._refused(401, "token", "show a token, or log in on the page")

    def _check_sender(self, request: web.Request, csrf: str) -> None:
        if is_from_elsewhere(request.headers):
            raise self._refused(403, "cross-site", "only the page itself may change something")
        if request.method == "POST" and request.content_type != "application/json":
            # Other sites' forms cannot send this type without asking first.
            raise Refused(415, "the body must be JSON, with Content-Type: application/json")
        if csrf:
            self.check_csrf(request, csrf)

    def _buckets(self, route: Route) -> Buckets:
        return self._reads if route.method == "GET" else self._writes

    def _limit(self, buckets: Buckets, key: str) -> None:
        wait_s = buckets.take(key)
        if wait_s:
            raise self._too_many(wait_s)

    def _too_many(self, wait_s: float) -> Refused:
        seconds = max(1, math.ceil(wait_s))
        told = f"too many requests; try again in {seconds} s"
        return self._refused(429, "rate", told, retry_after_s=seconds)

    def _refused(self, status: int, why: str, detail: str, *, retry_after_s: int = 1) -> Refused:
        self._refusals.labels(why).inc()
        return Refused(status, detail, retry_after_s=retry_after_s)


def set_cookie(response: web.Response, request: web.Request, value: str, *, max_age_s: int) -> None:
    """
    Let a browser keep its session.

    Its ``Origin`` tells how it came, also through a proxy. Over TLS, and to loopback, the cookie's
    name binds it to this host and to secure ways; plain HTTP from elsewhere can have neither.
    """
    scheme, _, host = request.headers.get(hdrs.ORIGIN, "https://").partition("://")
    is_secure = scheme != "http" or host.rpartition(":")[0] in LOOPBACK or host in LOOPBACK
    response.set_cookie(
        COOKIE if is_secure else PLAIN_COOKIE,
        value,
        path="/",
        max_age=max_age_s,
        secure=is_secure,
        httponly=True,
        samesite="Strict",
    )


def clear_cookies(response: web.Response) -> None:
    """Let a browser forget its session."""
    for name, secure in ((COOKIE, True), (PLAIN_COOKIE, False)):
        response.set_cookie(
            name, "", path="/", max_age=0, secure=secure, httponly=True, samesite="Strict"
        )


def _address(request: web.Request) -> str:
    return request.remote or "?"
