"""
A mail server that takes everything, and can be told to fail at each phase of the dialogue.

It runs in a thread with a loop of its own, so that it answers whatever the test's loop does.
"""
# ruff: noqa: N802 - aiosmtpd finds its hooks by these names

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, Final, Literal, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

HOST: Final = "127.0.0.1"
CLOSE: Final = "close"
SILENT: Final = "silent"

Phase = Literal["greeting", "ehlo", "mail", "rcpt", "data"]


@dataclass(frozen=True)
class Arrived:
    """
    One mail that was taken.

    Attributes:
        mail_from: The return path.
        to: The recipient.
        data: Headers and body.
        options: What stood behind MAIL FROM.
        user: Who had signed in; empty for nobody.
        is_tls: It came over TLS.
        connection: The number of the connection that it came over.
    """

    mail_from: str
    to: str
    data: bytes
    options: list[str]
    user: str
    is_tls: bool
    connection: int

    @property
    def message(self) -> EmailMessage:
        """The mail as the standard library reads it."""
        return cast(EmailMessage, message_from_bytes(self.data, policy=default))

    @property
    def line(self) -> str:
        """The mail on one line, for people."""
        return f"email → {self.to}: {self.message['Subject']}"


def by_address(address: str) -> str | None:
    """Refuse addresses that ask for it: ``bounce…`` is nobody's, ``busy…`` is for later."""
    if address.startswith("bounce"):
        return "550 5.1.1 there is nobody of that name"
    return "451 4.7.1 too busy, try again later" if address.startswith("busy") else None


@dataclass
class SmtpPeer:
    """
    The server; a context manager, asynchronous or not.

    Attributes:
        script: What is said in a phase instead of yes: a reply such as ``550 5.1.1 unknown``,
            ``close`` to hang up, ``silent`` to say nothing. In the phase ``data`` the mail has
            arrived by then where ``keep_all`` says so.
        rule: What is said to recipients by their address, such as :func:`by_address`.
        keep_all: Also keep mail whose reply the script takes away.
        users: Passwords by name; signing in is then offered, and demanded with ``must_sign_in``.
        tls: For STARTTLS, or from the first byte on with ``tls_first``.
        on_arrival: Is told of each mail.
        extensions: Further lines for the answer to EHLO.
        fell_silent: Set once a dialogue waits for a reply that does not come.
    """

    script: dict[Phase, str] = field(default_factory=dict)
    rule: Callable[[str], str | None] | None = None
    keep_all: bool = True
    users: dict[str, str] = field(default_factory=dict)
    must_sign_in: bool = False
    tls: ssl.SSLContext | None = None
    tls_first: bool = False
    utf8: bool = True
    extensions: tuple[str, ...] = ("DSN",)
    on_arrival: Callable[[str], None] | None = None
    port: int = 0
    arrived: list[Arrived] = field(default_factory=list)
    connections: int = 0
    open_now: int = 0
    open_most: int = 0
    fell_silent: threading.Event = field(default_factory=threading.Event)

    name: str = "smtp"

    def environ(self) -> dict[str, str]:
        """Return the settings that make an engine send here."""
        return {
            "PROCESSORS_EMAIL_HOST": HOST,
            "PROCESSORS_EMAIL_PORT": str(self.port),
            "PROCESSORS_EMAIL_TLS": "none",
            "PROCESSORS_EMAIL_SENDER": "Chat <no-reply@chat.example>",
            "PROCESSORS_EMAIL_RETURN_PATH": "bounces+{id}@chat.example",
        }

    async def start(self) -> None:
        """Listen."""
        await asyncio.to_thread(self.open)

    async def stop(self) -> None:
        """Hang up on everybody, and end."""
        await asyncio.to_thread(self.close)

    def open(self) -> None:
        """Listen, on a port of the system's choice where none is set."""
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait(10)
        assert self.port, "the mail server did not start"

    def close(self) -> None:
        """Hang up on everybody, and end."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def __enter__(self) -> SmtpPeer:
        self.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def __aenter__(self) -> SmtpPeer:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    def _run(self, ready: threading.Event) -> None:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._serve(ready))

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        # What a dialogue that was cut off leaves to the loop is what it was cut off for.
        self._loop.set_exception_handler(lambda *_: None)
        self._stopping = asyncio.Event()
        self._all_gone = asyncio.Event()
        self._lines: set[_Dialogue] = set()
        server = await self._loop.create_server(
            self._dialogue,
            HOST,
            self.port,
            ssl=self.tls if self.tls_first else None,
        )
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stopping.wait()
        server.close()
        for line in list(self._lines):
            line.hang_up()
        if self._lines:
            await self._all_gone.wait()
        await server.wait_closed()

    def _dialogue(self) -> _Dialogue:
        self.connections += 1
        return _Dialogue(self, self.connections)


class _Dialogue(SMTP):
    """One connection."""

    def __init__(self, peer: SmtpPeer, number: int) -> None:
        starttls = None if peer.tls_first else peer.tls
        super().__init__(
            _Handler(peer, self),
            hostname="mx.peer.example",
            enable_SMTPUTF8=peer.utf8,
            tls_context=starttls,
            require_starttls=starttls is not None,
            auth_required=peer.must_sign_in,
            auth_require_tls=starttls is not None,
            authenticator=self._authenticate_user if peer.users else None,
            auth_exclude_mechanism=() if peer.users else ("LOGIN", "PLAIN"),
            loop=asyncio.get_running_loop(),
        )
        self.peer = peer
        self.number = number
        self.greeted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self not in self.peer._lines:
            self.peer._lines.add(self)
            self.peer.open_now += 1
            self.peer.open_most = max(self.peer.open_most, self.peer.open_now)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self in self.peer._lines:
            self.peer._lines.remove(self)
            self.peer.open_now -= 1
            if self.peer._stopping.is_set() and not self.peer._lines:
                self.peer._all_gone.set()
        super().connection_lost(error)

    async def push(self, status: Any) -> None:
        if not self.greeted:
            self.greeted = True
            status = await self.say("greeting") or status
        await super().push(status)

    async def smtp_MAIL(self, arg: str | None) -> None:
        """Take out what aiosmtpd does not know and this peer says it does."""
        words = (arg or "").split()
        self.envelope.dsn = [word for word in words if word.startswith(("RET=", "ENVID="))]
        if "DSN" in self.peer.extensions:
            words = [word for word in words if word not in self.envelope.dsn]
        await super().smtp_MAIL(" ".join(words))

    async def say(self, phase: Phase) -> str | None:
        """Return the script's reply for a phase; hangs up or waits where it says so."""
        told = self.peer.script.get(phase)
        if told == CLOSE:
            self.hang_up()
        if told == SILENT:
            self.peer.fell_silent.set()
        if told in {CLOSE, SILENT}:
            # Until the other side goes.
            await asyncio.get_running_loop().create_future()
        return told

    def hang_up(self) -> None:
        """End the connection without another word."""
        transport = self._original_transport or self.transport
        if transport is not None:
            cast(asyncio.Transport, transport).abort()

    def _authenticate_user(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        name, password = data.login.decode(), data.password.decode()
        if self.peer.users.get(name) != password:
            return AuthResult(success=False, handled=False, message="535 5.7.8 Bad credentials")
        return AuthResult(success=True, auth_data=name)


class _Handler:
    """What aiosmtpd asks at each command."""

    def __init__(self, peer: SmtpPeer, dialogue: _Dialogue) -> None:
        self._peer = peer
        self._dialogue = dialogue

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, name: str, lines: list[str]
    ) -> list[str]:
        told = await self._dialogue.say("ehlo")
        if told:
            return [told]
        session.host_name = name
        return [*lines[:-1], *(f"250-{each}" for each in self._peer.extensions), lines[-1]]

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        told = await self._dialogue.say("mail")
        if told:
            return told
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Ok"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        told = await self._dialogue.say("rcpt")
        if not told and self._peer.rule:
            told = self._peer.rule(address)
        if told:
            return told
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        told = self._peer.script.get("data")
        if not told or (self._peer.keep_all and told in {CLOSE, SILENT}):
            self._keep(session, envelope)
        told = await self._dialogue.say("data")
        return told or f"250 2.0.0 Ok: queued as Q{len(self._peer.arrived)}abc"

    def _keep(self, session: Session, envelope: Envelope) -> None:
        arrived = Arrived(
            mail_from=envelope.mail_from or "",
            to=envelope.rcpt_tos[0],
            data=cast(bytes, envelope.original_content),
            options=[*envelope.mail_options, *self._dialogue_dsn(envelope)],
            user=str(session.auth_data or ""),
            is_tls=session.ssl is not None or self._peer.tls_first,
            connection=self._dialogue.number,
        )
        self._peer.arrived.append(arrived)
        if self._peer.on_arrival:
            self._peer.on_arrival(arrived.line)

    def _dialogue_dsn(self, envelope: Envelope) -> list[str]:
        return list(getattr(envelope, "dsn", []))
