"""
Tokens by which one click in an email ends it, without a login (RFC 8058).

A token names the user, the type and the channel, and is signed; nothing is stored, and it is good
for as long as its key is, since mail is read years later. It allows nothing but to be told less.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args
from uuid import UUID

Channel = Literal["push", "email", "sms", "in_app"]

CHANNELS: Final[tuple[Channel, ...]] = get_args(Channel)
"""A channel's place here is its number in a token: append only."""

PURPOSE: Final = b"streamlane unsubscribe 1\n"
MAC_BYTES: Final = 16
TYPE_BYTES_MAX: Final = 64
TOKEN_CHARS_MAX: Final = 160
HEAD_BYTES: Final = 1 + 16


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """
    What a token asks for.

    Attributes:
        user_id: Who wants to be told less.
        type: Of which type of notification; ``*`` for all.
        channel: Over which channel.
    """

    user_id: UUID
    type: str
    channel: Channel


def unsubscribe_token(wish: Unsubscribe, keys: Sequence[str]) -> str:
    """Sign a wish with the first key; the token fits into a URL as it is."""
    kind = wish.type.encode()
    assert 1 <= len(kind) <= TYPE_BYTES_MAX
    body = bytes([CHANNELS.index(wish.channel)]) + wish.user_id.bytes + kind
    return base64.urlsafe_b64encode(_mac(body, keys[0]) + body).decode().rstrip("=")


def read_unsubscribe(token: str, keys: Sequence[str]) -> Unsubscribe | None:
    """Return what a token asks for, or None where none of the keys has signed it."""
    if len(token) > TOKEN_CHARS_MAX:
        return None
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    mac, body = data[:MAC_BYTES], data[MAC_BYTES:]
    if not any(hmac.compare_digest(mac, _mac(body, key)) for key in keys):
        return None
    # Only what was signed is read, so its shape is ours.
    channel = CHANNELS[body[0]]
    return Unsubscribe(UUID(bytes=body[1:HEAD_BYTES]), body[HEAD_BYTES:].decode(), channel)


def unsubscribe_url(base_url: str, wish: Unsubscribe, keys: Sequence[str]) -> str:
    """Return the address for List-Unsubscribe, which the gateway serves under the base."""
    return f"{base_url.rstrip('/')}/unsubscribe/{unsubscribe_token(wish, keys)}"


def _mac(body: bytes, key: str) -> bytes:
    return hmac.digest(key.encode(), PURPOSE + body, hashlib.sha256)[:MAC_BYTES]
