"""What an answer of APNs means: a status and, in the body, a reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from processors.rules.answers import Answer, Kind
from processors.rules.retry_after import retry_after_ms

TROUBLE_WAIT_MS: Final = 900_000
"""Apple: wait a quarter of an hour when the service is in trouble."""

DEVICE_WAIT_MS: Final = 60_000
TOKEN_UPDATE_WAIT_MS: Final = 1_200_000
"""Apple takes a new token for a key once in 20 minutes."""

CODE_CHARS_MAX: Final = 64
BAD_TARGETS: Final = frozenset({"BadDeviceToken", "DeviceTokenNotForTopic"})


def answer(status: int, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> Answer:
    """
    Say what APNs' answer to one push means.

    Args:
        status: HTTP status.
        headers: HTTP headers, their names in lower case.
        body: As received, bounded by the caller.
        now_ms: Unix time in milliseconds.
    """
    if status == 200:
        return Answer(Kind.SENT, provider_id=headers.get("apns-id", "")[:64])
    parsed = _parsed(body)
    reason = _word(parsed.get("reason"))
    code = reason or f"http-{status}"
    wait_ms = retry_after_ms(headers, now_ms=now_ms)
    match status, reason:
        case 410, _:
            return Answer(
                Kind.TARGET_GONE, code, gone_since_ms=_since_ms(parsed.get("timestamp"), now_ms)
            )
        case _, "BadDeviceToken" | "DeviceTokenNotForTopic":
            return Answer(Kind.TARGET_GONE, code)
        case (403, _) | (_, "TopicDisallowed") | (401, _):
            return Answer(Kind.MISCONFIGURED, code, scope="provider")
        case 429, "TooManyProviderTokenUpdates":
            wait_ms = wait_ms or TOKEN_UPDATE_WAIT_MS
            return Answer(Kind.LIMITED, code, retry_after_ms=wait_ms, scope="provider")
        case 429, _:
            return Answer(Kind.LIMITED, code, retry_after_ms=wait_ms or DEVICE_WAIT_MS)
        case 503, "Shutdown":
            # One server of many goes; the next connection leads to another.
            return Answer(Kind.LATER, code, retry_after_ms=wait_ms, scope="provider")
        case _ if status >= 500:
            return Answer(
                Kind.LATER, code, retry_after_ms=wait_ms or TROUBLE_WAIT_MS, scope="provider"
            )
        case _ if status < 400:
            # No status of APNs: the address is not Apple's.
            return Answer(Kind.MISCONFIGURED, code, scope="provider")
        case _:
            return Answer(Kind.REFUSED, code)


def is_token_expired(answer: Answer) -> bool:
    """Say whether a freshly signed token may help."""
    return answer.code == "ExpiredProviderToken"


def is_token_proven(status: int) -> bool:
    """Say whether an answer shows that the connection's token was found valid."""
    return status in {200, 400, 410, 413, 429}


def is_too_large(status: int) -> bool:
    """Say whether a shorter push would be taken."""
    return status == 413


def _since_ms(timestamp: object, now_ms: int) -> int:
    """Read since when a token is gone; a time that makes no sense is none."""
    if isinstance(timestamp, int) and not isinstance(timestamp, bool) and 0 < timestamp <= now_ms:
        return timestamp
    return 0


def _word(value: object) -> str:
    if isinstance(value, str) and value.isascii() and value.isalnum():
        return value[:CODE_CHARS_MAX]
    return ""


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
