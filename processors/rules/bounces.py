"""
Reports about mail that was taken: delivery status (RFC 3464) and complaints (RFC 5965).

The return path of each mail carries its delivery's id (VERP), so a report is matched by the address
that it comes to, by the envelope id that the server may give back, or by our Message-ID in the
headers that it returns. It is never matched by the recipient it names: anybody can send a report,
and nobody else's address is suppressed by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from email.utils import getaddresses
from typing import Final, Literal
from uuid import UUID

from processors.rules.answers import Kind
from processors.rules.smtp import ENHANCED, reply_answer

PLACE: Final = "{id}"
HEX: Final = r"([0-9a-fA-F]{32})"
MESSAGE_ID: Final = re.compile(rf"<d\.{HEX}@[^<>@\s]+>")
REPLY: Final = re.compile(r"(?is)\Asmtp\s*;\s*([45]\d\d)[ -]+(.*)")
RECIPIENT_HEADERS: Final = ("Delivered-To", "X-Original-To", "Envelope-To", "To")
COMPLAINTS: Final = frozenset({"abuse", "fraud", "opt-out", "opt-out-list"})

Class = Literal["hard", "soft", "policy", "complaint", "delivered"]
State = Literal["bounced", "failed", "complained", "delivered"]

STATES: Final[dict[Class, State]] = {
    "hard": "bounced",
    "soft": "failed",
    "policy": "failed",
    "complaint": "complained",
    "delivered": "delivered",
}
"""What becomes of the delivery; ``bounced`` and ``complained`` suppress the address."""


@dataclass(frozen=True, slots=True)
class Bounce:
    """
    What a report says about one delivery.

    Attributes:
        delivery_id: The delivery.
        grade: Whether the address is at fault (hard), the moment (soft), or what we sent or who
            we are (policy); or that the reader complained, or that it arrived after all.
        code: The enhanced status code, or the type of complaint.
    """

    delivery_id: UUID
    grade: Class
    code: str

    @property
    def state(self) -> State:
        """What becomes of the delivery."""
        return STATES[self.grade]


def return_path(template: str, delivery_id: UUID) -> str:
    """Put a delivery's id into the template of the return path, which has ``{id}`` for it."""
    return template.replace(PLACE, delivery_id.hex)


def message_id(delivery_id: UUID, domain: str) -> str:
    """Return the Message-ID of a delivery, the same over all attempts."""
    return f"<d.{delivery_id.hex}@{domain}>"


def delivery_of(address: str, template: str) -> UUID | None:
    """Return the delivery whose return path an address is."""
    before, _, after = template.partition(PLACE)
    found = re.fullmatch(f"{re.escape(before)}{HEX}{re.escape(after)}", address, re.IGNORECASE)
    return UUID(found[1]) if found and PLACE in template else None


def read_bounce(data: bytes, *, template: str, recipients: Iterable[str] = ()) -> Bounce | None:
    """
    Read a report.

    Args:
        data: The message as it arrived.
        template: The template of return paths.
        recipients: Addresses that the mail server says it came to.

    Returns:
        What it says, or None where it is no report that ends anything: a delay, an automatic
        reply, somebody's letter, or a report about mail that is not ours.
    """
    try:
        message = message_from_bytes(data)
        parts = message.get_payload() if message.is_multipart() else []
        direct = [part for part in parts if isinstance(part, Message)]
        verdict = _verdict(direct)
        if verdict is None:
            return None
        delivery_id = next(_deliveries(message, direct, template, recipients), None)
    except (RecursionError, LookupError, UnicodeError, ValueError):
        # What stdlib's parser makes of hostile nesting and character sets.
        return None
    return Bounce(delivery_id, *verdict) if delivery_id else None


def status_class(status: str, diagnostic: str = "") -> Class:
    """
    Say whom a failure blames.

    Args:
        status: The enhanced status code of the report.
        diagnostic: Its Diagnostic-Code, asked where the status says no more than ``5.0.0``.
    """
    found = ENHANCED.match(status)
    reply = REPLY.match(diagnostic)
    if reply and (not found or found[0].strip() in {"5.0.0", "4.0.0"}):
        code, text = int(reply[1]), reply[2]
    else:
        code, text = 450 if found and found[1] == "4" else 550, status
    kind = reply_answer("rcpt", code, text).kind
    if text.startswith("5.2."):
        # Its mailbox is full or closed.
        return "soft"
    if kind is Kind.TARGET_GONE:
        # A report that says no more than "failed" blames nobody.
        return "hard" if found or reply else "soft"
    return "soft" if kind in {Kind.LATER, Kind.LIMITED} else "policy"


def _verdict(parts: list[Message]) -> tuple[Class, str] | None:
    """Find what the parts of a report say, the returned message left aside."""
    for part in parts:
        if part.get_content_type() == "message/delivery-status":
            return _of_status(_blocks(part))
        if part.get_content_type() == "message/feedback-report":
            return _of_feedback(_blocks(part))
    return None


def _of_status(blocks: list[Message]) -> tuple[Class, str] | None:
    """Find the first recipient whose delivery has ended; each mail has a single one."""
    for block in blocks:
        action = _field(block, "Action").lower()
        found = ENHANCED.match(_field(block, "Status"))
        status = found[0].strip() if found else ""
        if action == "failed":
            return status_class(status, _field(block, "Diagnostic-Code")), status or "failed"
        if action == "delivered":
            return "delivered", status
    return None


def _of_feedback(blocks: list[Message]) -> tuple[Class, str] | None:
    for block in blocks:
        kind = _field(block, "Feedback-Type").lower()
        if kind in COMPLAINTS:
            return "complaint", kind
    return None


def _deliveries(
    message: Message, parts: list[Message], template: str, recipients: Iterable[str]
) -> Iterator[UUID]:
    """Name deliveries that a report may be about, the surest first."""
    headers = [str(value) for name in RECIPIENT_HEADERS for value in message.get_all(name, [])]
    blocks = [block for part in parts for block in _blocks(part)]
    mail_from = [_field(block, "Original-Mail-From") for block in blocks]
    for value in (*recipients, *headers, *mail_from):
        # One by one: a header that cannot be read must not hide the others.
        for _, address in getaddresses([value]):
            if found := delivery_of(address, template):
                yield found
    for block in blocks:
        if re.fullmatch(HEX, envelope := _field(block, "Original-Envelope-Id")):
            yield UUID(envelope)
    for part in parts:
        for own in MESSAGE_ID.findall(_returned_id(part)):
            yield UUID(own)


def _blocks(part: Message) -> list[Message]:
    """List the groups of fields of a report's part."""
    if part.get_content_type() not in {"message/delivery-status", "message/feedback-report"}:
        return []
    payload = part.get_payload()
    return [each for each in payload if isinstance(each, Message)] if part.is_multipart() else []


def _returned_id(part: Message) -> str:
    """Return the Message-ID of the message, or of the headers alone, that a report returns."""
    if part.get_content_type() == "text/rfc822-headers":
        text = part.get_payload(decode=True)
        inner = message_from_bytes(text if isinstance(text, bytes) else b"")
        return _field(inner, "Message-ID")
    if part.get_content_type() == "message/rfc822" and part.is_multipart():
        return _field(part.get_payload(0), "Message-ID")
    return ""


def _field(block: object, name: str) -> str:
    return str(block.get(name, "")).strip() if isinstance(block, Message) else ""
