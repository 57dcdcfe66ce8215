"""
The format of what is encrypted: contents under data keys, data keys under keys of the keyring.

A record is one byte of format version, 12 bytes of nonce, and AES-256-GCM's ciphertext with its tag
of 16 bytes. What a record belongs to is authenticated with it: a record that is moved to another
row, field or version does not open. Which key to use is told by its id; none is ever tried out,
since a GCM record may open under more keys than its own.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FORMAT: Final = 1
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
CHECK_BYTES: Final = 8
BLIND_BYTES: Final = 8

CONTENT: Final = b"streamlane content"
DATA_KEY: Final = b"streamlane data key"


class BadRecord(Exception):
    """A record is damaged, of an unknown format, or belongs elsewhere."""


class WrongKey(Exception):
    """A data key was wrapped by another key than the one at hand."""


def associated(
    *,
    tenant: str,
    conversation_id: UUID,
    message_id: UUID,
    version: int,
    field: str,
    key_id: UUID,
) -> bytes:
    """
    Write down what a content belongs to, so that no two places read the same.

    Args:
        tenant: The conversation's tenant.
        conversation_id: The conversation.
        message_id: The message.
        version: The version of its content.
        field: Which of its fields.
        key_id: The data key.
    """
    return _prefixed(
        [
            CONTENT,
            bytes([FORMAT]),
            tenant.encode(),
            conversation_id.bytes,
            message_id.bytes,
            version.to_bytes(8),
            field.encode(),
            key_id.bytes,
        ]
    )


def encrypt(cipher: AESGCM, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """
    Make a record.

    Args:
        cipher: The data key.
        nonce: 12 random bytes, never used twice with one key.
        plaintext: What to hide.
        aad: What it belongs to, see :func:`associated`.
    """
    assert len(nonce) == NONCE_BYTES
    return bytes([FORMAT]) + nonce + cipher.encrypt(nonce, plaintext, aad)


def decrypt(cipher: AESGCM, record: bytes, aad: bytes) -> bytes:
    """
    Open a record.

    Raises:
        BadRecord: It does not open; nothing is known of why.
    """
    if len(record) < 1 + NONCE_BYTES + TAG_BYTES:
        raise BadRecord(f"a record of {len(record)} bytes is too short")
    if record[0] != FORMAT:
        raise BadRecord(f"format {record[0]} is unknown")
    nonce, sealed = record[1 : 1 + NONCE_BYTES], record[1 + NONCE_BYTES :]
    try:
        return cipher.decrypt(nonce, sealed, aad)
    except InvalidTag:
        raise BadRecord("the record is damaged or belongs elsewhere") from None


def wrap(kek: bytes, key: bytes, nonce: bytes, context: Mapping[str, str]) -> bytes:
    """
    Encrypt a data key with a key of the keyring.

    The result is a record with eight bytes before it that tell whether the right key is at hand.

    Args:
        kek: The key of the keyring, 32 bytes.
        key: The data key.
        nonce: 12 random bytes.
        context: What the data key belongs to.
    """
    cipher = AESGCM(derived(kek, "wrap"))
    return check_value(kek) + encrypt(cipher, nonce, key, _context(context))


def unwrap(kek: bytes, wrapped: bytes, context: Mapping[str, str]) -> bytes:
    """
    Decrypt a data key.

    Raises:
        WrongKey: It was wrapped by another key than this one.
        BadRecord: It is damaged or belongs elsewhere.
    """
    if not hmac.compare_digest(wrapped[:CHECK_BYTES], check_value(kek)):
        raise WrongKey
    return decrypt(AESGCM(derived(kek, "wrap")), wrapped[CHECK_BYTES:], _context(context))


def check_value(kek: bytes) -> bytes:
    """Return eight bytes that tell keys of a keyring apart, and nothing of the key."""
    return derived(kek, "check", CHECK_BYTES)


def derived(key: bytes, purpose: str, length: int = KEY_BYTES) -> bytes:
    """Derive a key for one purpose, from which neither the key nor one for another follows."""
    assert len(key) == KEY_BYTES
    hkdf = HKDF(SHA256(), length, salt=None, info=f"streamlane {purpose} v1".encode())
    return hkdf.derive(key)


def keyed_hash(key: bytes, data: bytes) -> bytes:
    """Return HMAC-SHA256."""
    return hmac.digest(key, data, "sha256")


def blind_terms(key: bytes, terms: Iterable[str]) -> list[bytes]:
    """Hash words so that equal ones are found and none is told; in the order given."""
    return [keyed_hash(key, term.encode())[:BLIND_BYTES] for term in terms]


def _context(context: Mapping[str, str]) -> bytes:
    pairs = [text.encode() for name in sorted(context) for text in (name, context[name])]
    return _prefixed([DATA_KEY, bytes([FORMAT]), *pairs])


def _prefixed(parts: Iterable[bytes]) -> bytes:
    return b"".join(len(part).to_bytes(4) + part for part in parts)
