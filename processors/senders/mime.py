"""An email as it goes over the wire."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import Final

from processors.rules.addresses import email_ascii, email_fault
from processors.rules.bounces import message_id
from processors.rules.fitting import clean
from processors.senders.base import Mail

# Bodies in 7 bits: not every server between here and there takes more.
POLICY: Final = SMTP.clone(cte_type="7bit")
FORBIDDEN: Final = frozenset({"Cc", "Zl", "Zp"})
SUBJECT_CHARS_MAX: Final = 400


@dataclass(frozen=True, slots=True)
class Sender:
    """
    Who mail is from.

    Attributes:
        name: The name shown; may be empty.
        address: The address, its domain as the DNS has it.
    """

    name: str
    address: str

    @property
    def domain(self) -> str:
        """The domain of its address."""
        return self.address.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class Letter:
    """
    One email, ready to be handed over.

    Attributes:
        recipient: The address for the envelope.
        data: Headers and body.
        needs_utf8: The server must know SMTPUTF8: the address is not ASCII.
    """

    recipient: str = field(repr=False)
    data: bytes = field(repr=False)
    needs_utf8: bool = False


def read_sender(text: str) -> Sender:
    """
    Read who mail is from, as a setting says it: ``Name <local@domain>`` or the address alone.

    Raises:
        ValueError: It cannot be read, or is not in ASCII before the @.
    """
    name, address = parseaddr(text)
    if fault := header_fault(text) or email_fault(address):
        raise ValueError(f"sender {text!r}: {fault}")
    if not address.rpartition("@")[0].isascii():
        raise ValueError(f"sender {text!r}: a mail server may not know the letters before the @")
    return Sender(name, email_ascii(address))


def header_fault(text: str) -> str:
    """Say why a text must not go into a header, or return an empty string."""
    if any(unicodedata.category(char) in FORBIDDEN for char in text):
        return "it holds a line break or another control character"
    return ""


def letter(mail: Mail, sender: Sender, at: datetime) -> Letter:
    """
    Write an email.

    Message-ID and References follow from the delivery and its conversation alone, so that an
    attempt whose fate is unknown can be repeated, and mail of one conversation is shown together.

    Args:
        mail: What it says; its address has been looked at.
        sender: Who it is from.
        at: The time for its Date.

    Raises:
        ValueError: Something for a header holds a line break.
    """
    recipient = email_ascii(mail.to)
    own = message_id(mail.delivery_id, sender.domain)
    lines = [
        f"To: {recipient}",
        f"Date: {format_datetime(at)}",
        f"Message-ID: {own}",
        "Auto-Submitted: auto-generated",
    ]
    if mail.thread:
        root = thread_id(mail.thread, sender.domain)
        lines += [f"In-Reply-To: {root}", f"References: {root}"]
    if mail.unsubscribe_url:
        lines += [
            f"List-Unsubscribe: <{mail.unsubscribe_url}>",
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        ]
    for line in (*lines, mail.subject):
        if fault := header_fault(line):
            raise ValueError(fault)
    # Written by hand: folding would break a long URL or id into encoded words.
    head = "".join(f"{line}\r\n" for line in lines).encode()
    return Letter(recipient, head + _body(mail, sender), not recipient.isascii())


def thread_id(thread: str, domain: str) -> str:
    """Return the id of the message that all mail of a conversation claims to answer."""
    return f"<t.{hashlib.sha256(thread.encode()).hexdigest()[:32]}@{domain}>"


def _body(mail: Mail, sender: Sender) -> bytes:
    message = EmailMessage(policy=POLICY)
    message["From"] = Address(clean(sender.name), addr_spec=sender.address)
    message["Subject"] = clean(mail.subject)[:SUBJECT_CHARS_MAX]
    message.set_content(clean(mail.text))
    if mail.html:
        message.add_alternative(clean(mail.html), subtype="html")
    return message.as_bytes()
