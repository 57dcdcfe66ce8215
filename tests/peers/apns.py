"""
A peer that speaks APNs' provider API: HTTP/2 over TLS, provider tokens, and Apple's bad days.

It checks what Apple checks (path, token, topic, push type, priority, size) and answers each request
as its script says. On the wire it can end connections with GOAWAY, reset streams, stay silent, and
cut what it sends into small pieces.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import jwt
import orjson
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from h2.errors import ErrorCodes

TOPIC = "com.example.chat"
KEY_ID = "KEY0123456"
TEAM_ID = "TEAM012345"
PAYLOAD_BYTES_MAX = 4_096
TOKEN_AGE_S_MAX = 3_600

Act = Literal["answer", "reset", "refuse", "silent", "hang_up"]


@dataclass(frozen=True)
class Pushed:
    """
    One request as it came.

    Attributes:
        token: The device.
        headers: All headers.
        payload: The body, decoded.
        connection: Number of its connection, from 1.
    """

    token: str
    headers: dict[str, str]
    payload: dict[str, Any]
    connection: int

    @property
    def line(self) -> str:
        """The push on one line, for people."""
        alert = self.payload["aps"].get("alert")
        text = f"{alert['title']}: {alert['body']}" if alert else "(silent)"
        return f"push apns → {self.token[:24]}: {text}"


@dataclass(frozen=True)
class Reply:
    """
    What a request is answered by.

    Attributes:
        status: HTTP status.
        reason: Apple's word for it.
        body: The body as it is, in place of one with the reason.
        headers: Further headers.
        act: ``answer``; or reset the stream, refuse it, say nothing, or hang up.
    """

    status: int = 200
    reason: str = ""
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    act: Act = "answer"


def by_token(pushed: Pushed) -> Reply:
    """Refuse devices that ask for it: those that begin with ``gone``, ``busy`` or ``down``."""
    if pushed.token.startswith("gone"):
        since = round(time.time() * 1000) - 1
        return Reply(410, body=orjson.dumps({"reason": "Unregistered", "timestamp": since}))
    if pushed.token.startswith("busy"):
        return Reply(429, "TooManyRequests", headers=(("retry-after", "2"),))
    if pushed.token.startswith("down"):
        return Reply(503, "ServiceUnavailable", headers=(("retry-after", "2"),))
    return Reply()


@dataclass
class ApnsPeer:
    """
    The peer; an asynchronous context manager.

    Attributes:
        answer: Chooses the reply to a request that is in order.
        accepted: Requests that were answered with 200.
        seen: All requests, in the order of their ends.
        connections: Connections made so far.
        goaway_every: Ends a connection with GOAWAY after so many requests; 0 for never.
        streams_first: Streams allowed until a token was accepted; 0 for the usual number.
        split: Sends everything in pieces of so many bytes; 0 for whole.
        key: Signs provider tokens; a new one where none is given.
        ca: Issues the server's certificate; a new one where none is given.
        on_arrival: Is told of each push that was accepted, as a line.
        token_age_s_max: Age above which a provider token is expired.
    """

    directory: Path
    answer: Callable[[Pushed], Reply] = lambda _: Reply()
    accepted: list[Pushed] = field(default_factory=list)
    seen: list[Pushed] = field(default_factory=list)
    connections: int = 0
    goaway_every: int = 0
    streams_first: int = 0
    split: int = 0
    token_age_s_max: float = TOKEN_AGE_S_MAX
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    ca: trustme.CA = field(default_factory=trustme.CA)
    on_arrival: Callable[[str], None] | None = None
    port: int = 0

    name: str = "apns"

    def __post_init__(self) -> None:
        self.ca_file = self.directory / "apns-ca.pem"
        self.ca.cert_pem.write_to_path(self.ca_file)
        self._open: set[_Served] = set()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://localhost:{self.port}"

    @property
    def key_pem(self) -> str:
        """The signing key, as Apple hands it out."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()

    def environ(self) -> dict[str, str]:
        """Settings with which a sender reaches it."""
        prefix = "PROCESSORS_PUSH_APNS_"
        return {
            f"{prefix}KEY": self.key_pem,
            f"{prefix}KEY_ID": KEY_ID,
            f"{prefix}TEAM_ID": TEAM_ID,
            f"{prefix}TOPICS": TOPIC,
            f"{prefix}URL": self.url,
            f"{prefix}SANDBOX_URL": self.url,
            f"{prefix}CA_FILE": str(self.ca_file),
        }

    async def __aenter__(self) -> ApnsPeer:
        self._server = await asyncio.start_server(
            self.serve, "127.0.0.1", self.port, ssl=self.context()
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Break all connections."""
        for served in list(self._open):
            served.abort()

    def judged(self, pushed: Pushed) -> Reply:
        """Check a request as Apple does, then ask the script."""
        fault = self._token_fault(pushed.headers.get("authorization", ""))
        if fault:
            return Reply(403, fault)
        headers = pushed.headers
        if headers.get("apns-topic") != TOPIC:
            return Reply(400, "BadTopic")
        kind, priority = headers.get("apns-push-type"), headers.get("apns-priority", "10")
        if kind not in {"alert", "background"}:
            return Reply(400, "InvalidPushType")
        if kind == "background" and priority != "5":
            return Reply(400, "BadPriority")
        if len(headers.get("apns-collapse-id", "")) > 64:
            return Reply(400, "BadCollapseId")
        return self.answer(pushed)

    def _token_fault(self, authorization: str) -> str:
        if not authorization.startswith("bearer "):
            return "MissingProviderToken"
        try:
            claims = jwt.decode(
                authorization.removeprefix("bearer "),
                self.key.public_key(),
                algorithms=["ES256"],
                options={"verify_iat": False},
            )
        except jwt.InvalidTokenError:
            return "InvalidProviderToken"
        if claims.get("iss") != TEAM_ID:
            return "InvalidProviderToken"
        return "ExpiredProviderToken" if time.time() - claims["iat"] > self.token_age_s_max else ""

    def context(self) -> ssl.SSLContext:
        """TLS of the server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert("localhost", "127.0.0.1").configure_cert(context)
        context.set_alpn_protocols(["h2"])
        return context

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        self.connections += 1
        served = _Served(self, reader, writer, self.connections)
        self._open.add(served)
        try:
            await served.run()
        except (OSError, ssl.SSLError, h2.exceptions.ProtocolError):
            served.abort()
        finally:
            self._open.discard(served)
            writer.close()


class _Served:
    """One connection."""

    def __init__(
        self,
        peer: ApnsPeer,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        number: int,
    ) -> None:
        self._peer, self._reader, self._writer, self._number = peer, reader, writer, number
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self._h2 = h2.connection.H2Connection(config=config)
        self._headers: dict[int, dict[str, str]] = {}
        self._bodies: dict[int, bytearray] = {}
        self._taken = 0
        self._last = 0

    def abort(self) -> None:
        self._writer.transport.abort()

    async def run(self) -> None:
        self._h2.initiate_connection()
        if self._peer.streams_first:
            self._allow(self._peer.streams_first)
        await self._flush()
        while data := await self._reader.read(65_536):
            for event in self._h2.receive_data(data):
                self._on(event)
            await self._flush()
            if self._last and self._taken >= self._peer.goaway_every:
                # Everything up to the last stream was answered: the rest it has not seen.
                self._writer.write(goaway(self._last))
                await self._writer.drain()
                return

    def _allow(self, streams: int) -> None:
        self._h2.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: streams})

    def _on(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived(stream_id=int(stream)):
                self._headers[stream] = {str(k): str(v) for k, v in event.headers or []}
                self._bodies[stream] = bytearray()
            case h2.events.DataReceived(stream_id=int(stream)):
                self._bodies[stream] += event.data or b""
                self._h2.acknowledge_received_data(event.flow_controlled_length or 0, stream)
            case h2.events.StreamEnded(stream_id=int(stream)):
                if not self._last:
                    self._take(stream)
            case _:
                pass

    def _take(self, stream: int) -> None:
        headers, body = self._headers.pop(stream), bytes(self._bodies.pop(stream))
        self._taken += 1
        if self._peer.goaway_every and self._taken >= self._peer.goaway_every:
            self._last = stream
        token = headers[":path"].rpartition("/")[2]
        payload = orjson.loads(body)
        pushed = Pushed(token, headers, payload, self._number)
        self._peer.seen.append(pushed)
        large = len(body) > PAYLOAD_BYTES_MAX
        reply = Reply(413, "PayloadTooLarge") if large else self._peer.judged(pushed)
        self._reply(stream, pushed, reply)

    def _reply(self, stream: int, pushed: Pushed, reply: Reply) -> None:
        match reply.act:
            case "reset":
                self._h2.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
            case "refuse":
                self._h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
            case "hang_up":
                self.abort()
            case "silent":
                pass
            case "answer":
                self._answer(stream, pushed, reply)

    def _answer(self, stream: int, pushed: Pushed, reply: Reply) -> None:
        head = [
            (":status", str(reply.status)),
            ("apns-id", pushed.headers.get("apns-id", str(uuid4()))),
            *reply.headers,
        ]
        if reply.status == 200:
            self._peer.accepted.append(pushed)
            if self._peer.on_arrival is not None:
                self._peer.on_arrival(pushed.line)
            if self._peer.streams_first:
                self._allow(1_000)
            self._h2.send_headers(stream, head, end_stream=True)
            return
        body = reply.body if reply.body is not None else orjson.dumps({"reason": reply.reason})
        self._h2.send_headers(stream, head, end_stream=not body)
        if body:
            self._h2.send_data(stream, body, end_stream=True)

    async def _flush(self) -> None:
        data = self._h2.data_to_send()
        step = self._peer.split or len(data) or 1
        for start in range(0, len(data), step):
            self._writer.write(data[start : start + step])
            await self._writer.drain()


def goaway(last_stream: int) -> bytes:
    """Write a GOAWAY frame without an error; the library's would forget what is under way."""
    body = last_stream.to_bytes(4) + bytes(4)
    return len(body).to_bytes(3) + bytes([7, 0]) + bytes(4) + body


@contextlib.asynccontextmanager
async def apns_peer(directory: Path, **options: Any) -> AsyncIterator[ApnsPeer]:
    """Run a peer on a free loopback port; options are those of :class:`ApnsPeer`."""
    async with ApnsPeer(directory, **options) as peer:
        yield peer
