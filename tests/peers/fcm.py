"""
Firebase Cloud Messaging with the place where access is bought, for one service account.

Its script says for each request to come whether it is refused or left without an answer. Tokens
end when they are revoked or their time is over.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import jwt
import orjson
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

HOST: Final = "127.0.0.1"
PROJECT: Final = "streamlane-peer"
EMAIL: Final = f"sender@{PROJECT}.iam.gserviceaccount.com"
MESSAGE_BYTES_MAX: Final = 4_096
FCM_ERROR: Final = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
WAIT: Final = {"Retry-After": "2"}

Silence = Literal["hang", "close"]


@dataclass(frozen=True)
class Refuse:
    """Answer a request with an error, in JSON or with the body given."""

    http: int
    status: str = ""
    code: str = ""
    message: str = ""
    details: tuple[dict[str, Any], ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None

    def response(self) -> web.Response:
        """Write it as FCM does."""
        if self.body is not None:
            return web.Response(status=self.http, body=self.body, headers=self.headers)
        own = [{"@type": FCM_ERROR, "errorCode": self.code}] if self.code else []
        error = {
            "code": self.http,
            "message": self.message,
            "status": self.status,
            "details": [*own, *self.details],
        }
        return web.json_response({"error": error}, status=self.http, headers=self.headers)


Step = Refuse | Silence


@dataclass(frozen=True)
class Message:
    """
    One message that was taken.

    Attributes:
        address: The token or installation id.
        kind: ``token`` or ``fid``.
        content: The message as it came.
    """

    address: str
    kind: str
    content: dict[str, Any]

    @property
    def line(self) -> str:
        """The message on one line, for people."""
        shown = self.content.get("notification") or {}
        text = f"{shown.get('title', '')}: {shown.get('body', '')}" if shown else "(silent)"
        return f"push fcm → {self.address[:24]}: {text}"


def by_token(token: str) -> Step | None:
    """Refuse tokens that ask for it: those that begin with ``gone``, ``busy`` or ``down``."""
    if token.startswith("gone"):
        return Refuse(404, "NOT_FOUND", "UNREGISTERED")
    if token.startswith("busy"):
        busy = "Device message rate exceeded"
        return Refuse(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", busy, headers=WAIT)
    return Refuse(503, "UNAVAILABLE", "UNAVAILABLE") if token.startswith("down") else None


@dataclass
class FcmPeer:
    """
    The service; an asynchronous context manager.

    Attributes:
        sending: What happens to the next messages, in their order.
        buying: What happens to the next requests for a token.
        rule: How messages are refused by their address, such as :func:`by_token`.
        on_arrival: Is told of each message, as a line.
        key: The service account's; a new one where none is given.
        expires_s: How long tokens are said to be good for.
        received: The messages that were taken.
        asked: Requests to take a message so far.
        bought: Tokens that were sold so far.
    """

    sending: deque[Step] = field(default_factory=deque)
    buying: deque[Step] = field(default_factory=deque)
    rule: Callable[[str], Step | None] | None = None
    on_arrival: Callable[[str], None] | None = None
    key: rsa.RSAPrivateKey = field(
        default_factory=lambda: rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    )
    expires_s: float = 3_600
    port: int = 0
    received: list[Message] = field(default_factory=list)
    asked: int = 0
    bought: int = 0

    name: str = "fcm"

    def __post_init__(self) -> None:
        self._good: set[str] = set()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    def account(self) -> dict[str, str]:
        """Return the service account, as its file holds it."""
        pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "peer-key",
            "private_key": pem.decode(),
            "client_email": EMAIL,
            "token_uri": f"{self.url}/token",
        }

    def environ(self) -> dict[str, str]:
        """Return the settings that make an engine send here."""
        return {
            "PROCESSORS_PUSH_FCM_SERVICE_ACCOUNT": orjson.dumps(self.account()).decode(),
            "PROCESSORS_PUSH_FCM_URL": self.url,
        }

    def revoke(self) -> None:
        """Take back every token that was sold."""
        self._good.clear()

    async def start(self) -> None:
        """Listen, on a port of the system's choice where none is set."""
        self._gone = asyncio.Event()
        app = web.Application()
        app.router.add_post("/token", self._sell)
        app.router.add_post(r"/v1/projects/{project}/{verb:messages:send}", self._send)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """End, those who wait included."""
        self._gone.set()
        await self._runner.cleanup()

    async def __aenter__(self) -> FcmPeer:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def _sell(self, request: web.Request) -> web.StreamResponse:
        if self.buying:
            return await self._follow(request, self.buying.popleft())
        fields = await request.post()
        try:
            claims = jwt.decode(
                str(fields["assertion"]),
                self.key.public_key(),
                algorithms=["RS256"],
                audience=f"{self.url}/token",
                issuer=EMAIL,
                options={"require": ["exp", "iat", "iss", "aud"], "verify_iat": False},
                leeway=10 * 366 * 86_400,  # tests move their clocks
            )
        except (jwt.InvalidTokenError, KeyError):
            return web.json_response({"error": "invalid_grant"}, status=400)
        known = claims["exp"] - claims["iat"] <= 3_600 and claims["scope"].endswith("messaging")
        if fields["grant_type"] != "urn:ietf:params:oauth:grant-type:jwt-bearer" or not known:
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.bought += 1
        token = f"access-{self.bought}"
        self._good.add(token)
        sold = {"access_token": token, "expires_in": self.expires_s, "token_type": "Bearer"}
        return web.json_response(sold)

    async def _send(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if request.match_info["project"] != PROJECT:
            return Refuse(404, "NOT_FOUND").response()
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self._good:
            return Refuse(401, "UNAUTHENTICATED").response()
        if self.sending:
            return await self._follow(request, self.sending.popleft())
        raw = await request.read()
        message = orjson.loads(raw)["message"]
        if fault := _fault(message, raw):
            return fault.response()
        kind = "fid" if "fid" in message else "token"
        taken = Message(message[kind], kind, message)
        if self.rule and (step := self.rule(taken.address)):
            return await self._follow(request, step)
        self.received.append(taken)
        if self.on_arrival:
            self.on_arrival(taken.line)
        return web.json_response({"name": f"projects/{PROJECT}/messages/{time.monotonic_ns()}"})

    async def _follow(self, request: web.Request, step: Step) -> web.StreamResponse:
        if isinstance(step, Refuse):
            return step.response()
        assert request.transport
        if step == "close":
            request.transport.abort()
        await self._gone.wait()
        raise web.HTTPServiceUnavailable


def _fault(message: dict[str, Any], raw: bytes) -> Refuse | None:
    """Say what FCM would not take."""
    texts = message.get("data", {})
    if not all(isinstance(value, str) for value in texts.values()):
        return Refuse(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "data values must be strings")
    if ("token" in message) == ("fid" in message):
        return Refuse(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "one target is needed")
    if len(raw) > MESSAGE_BYTES_MAX:
        return Refuse(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "Message is too big")
    return None
