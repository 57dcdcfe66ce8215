"""How a push is written for Apple's devices, whether we hand it to Apple or FCM does."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from processors.rules.fitting import clean
from processors.senders.base import Push

COLLAPSE_BYTES_MAX: Final = 64


def push_type(push: Push) -> str:
    """Name the kind of push: one that sets a badge is no background push, though it is silent."""
    return "background" if push.silent and push.badge is None else "alert"


def priority(push: Push) -> str:
    """Choose between at once (10) and when it suits the device's battery (5)."""
    return "10" if push.urgent and not push.silent else "5"


def expiration(push: Push, *, now_ms: int) -> str:
    """Say until when it may be kept, in Unix seconds; 0: not at all."""
    return str(now_ms // 1000 + push.ttl_s) if push.ttl_s > 0 else "0"


def collapse_id(push: Push) -> str:
    """
    Name what the device folds by: the collapse key, or the delivery where there is none.

    So a delivery that is sent twice is seen once. A key that does not fit is told by its hash.
    """
    key = push.collapse_key or str(push.delivery_id)
    raw = key.encode("utf-8", "replace")
    if len(raw) <= COLLAPSE_BYTES_MAX and key.isascii() and key.isprintable():
        return key
    return hashlib.sha256(raw).hexdigest()


def headers(push: Push, *, now_ms: int) -> list[tuple[str, str]]:
    """Write the headers that tell how a push is treated."""
    return [
        ("apns-push-type", push_type(push)),
        ("apns-priority", priority(push)),
        ("apns-expiration", expiration(push, now_ms=now_ms)),
        ("apns-collapse-id", collapse_id(push)),
    ]


def signs(push: Push) -> dict[str, Any]:
    """Write what ``aps`` holds beside the alert."""
    found: dict[str, Any] = {} if push.badge is None else {"badge": push.badge}
    if push_type(push) == "background":
        found["content-available"] = 1
    return found


def custom(push: Push) -> dict[str, str]:
    """Write what the app is handed, with the delivery's id by which it may fold, too."""
    data = {clean(name): clean(value) for name, value in push.data.items() if name != "aps"}
    return {**data, "deliveryId": str(push.delivery_id)}
