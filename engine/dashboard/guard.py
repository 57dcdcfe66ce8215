"""Who may ask, and what every answer carries. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Mapping

from engine.dashboard.routes import NOBODY, Caller

OPEN_PATHS = frozenset({"/live", "/ready"})
"""Probes carry no credentials; without them they tell no more than well or not."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Server": "streamlane",
}
"""What every answer carries, errors included."""


_LOCAL = Caller(name="page", scope="admin")
_HOLDER = Caller(name="token", scope="admin")


class Guard:
    """
    Judges requests.

    Args:
        host: The address that the server listens on.
        token: What callers must show; empty for no check.
    """

    def __init__(self, host: str, token: str) -> None:
        self._host = host.lower()
        self._digest = _digest(token) if token else b""

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Tell who asks, by the token that is shown: as Bearer, or as Basic's password."""
        if not self._digest:
            return _LOCAL
        scheme, _, credentials = headers.get("Authorization", "").partition(" ")
        shown = ""
        if scheme.lower() == "bearer":
            shown = credentials.strip()
        elif scheme.lower() == "basic":
            # What browsers offer by themselves, so that the page needs no form.
            shown = _password(credentials)
        return _HOLDER if hmac.compare_digest(_digest(shown), self._digest) else NOBODY

    def knows_host(self, host: str) -> bool:
        """
        Tell whether a request names this server.

        Without a token only the name protects from pages elsewhere, whose own names may be made
        to lead here (DNS rebinding).
        """
        if self._digest:
            return True
        name = host.lower()
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") == 1:
            name = name.partition(":")[0]
        if name in {"localhost", self._host}:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _password(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""


def _digest(text: str) -> bytes:
    """Hash, so that the comparison tells nothing of the length either."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
