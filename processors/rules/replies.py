"""
Values sealed for one asker: HPKE (RFC 9180) with X25519, HKDF-SHA256 and AES-256-GCM.

What a job returns is kept in Redis and told to whoever reads its answer; a sealed value is of use
to the holder of the private key alone.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

KEY_BYTES: Final = 32
SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class BadReplyKey(ValueError):
    """A text is not a key of 32 bytes in base64."""


class BadReply(Exception):
    """A sealed value does not open with this key, or is of another message."""


def key_bytes(text: str) -> bytes:
    """
    Read a key from base64, either alphabet, with or without its padding.

    Raises:
        BadReplyKey: It is none.
    """
    try:
        key = base64.b64decode(text.translate({45: 43, 95: 47}).rstrip("=") + "=", validate=True)
    except (binascii.Error, ValueError):
        raise BadReplyKey("a reply key must be base64") from None
    if len(key) != KEY_BYTES:
        raise BadReplyKey(f"a reply key has {KEY_BYTES} bytes, not {len(key)}")
    return key


def sealed(public: bytes, content: bytes, *, message_id: UUID, version: int) -> str:
    """Seal a content for the holder of a key; twice the same is never the same text."""
    key = X25519PublicKey.from_public_bytes(public)
    return base64.b64encode(SUITE.encrypt(content, key, _info(message_id, version))).decode()


def opened(private: bytes, text: str, *, message_id: UUID, version: int) -> bytes:
    """
    Open a sealed content.

    Raises:
        BadReply: It does not open.
    """
    key = X25519PrivateKey.from_private_bytes(private)
    try:
        record = base64.b64decode(text, validate=True)
        return SUITE.decrypt(record, key, _info(message_id, version))
    except (InvalidTag, ValueError):
        raise BadReply(f"message {message_id} was sealed for another key, or damaged") from None


def public_of(private: bytes) -> bytes:
    """Return the public key of a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def _info(message_id: UUID, version: int) -> bytes:
    return f"streamlane decrypt v1 {message_id} {version}".encode()
