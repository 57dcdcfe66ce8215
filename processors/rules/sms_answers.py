"""
What an SMS provider's answers and later reports mean, for APIs compatible with Twilio's.

Its documentation advises to keep little logic on error codes, since they change and mean different
things behind different carriers. So the table has those whose meaning decides about an address or a
setting; all others go by the HTTP status.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit, urlunsplit

from processors.rules.answers import Answer, Kind

STATUS_PATH: Final = "/webhooks/sms/status"
INBOUND_PATH: Final = "/webhooks/sms/inbound"
"""Where the provider calls, below the public address."""

LIMITED_MS: Final = 60_000
"""How long the provider is left alone where it does not say."""

DAILY_MS: Final = 3_600_000
"""Between two tries while the account has used up its day."""

CODES: Final[dict[int, Kind]] = {
    21211: Kind.TARGET_GONE,  # the number is not one
    21610: Kind.TARGET_GONE,  # the recipient has sent STOP
    21614: Kind.TARGET_GONE,  # not a mobile number
    20003: Kind.MISCONFIGURED,  # authentication
    20005: Kind.MISCONFIGURED,  # account not active
    20404: Kind.MISCONFIGURED,  # no such account
    21212: Kind.MISCONFIGURED,  # the From number is not one
    21603: Kind.MISCONFIGURED,  # From is missing
    21606: Kind.MISCONFIGURED,  # From is not ours, or cannot send
    21609: Kind.MISCONFIGURED,  # the callback's URL is not one
    21659: Kind.MISCONFIGURED,  # From is not a number of the account
    21660: Kind.MISCONFIGURED,  # From belongs to another account
    21701: Kind.MISCONFIGURED,  # no such messaging service
    21703: Kind.MISCONFIGURED,  # the messaging service has no numbers
    21705: Kind.MISCONFIGURED,  # the messaging service's id is not one
    30002: Kind.MISCONFIGURED,  # account suspended
    30034: Kind.MISCONFIGURED,  # the From number is not registered
    14107: Kind.LIMITED,  # rate
    20429: Kind.LIMITED,  # rate
    21611: Kind.LIMITED,  # From's queue is full
    30001: Kind.LIMITED,  # From's queue is full
    63038: Kind.LIMITED,  # the account's day is used up
}

GONE_LATER: Final = frozenset({21211, 21610, 21614, 30005, 30006})
"""Codes of failed reports that are the number's: unknown or inactive, or a landline."""

Status = Literal["delivered", "failed", "bounced", "stopped"]

RANKS: Final = {
    "accepted": 10,
    "scheduled": 10,
    "queued": 10,
    "sending": 20,
    "sent": 30,
    "canceled": 40,
    "failed": 40,
    "undelivered": 40,
    "delivered": 50,
    "read": 50,
}
"""The provider's states in the order in which they can follow each other."""

STOP: Final = frozenset(
    {"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"}
)
START: Final = frozenset({"START", "YES", "UNSTOP"})


@dataclass(frozen=True, slots=True)
class Report:
    """
    What the provider tells later about a message.

    Attributes:
        status: What becomes of the delivery; ``bounced`` and ``stopped`` suppress the number.
        code: The provider's error code, or its state.
    """

    status: Status
    code: str


def create_answer(http: int, code: int, retry_after_ms: int) -> Answer | None:
    """
    Say what a refusal to create a message means.

    Args:
        http: The HTTP status, not 2xx.
        code: The provider's error code, 0 for none.
        retry_after_ms: What its Retry-After says, 0 for nothing.

    Returns:
        The answer, or None where the provider may have the message all the same.
    """
    shown = f"{code or f'http-{http}'}"
    kind = CODES.get(code) if http < 500 else None
    if kind is None:
        kind = _by_status(http)
    if kind is None:
        return None
    if kind is Kind.LIMITED:
        wait_ms = retry_after_ms or (DAILY_MS if code == 63038 else LIMITED_MS)
        return Answer(kind, shown, retry_after_ms=wait_ms, scope="provider")
    return Answer(kind, shown, retry_after_ms=retry_after_ms if kind is Kind.LATER else 0)


def _by_status(http: int) -> Kind | None:
    match http:
        case 401 | 403 | 404 | 405:
            return Kind.MISCONFIGURED
        case 408 | 425 | 503:
            # It says itself that it has not begun.
            return Kind.LATER
        case 429:
            return Kind.LIMITED
        case _ if 300 <= http <= 399:
            return Kind.MISCONFIGURED
        case _ if 400 <= http <= 499:
            return Kind.REFUSED
        case _:
            return None


def report_of(state: str, code: int) -> Report | None:
    """
    Say what a message's state at the provider means; None while it is on its way.

    Args:
        state: The provider's name for it.
        code: Its error code, 0 for none.
    """
    rank = RANKS.get(state.lower(), 0)
    if rank < RANKS["failed"]:
        return None
    if rank == RANKS["delivered"]:
        return Report("delivered", state.lower())
    shown = str(code) if code else state.lower()
    if code == 21610:
        return Report("stopped", shown)
    return Report("bounced" if code in GONE_LATER else "failed", shown)


def opt_out(body: str, kind: str = "") -> Literal["stopped", "started"] | None:
    """
    Say whether a text from a recipient ends or resumes what they are sent.

    Args:
        body: The text.
        kind: What the provider took it for, where it says so: ``STOP``, ``START`` or ``HELP``.
    """
    word = (kind or body).strip().strip(".!\"'").upper()
    if word in STOP:
        return "stopped"
    return "started" if word in START else None


def signature(url: str, fields: Iterable[tuple[str, str]], token: str) -> str:
    """
    Sign a request of the provider's as it does: the URL, then names and values in order.

    Args:
        url: The whole URL as the provider was given it, query included.
        fields: The form's fields.
        token: The account's secret.
    """
    pairs = sorted(set(fields))
    text = url + "".join(name + value for name, value in pairs)
    return base64.b64encode(hmac.digest(token.encode(), text.encode(), hashlib.sha1)).decode()


def is_signed(
    given: str, url: str, fields: Sequence[tuple[str, str]], tokens: Sequence[str]
) -> bool:
    """Say whether the provider has signed a request, with one of the account's secrets."""
    wanted = [signature(each, fields, token) for each in _spellings(url) for token in tokens]
    return any(hmac.compare_digest(given.encode(), each.encode()) for each in wanted)


def _spellings(url: str) -> list[str]:
    """List the forms of a URL that providers sign: as it is, and without the port of its scheme."""
    parts = urlsplit(url)
    port = {"https": ":443", "http": ":80"}.get(parts.scheme, "")
    if port and parts.netloc.endswith(port):
        bare = urlunsplit(parts._replace(netloc=parts.netloc.removesuffix(port)))
        return [url, bare]
    if port and ":" not in parts.netloc:
        return [url, urlunsplit(parts._replace(netloc=parts.netloc + port))]
    return [url]
