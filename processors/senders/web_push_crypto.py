"""
What keeps a web push between us and the browser: encryption, and a signature that says who sends.

The encryption is RFC 8291 (one record of aes128gcm, RFC 8188), the signature VAPID (RFC 8292).
"""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from engine import Clock
from processors.errors import ConfigurationError
from processors.senders.google import import_jwt

BODY_BYTES_MAX: Final = 4_096
SALT_BYTES: Final = 16
AUTH_BYTES: Final = 16
POINT_BYTES: Final = 65
OVERHEAD_BYTES: Final = SALT_BYTES + 4 + 1 + POINT_BYTES + 1 + 16
"""Salt, record size, length of the key, the key; the record's delimiter and tag."""

TEXT_BYTES_MAX: Final = BODY_BYTES_MAX - OVERHEAD_BYTES
TOKEN_S: Final = 43_200
"""How long a signature is good for; RFC 8292 allows a day."""

RENEW_S: Final = 36_000
ORIGINS_MAX: Final = 1_000

KeyMaker = Callable[[], ec.EllipticCurvePrivateKey]
Random = Callable[[int], bytes]


class BadKeys(Exception):
    """The keys of a subscription are none, so nothing can be encrypted for it."""


def encrypt(
    text: bytes, keys: dict[str, str], *, ours: ec.EllipticCurvePrivateKey, salt: bytes
) -> bytes:
    """
    Encrypt for one subscription.

    Args:
        text: At most :data:`TEXT_BYTES_MAX` bytes.
        keys: ``p256dh`` and ``auth`` of the subscription, base64url.
        ours: A key made for this message alone.
        salt: 16 random bytes.

    Raises:
        BadKeys: The keys are none.
    """
    assert len(text) <= TEXT_BYTES_MAX
    assert len(salt) == SALT_BYTES
    try:
        point, secret = decoded(keys["p256dh"]), decoded(keys["auth"])
        theirs = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except (KeyError, ValueError) as error:
        raise BadKeys(str(error)) from None
    if len(secret) != AUTH_BYTES or len(point) != POINT_BYTES:
        raise BadKeys("a key of the wrong length")
    our_point = ours.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    shared = ours.exchange(ec.ECDH(), theirs)
    keyed = _derived(shared, secret, b"WebPush: info\0" + point + our_point, 32)
    content_key = _derived(keyed, salt, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _derived(keyed, salt, b"Content-Encoding: nonce\0", 12)
    record = AESGCM(content_key).encrypt(nonce, text + b"\x02", None)
    head = salt + BODY_BYTES_MAX.to_bytes(4) + bytes([POINT_BYTES]) + our_point
    return head + record


class Vapid:
    """
    Signs who we are, once for each push service and half a day.

    Args:
        key: Our private key.
        subject: Whom the service may write to.
        clock: The time.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, subject: str, clock: Clock) -> None:
        self._jwt = import_jwt()
        self._key = key
        self._subject = subject
        self._clock = clock
        point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self._public = encoded(point)
        self._signed: OrderedDict[str, tuple[int, str]] = OrderedDict()

    def authorization(self, endpoint: str) -> str:
        """Return the header Authorization for a push service."""
        parts = urlsplit(endpoint)
        origin = f"{parts.scheme}://{parts.netloc}"
        now_s = self._clock.now_ms() // 1000
        signed_s, token = self._signed.get(origin, (0, ""))
        if not token or not 0 <= now_s - signed_s < RENEW_S:
            claims = {"aud": origin, "exp": now_s + TOKEN_S, "sub": self._subject}
            token = str(self._jwt.encode(claims, self._key, algorithm="ES256"))
            self._signed[origin] = (now_s, token)
            if len(self._signed) > ORIGINS_MAX:
                self._signed.popitem(last=False)
        return f"vapid t={token}, k={self._public}"


def read_vapid_key(text: str) -> ec.EllipticCurvePrivateKey:
    """
    Read our private key, as PEM or as the 32 bytes in base64url that many tools print.

    Raises:
        ConfigurationError: It is none; the message says what to do, and nothing of the key.
    """
    try:
        if "BEGIN" in text:
            key = load_pem_private_key(text.encode(), password=None)
        else:
            raw = decoded(text.strip())
            key = ec.derive_private_key(int.from_bytes(raw), ec.SECP256R1())
            if len(raw) != 32:
                raise ValueError("a key of the wrong length")
        if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1":
            return key
    except (ValueError, TypeError):
        pass
    raise ConfigurationError(
        "PROCESSORS_PUSH_WEBPUSH_VAPID_KEY is no private P-256 key, in PEM form or as 32 bytes in "
        "base64url; make one with: openssl ecparam -name prime256v1 -genkey -noout"
    )


def encoded(data: bytes) -> str:
    """Write bytes as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """
    Read base64url, with padding or without.

    Raises:
        ValueError: It is none.
    """
    try:
        raw = text.rstrip("=").encode("ascii").translate(bytes.maketrans(b"-_", b"+/"))
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(f"no base64url: {type(error).__name__}") from None


def _derived(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)
