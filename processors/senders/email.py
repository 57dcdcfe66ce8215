"""The way out for email: one mail server, over SMTP."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from engine import Clock, SystemClock
from processors.errors import ConfigurationError
from processors.rules.addresses import domain_ascii, email_fault
from processors.rules.answers import Answer, Kind
from processors.rules.bounces import PLACE, return_path
from processors.rules.smtp import lost, reply_answer
from processors.senders.base import Mail
from processors.senders.mime import Letter, Sender, letter, read_sender
from processors.senders.smtp_connections import Busy, Connections, PhaseOf
from processors.settings.email import EmailSettings

if TYPE_CHECKING:
    from aiosmtplib import SMTP

BUSY_MS: Final = 5_000
CLOSING: Final = 421


class SmtpSender:
    """
    Hands emails to a mail server, each in a dialogue of its own over kept connections.

    Sending one twice is possible where no reply came to the whole message; both then have the same
    Message-ID.

    Args:
        connections: The way to the server.
        sender: Who mail is from.
        bounces: Template of the return path, with ``{id}``; empty for the sender's address.
        clock: Gives the Date.
    """

    def __init__(
        self, connections: Connections, *, sender: Sender, bounces: str, clock: Clock
    ) -> None:
        self._connections = connections
        self._sender = sender
        self._bounces = bounces
        self._clock = clock

    async def send(self, mail: Mail) -> Answer:
        """Hand one email to the server; trouble is an answer, never an exception."""
        if email_fault(mail.to):
            return Answer(Kind.TARGET_GONE, "bad-address")
        try:
            written = letter(
                mail, self._sender, datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
            )
        except ValueError:
            return Answer(Kind.REFUSED, "line-break-in-header")
        return await self._hand_over(mail, written)

    async def close(self) -> None:
        """End the connections."""
        await self._connections.close()

    async def _hand_over(self, mail: Mail, written: Letter) -> Answer:
        """Find out what became of a dialogue, whatever it ran into."""
        from aiosmtplib import SMTPException, SMTPResponseException

        place = PhaseOf()
        try:
            async with self._connections.whole_limit(), self._connections.line(place) as smtp:
                return await self._dialogue(smtp, mail, written, place)
        except Busy:
            return Answer(Kind.LIMITED, "connections-busy", retry_after_ms=BUSY_MS)
        except SMTPResponseException as refusal:
            return reply_answer(place.phase, refusal.code, refusal.message)
        except (OSError, TimeoutError) as error:
            # Also the library's own, for lost connections and for those never made.
            return _broken(place, error)
        except SMTPException:
            # The server does not offer what the settings ask for: STARTTLS, or to sign in.
            return Answer(Kind.MISCONFIGURED, f"unsupported-{place.phase}")

    async def _dialogue(self, smtp: SMTP, mail: Mail, written: Letter, place: PhaseOf) -> Answer:
        """Speak MAIL, RCPT and DATA; a refusal leaves the connection good for the next mail."""
        from aiosmtplib import SMTPResponseException

        if written.needs_utf8 and not smtp.supports_extension("smtputf8"):
            return Answer(Kind.REFUSED, "smtputf8-unsupported")
        limit = self._connections.limit
        encoding = "utf-8" if written.needs_utf8 else "ascii"
        options = _mail_options(smtp, mail, written)
        try:
            place.phase = "mail"
            async with limit():
                await smtp.mail(self._return_path(mail), options=options, encoding=encoding)
            place.phase = "rcpt"
            async with limit():
                await smtp.rcpt(written.recipient, encoding=encoding)
            place.phase = "data"
            async with limit():
                code, text = await smtp.data(written.data)
        except SMTPResponseException as refusal:
            code, text = refusal.code, refusal.message
        if code == CLOSING or code < 0:
            # The server hangs up, or talks in a way that cannot be followed.
            smtp.close()
        return reply_answer(place.phase, code, text)

    def _return_path(self, mail: Mail) -> str:
        if not self._bounces:
            return self._sender.address
        return return_path(self._bounces, mail.delivery_id)


def _mail_options(smtp: SMTP, mail: Mail, written: Letter) -> list[str]:
    """List what goes behind MAIL FROM, as far as the server knows it."""
    options = []
    if written.needs_utf8:
        options += ["SMTPUTF8", "BODY=8BITMIME"]
    if smtp.supports_extension("size"):
        options.append(f"SIZE={len(written.data)}")
    if smtp.supports_extension("dsn"):
        # Bounces then name the delivery themselves, and return no content.
        options += ["RET=HDRS", f"ENVID={mail.delivery_id.hex}"]
    return options


def _broken(place: PhaseOf, error: BaseException) -> Answer:
    """Say what it means that a connection broke or was not made."""
    if isinstance(error, TimeoutError):
        return lost(place.phase, "silent")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Answer(Kind.MISCONFIGURED, "certificate-not-trusted")
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
            return Answer(Kind.MISCONFIGURED, "no-tls-there")
        cause = cause.__cause__
    return lost(place.phase, "unreachable" if place.phase == "connect" else "closed")


def open_email_sender(settings: EmailSettings, *, clock: Clock | None = None) -> SmtpSender | None:
    """
    Make the sender that the settings ask for; None where email is off. ``close()`` ends it.

    Nothing is connected to before there is something to send.

    Raises:
        ConfigurationError: A setting is at fault, or the library is not installed.
    """
    if not settings.host:
        return None
    try:
        from aiosmtplib import SMTP
    except ImportError:
        raise ConfigurationError(
            "email needs another library: pip install 'streamlane[email]'"
        ) from None
    try:
        sender = read_sender(settings.sender)
        _check_return_path(settings.return_path)
        tls = _context(settings)
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"PROCESSORS_EMAIL_*: {error}") from None
    time = clock or SystemClock()
    make: Callable[..., SMTP] = SMTP
    connections = Connections(settings, local_name=sender.domain, tls=tls, clock=time, make=make)
    return SmtpSender(connections, sender=sender, bounces=settings.return_path, clock=time)


def _check_return_path(template: str) -> None:
    if not template:
        return
    filled = template.replace(PLACE, "0" * 32)
    fault = email_fault(filled)
    domain = filled.rpartition("@")[2]
    if fault or not filled.isascii() or domain_ascii(domain) != domain.lower():
        raise ValueError(f"return_path {template!r}: {fault or 'it is not in ASCII'}")


def _context(settings: EmailSettings) -> ssl.SSLContext | None:
    if settings.tls == "none":
        return None
    return ssl.create_default_context(cafile=settings.ca_file or None)
