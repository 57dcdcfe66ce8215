"""
What a mail server's reply means (RFC 5321 replies, RFC 3463 enhanced status codes).

A reply of 4xx is never held against the address or the message. Of the permanent ones it matters
whom they blame: the recipient's address, this one message, or whoever set the sending up; and what
blames our own address or login must not end thousands of messages that are fine.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from processors.rules.answers import Answer, Kind

Phase = Literal["connect", "greeting", "tls", "auth", "mail", "rcpt", "data"]
"""How far the dialogue had come; ``data`` holds until the reply to the whole message."""

UNAVAILABLE_MS: Final = 60_000
"""How long a server is left alone that closes the connection or has too many: 421."""

ENHANCED: Final = re.compile(r"\s*([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")
QUEUED: Final = (
    re.compile(r"(?i)\bqueued as ([\w.@<>=+/-]{4,200})"),
    re.compile(r"(?i)\A\s*(?:2\.\d{1,3}\.\d{1,3} )?ok:? ([\w.@<>=+/-]{4,200})\s*\Z"),
)
SIGN_IN: Final = frozenset({530, 534, 535, 538})

Status = tuple[int, int, int]


def enhanced_status(text: str) -> Status | None:
    """Read the enhanced status code that a reply's text begins with, if it does."""
    found = ENHANCED.match(text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def reply_answer(phase: Phase, code: int, text: str = "") -> Answer:
    """
    Say what a server's reply in some phase means for one message to one recipient.

    Args:
        phase: What was asked.
        code: The three digits.
        text: The text behind them; all but the enhanced status and a queue's id is ignored.
    """
    status = enhanced_status(text)
    shown = f"{code} {'.'.join(map(str, status))}" if status else str(code)
    if phase == "data" and code // 100 == 2:
        return Answer(Kind.SENT, shown, provider_id=queue_id(text))
    if code == 421:
        return Answer(Kind.LIMITED, shown, retry_after_ms=UNAVAILABLE_MS, scope="provider")
    if code // 100 == 5 and not (status and status[0] == 4):
        return Answer(_permanent(phase, code, status), shown)
    # Besides 4xx what no server should say here: a greeting with 250, half a reply.
    return Answer(Kind.LATER, shown)


def lost(phase: Phase, how: Literal["closed", "silent", "unreachable"]) -> Answer:
    """
    Say what it means that no reply came.

    After the message was sent the server may have taken it. The next attempt has the same
    Message-ID, by which mailboxes and people know it again; not sending would lose mail.
    """
    return Answer(Kind.LATER, f"{how}-{phase}")


def queue_id(text: str) -> str:
    """Return the id under which a server took a message, where its reply tells one."""
    found = next(filter(None, (pattern.search(text) for pattern in QUEUED)), None)
    return found[1].strip("<>") if found else ""


def _permanent(phase: Phase, code: int, status: Status | None) -> Kind:
    """Find whom a permanent reply blames."""
    if code in SIGN_IN or phase in {"connect", "greeting", "tls", "auth"}:
        return Kind.MISCONFIGURED
    if phase == "mail":
        return _about_sender(code, status)
    if status is None:
        return _without_status(phase, code)
    _, subject, detail = status
    match subject, detail:
        case 1, 7 | 8:
            # Bad sender's mailbox or system address, which some tell only after RCPT.
            return Kind.MISCONFIGURED
        case 1, _:
            return Kind.TARGET_GONE
        case 2, 2:
            # A full mailbox: people come back from holidays.
            return Kind.LATER
        case _:
            # Also a mailbox that is closed for now, 5.2.1, and policy, 5.7, which speaks of this
            # message or of us.
            return Kind.REFUSED


def _about_sender(code: int, status: Status | None) -> Kind:
    """Find whom a permanent reply to MAIL FROM blames: all but the size is set up by us."""
    too_big = status in {(5, 3, 4), (5, 2, 3)} or (status is None and code == 552)
    other_alphabet = status is not None and status[1] == 6
    return Kind.REFUSED if too_big or other_alphabet else Kind.MISCONFIGURED


def _without_status(phase: Phase, code: int) -> Kind:
    """Find whom the bare three digits blame, after RCPT or DATA."""
    if code == 552:
        return Kind.LATER
    if phase == "rcpt" and code in {550, 551, 553, 556}:
        return Kind.TARGET_GONE
    return Kind.REFUSED
