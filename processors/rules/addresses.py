"""
Addresses of people: when two are the same, and the hash under which one is suppressed.

A suppression outlives the account that it was made for, so it keeps no address. The hash is not
keyed: who has the table and a list of candidates can tell which of them are in it.
"""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Final, Literal

DOMAIN_CHARS_MAX: Final = 253
LOCAL_BYTES_MAX: Final = 64
ADDRESS_BYTES_MAX: Final = 254
"""RFC 5321, sections 4.5.3.1.1 to 4.5.3.1.3; a path has two more characters, its brackets."""

LOCAL_SPECIALS: Final = frozenset('"(),:;<>@[\\]')
"""What a local part has only in quotes; such addresses are not taken (RFC 5321, section 4.1.2)."""


def email_fault(address: str) -> str:
    """Say why an address cannot be written to, or return an empty string."""
    local, at, domain = address.rpartition("@")
    if not at or not local or not domain:
        return "it is not of the form local@domain"
    if not all(char.isprintable() and not char.isspace() for char in address):
        return "it holds white space or control characters"
    if LOCAL_SPECIALS & set(local) or local[0] == "." or local[-1] == "." or ".." in local:
        return "its local part is not a dot-atom"
    if len(local.encode()) > LOCAL_BYTES_MAX:
        return f"its local part has more than {LOCAL_BYTES_MAX} bytes"
    ascii_domain = domain_ascii(domain)
    if not ascii_domain:
        return "its domain is not one"
    if len(local.encode()) + 1 + len(ascii_domain) > ADDRESS_BYTES_MAX:
        return f"it has more than {ADDRESS_BYTES_MAX} bytes"
    return ""


def domain_ascii(domain: str) -> str:
    """Return a domain in the form of the DNS (IDNA 2008), or an empty string where it is none."""
    import idna

    try:
        encoded = idna.encode(domain, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        return ""
    return encoded if len(encoded) <= DOMAIN_CHARS_MAX and not encoded.endswith(".") else ""


def email_ascii(address: str) -> str:
    """Return an address with its domain in the form of the DNS; the local part stays as it is."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain_ascii(domain)}"


def address_hash(channel: Literal["email", "sms"], address: str) -> bytes:
    """
    Return the 32 bytes under which an address is suppressed on a channel.

    Cases of an email address are one: by the standard a server may tell them apart in the local
    part, but none hands them to different people. Numbers are in E.164 form.
    """
    return hashlib.sha256(f"{channel}\n{_folded(channel, address)}".encode()).digest()


def _folded(channel: str, address: str) -> str:
    if channel == "sms":
        return address.strip()
    local, _, domain = unicodedata.normalize("NFC", address.strip()).rpartition("@")
    return f"{local.casefold()}@{domain_ascii(domain) or domain.casefold()}"
