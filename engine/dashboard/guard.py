"""Who may ask, from where, and what every answer carries. Pure."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from engine.dashboard.routes import NOBODY, Caller
from engine.tokens import LOCAL, Token, digest_of

OPEN_PATHS = frozenset({"/live", "/ready"})
"""Probes carry no credentials; without them they tell no more than well or not."""

REPORTS = "/api/csp-report"

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'; "
        f"report-uri {REPORTS}; report-to page"
    ),
    "Reporting-Endpoints": f'page="{REPORTS}"',
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

EVERYBODY = Caller(name=LOCAL, scope="admin")
"""Whoever asks where no token is set, which is over loopback alone."""


class Guard:
    """
    Judges requests.

    Args:
        host: The address that the server listens on.
        tokens: What callers must show one of; empty for no check.
    """

    def __init__(self, host: str, tokens: Sequence[Token]) -> None:
        self._host = host.lower()
        self._tokens = list(tokens)

    @property
    def tokens(self) -> Sequence[Token]:
        """What callers must show one of."""
        return self._tokens

    def replace(self, tokens: Sequence[Token]) -> None:
        """Judge by other tokens from now on; sessions of those that are gone end."""
        assert tokens, "without any token everybody would be let in"
        self._tokens = list(tokens)

    @property
    def is_open(self) -> bool:
        """Whether no token is asked for."""
        return not self._tokens

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Tell who asks, by the token that is shown: as Bearer, or as Basic's password."""
        if self.is_open:
            return EVERYBODY
        token = self.token(_shown(headers.get("Authorization", "")))
        return NOBODY if token is None else caller_of(token)

    def token(self, shown: str) -> Token | None:
        """Find the token that is shown, in a time that tells nothing of the others."""
        digest = digest_of(shown)
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found

    def token_of(self, name: str, mark: str) -> Token | None:
        """Find the token by which a session began, unless it was taken away since."""
        for token in self._tokens:
            if token.name == name and hmac.compare_digest(mark_of(token), mark):
                return token
        return None

    def knows_host(self, host: str) -> bool:
        """
        Tell whether a request names this server.

        Without a token only the name protects from pages elsewhere, whose own names may be made
        to lead here (DNS rebinding).
        """
        if not self.is_open:
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


def caller_of(token: Token) -> Caller:
    """Tell who holds a token."""
    return Caller(name=token.name, scope=token.scope)


def mark_of(token: Token) -> str:
    """Tell tokens apart without keeping them: the beginning of the hash."""
    return token.digest.hex()[:32]


def is_from_elsewhere(headers: Mapping[str, str]) -> bool:
    """
    Tell whether another site's page sent a request that changes something.

    Browsers say so themselves; programs send neither header. An ``Origin`` must name the host that
    the request goes to, port included; a proxy that changes ``Host`` needs ``Sec-Fetch-Site``.
    """
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site.strip().lower() != "same-origin"
    origin = headers.get("Origin")
    if origin is None:
        return False
    return urlsplit(origin).netloc.lower() != headers.get("Host", "").lower() or origin == "null"


def is_embedded(headers: Mapping[str, str]) -> bool:
    """Tell whether another site's page, not a person, asks to look at something."""
    site = headers.get("Sec-Fetch-Site", "").strip().lower()
    mode = headers.get("Sec-Fetch-Mode", "").strip().lower()
    return site in {"cross-site", "same-site"} and mode != "navigate"


def _shown(authorization: str) -> str:
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    # What curl and Prometheus offer too; the user's name does not matter.
    return _password(credentials) if scheme.lower() == "basic" else ""


def _password(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""
