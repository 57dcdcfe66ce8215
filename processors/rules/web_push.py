"""
What an answer of a browser's push service means (RFC 8030), and whom we may ask at all.

Endpoints of subscriptions are what users hand in. An address that leads into our own network must
not be asked, so hosts are those of a list and addresses are public ones.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

from processors.rules.answers import Answer, Kind
from processors.rules.retry_after import retry_after_ms

MALFORMED: Final = "endpoint-malformed"
UNLISTED: Final = "endpoint-host"
LIMITED_WAIT_MS: Final = 60_000
ENDPOINT_CHARS_MAX: Final = 4_096
VAPID_WORDS: Final = (b"vapid", b"unauthorized", b"authorization", b"jwt")
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
LOOPBACK_NAMES: Final = frozenset({"localhost"})

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def answer(status: int, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> Answer:
    """
    Say what a push service's answer means.

    Args:
        status: HTTP status.
        headers: HTTP headers.
        body: As received, bounded by the caller.
        now_ms: Unix time in milliseconds.
    """
    code = f"http-{status}"
    wait_ms = retry_after_ms(headers, now_ms=now_ms)
    match status:
        case _ if 200 <= status < 300:
            return Answer(Kind.SENT)
        case 404 | 410:
            return Answer(Kind.TARGET_GONE, code)
        case 401 | 403:
            return Answer(Kind.MISCONFIGURED, f"vapid-{status}")
        case 400 if any(word in body.lower() for word in VAPID_WORDS):
            return Answer(Kind.MISCONFIGURED, "vapid-400")
        case 429:
            return Answer(Kind.LIMITED, code, retry_after_ms=wait_ms or LIMITED_WAIT_MS)
        case 408 | 425:
            return Answer(Kind.LATER, code, retry_after_ms=wait_ms)
        case _ if status >= 500:
            return Answer(Kind.LATER, code, retry_after_ms=wait_ms)
        case _:
            # Redirects are not followed: they could lead anywhere.
            return Answer(Kind.REFUSED, code)


def is_too_large(status: int) -> bool:
    """Say whether a shorter push would be taken."""
    return status == 413


def endpoint_fault(endpoint: str, *, hosts: Iterable[str], allow_loopback: bool) -> str:
    """
    Say why an endpoint must not be asked, or return an empty string.

    Args:
        endpoint: The URL that a user handed in.
        hosts: Push services, in lower case; ``*.`` before one means all below it.
        allow_loopback: Whether this machine may be asked, also without TLS.
    """
    if len(endpoint) > ENDPOINT_CHARS_MAX or not endpoint.isascii() or not endpoint.isprintable():
        return MALFORMED
    try:
        parts = urlsplit(endpoint)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return MALFORMED
    if not host or parts.username is not None or parts.password is not None or "\\" in endpoint:
        return MALFORMED
    if allow_loopback and is_loopback(host):
        return "" if parts.scheme in {"http", "https"} else "endpoint-scheme"
    if parts.scheme != "https" or " " in endpoint:
        return "endpoint-scheme"
    if port not in {None, 443}:
        return "endpoint-port"
    return "" if _is_listed(host, hosts) else UNLISTED


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine by its name."""
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def may_be_asked(address: str, *, allow_loopback: bool) -> bool:
    """Say whether an address that a name led to is public, whatever it is wrapped in."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if allow_loopback and found.is_loopback:
        return True
    return all(each.is_global and not each.is_multicast for each in [found, *_wrapped(found)])


def _wrapped(address: Address) -> list[Address]:
    """List the IPv4 addresses to which an IPv6 address would be translated on its way."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    inner: list[Address | None] = [address.ipv4_mapped, address.sixtofour]
    inner += address.teredo or ()
    if address in NAT64:
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in inner if each is not None]


def _is_listed(host: str, hosts: Iterable[str]) -> bool:
    return any(
        host.endswith(listed[1:]) if listed.startswith("*.") else host == listed for listed in hosts
    )
