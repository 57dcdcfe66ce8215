"""
A browser's push service together with the browsers: it checks what RFC 8030 and 8292 ask for, and
decrypts what arrives by an implementation that is not ours.

Each browser's keys follow from its name, so that another process can subscribe it, too.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import http_ece
import jwt
import orjson
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from processors.senders.web_push_crypto import decoded, encoded

HOST: Final = "127.0.0.1"
SUBJECT: Final = "mailto:ops@example.com"
BODY_BYTES_MAX: Final = 4_096
VAPID_S_MAX: Final = 86_400

Silence = Literal["hang", "close"]


@dataclass(frozen=True)
class Refuse:
    """Answer a request with an error."""

    http: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


Step = Refuse | Silence


@dataclass(frozen=True)
class Arrived:
    """
    One push that a browser could read.

    Attributes:
        browser: Its name.
        content: What its service worker is handed.
        headers: The request's headers.
    """

    browser: str
    content: dict[str, Any]
    headers: dict[str, str]

    @property
    def line(self) -> str:
        """The push on one line, for people."""
        shown = f"{self.content.get('title')}: {self.content.get('body')}"
        return f"push webpush → {self.browser}: {'(silent)' if self.content['silent'] else shown}"


def browser_keys(browser: str) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    """Return the private key and the secret of a browser."""
    seed = hashlib.sha512(f"streamlane peer {browser}".encode()).digest()
    number = int.from_bytes(seed[:31]) + 1
    return ec.derive_private_key(number, ec.SECP256R1()), seed[48:]


def public_keys(browser: str) -> dict[str, str]:
    """Return what a browser's subscription says, beside the endpoint."""
    key, secret = browser_keys(browser)
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return {"p256dh": encoded(point), "auth": encoded(secret)}


def by_browser(browser: str) -> Step | None:
    """Refuse browsers that ask for it: those that begin with ``gone``, ``busy`` or ``down``."""
    if browser.startswith("gone"):
        return Refuse(410)
    if browser.startswith("busy"):
        return Refuse(429, {"Retry-After": "2"})
    return Refuse(503) if browser.startswith("down") else None


@dataclass
class WebPushPeer:
    """
    The service; an asynchronous context manager.

    Attributes:
        answers: What happens to the next requests, in their order.
        rule: How pushes are refused by their browser's name, such as :func:`by_browser`.
        on_arrival: Is told of each push, as a line.
        server_key: The one that subscriptions are made for; a new one where none is given.
        body_bytes_max: The longest body that is taken.
        received: The pushes that arrived.
        asked: Requests so far.
    """

    answers: deque[Step] = field(default_factory=deque)
    rule: Callable[[str], Step | None] | None = None
    on_arrival: Callable[[str], None] | None = None
    server_key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    body_bytes_max: int = BODY_BYTES_MAX
    port: int = 0
    received: list[Arrived] = field(default_factory=list)
    asked: int = 0

    name: str = "webpush"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    @property
    def public_key(self) -> str:
        """The key that subscriptions are made for."""
        point = self.server_key.public_key().public_bytes(
            Encoding.X962, PublicFormat.UncompressedPoint
        )
        return encoded(point)

    def endpoint(self, browser: str) -> str:
        """Return where pushes for a browser go."""
        return f"{self.url}/push/{browser}"

    def environ(self) -> dict[str, str]:
        """Return the settings that make an engine send here."""
        number = self.server_key.private_numbers().private_value
        return {
            "PROCESSORS_PUSH_WEBPUSH_VAPID_KEY": encoded(number.to_bytes(32)),
            "PROCESSORS_PUSH_WEBPUSH_SUBJECT": SUBJECT,
            "PROCESSORS_PUSH_WEBPUSH_ALLOW_LOOPBACK": "true",
        }

    async def start(self) -> None:
        """Listen, on a port of the system's choice where none is set."""
        self._gone = asyncio.Event()
        app = web.Application()
        app.router.add_post("/push/{browser}", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """End, those who wait included."""
        self._gone.set()
        await self._runner.cleanup()

    async def __aenter__(self) -> WebPushPeer:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if self.answers:
            return await self._follow(request, self.answers.popleft())
        browser = request.match_info["browser"]
        if self.rule and (step := self.rule(browser)):
            return await self._follow(request, step)
        body = await request.read()
        if status := self._fault(request, body):
            return web.Response(status=status)
        key, secret = browser_keys(browser)
        try:
            text = http_ece.decrypt(body, private_key=key, auth_secret=secret, version="aes128gcm")
        except http_ece.ECEException:
            # A real service cannot look; the browser would throw it away unseen.
            return web.Response(status=400, text="nobody can read this")
        arrived = Arrived(browser, orjson.loads(text), dict(request.headers))
        self.received.append(arrived)
        if self.on_arrival:
            self.on_arrival(arrived.line)
        return web.Response(status=201, headers={"Location": f"{self.url}/m/{self.asked}"})

    def _fault(self, request: web.Request, body: bytes) -> int:
        """Return the status by which a service refuses, or 0."""
        if not request.headers.get("TTL", "").isdigit():
            return 400
        if request.headers.get("Content-Encoding") != "aes128gcm":
            return 415
        if len(request.headers.get("Topic", "")) > 32:
            return 400
        if len(body) > self.body_bytes_max:
            return 413
        return 0 if self._is_ours(request.headers.get("Authorization", "")) else 403

    def _is_ours(self, authorization: str) -> bool:
        scheme, _, rest = authorization.partition(" ")
        parts = dict(part.strip().split("=", 1) for part in rest.split(",") if "=" in part)
        if scheme != "vapid" or parts.get("k") != self.public_key:
            return False
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), decoded(parts["k"]))
        try:
            claims = jwt.decode(
                parts["t"],
                key,
                algorithms=["ES256"],
                audience=self.url,
                options={"verify_exp": False, "require": ["exp", "sub"]},  # tests move clocks
            )
        except jwt.InvalidTokenError:
            return False
        return bool(claims["sub"] == SUBJECT)

    async def _follow(self, request: web.Request, step: Step) -> web.StreamResponse:
        if isinstance(step, Refuse):
            return web.Response(status=step.http, body=step.body, headers=step.headers)
        assert request.transport
        if step == "close":
            request.transport.abort()
        await self._gone.wait()
        raise web.HTTPServiceUnavailable
