"""Who may connect, by what a request says. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence

UNKNOWN = "unknown"


def is_origin_allowed(origin: str | None, allowed: Sequence[str]) -> bool:
    """
    Judge the page from which a browser connects; only exact ones count.

    Browsers always say it. Other clients say none: nobody can lead them here against their will.
    """
    return origin is None or origin in allowed


def client_address(remote: str | None, forwarded: Sequence[str], proxies: int) -> str:
    """
    Tell from where a client connects.

    Args:
        remote: Who connected to us.
        forwarded: The ``X-Forwarded-For`` headers, in their order.
        proxies: Trusted proxies in between. Each appends the address that connected to it, so
            that the client's is that many from the end; what stands before is the client's word.
    """
    if proxies == 0:
        return remote or UNKNOWN
    hops = [hop.strip() for header in forwarded for hop in header.split(",") if hop.strip()]
    return hops[-proxies] if len(hops) >= proxies else remote or UNKNOWN


def is_bearer(headers: Mapping[str, str], token: str) -> bool:
    """Tell whether a request shows a token, in a time that does not depend on what it shows."""
    scheme, _, shown = headers.get("Authorization", "").partition(" ")
    is_same = hmac.compare_digest(_digest(shown.strip()), _digest(token))
    return bool(token) and scheme.lower() == "bearer" and is_same


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()
