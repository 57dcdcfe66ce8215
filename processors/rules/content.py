"""What a message may hold, and when two messages are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final
from uuid import UUID

CONTENT_BYTES_MAX: Final = 16_384


def content_fault(content: str) -> str:
    """
    Say why a content cannot be stored, or return an empty string.

    The schema bounds characters; this bounds what they weigh, and refuses what PostgreSQL
    cannot hold or nobody could see.
    """
    weight = len(content.encode("utf-8", "surrogatepass"))
    if weight > CONTENT_BYTES_MAX:
        return f"content has {weight} bytes of UTF-8, at most {CONTENT_BYTES_MAX} are allowed"
    if "\x00" in content:
        return "content holds a NUL character"
    if any("\ud800" <= char <= "\udfff" for char in content):
        return "content holds half of a surrogate pair"
    if not content.strip():
        return "content is blank"
    return ""


def client_id_fault(client_message_id: str) -> str:
    """Say why a client message id cannot be stored, or return an empty string."""
    if not client_message_id.isprintable() or not client_message_id.strip():
        return "clientMessageId must be printable and not blank"
    return ""


def described(kind: str, content: str, attachments: Iterable[UUID]) -> str:
    """Put together what makes two messages the same."""
    return "\n".join((kind, content, *(f"attachment {each}" for each in attachments)))


def body_hash(text: str) -> bytes:
    """Fingerprint by which a repeated client message id is told from a reused one."""
    return hashlib.sha256(text.encode()).digest()
