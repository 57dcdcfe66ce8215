"""
What an answer of FCM's HTTP v1 API means.

An error is JSON with a ``status`` of Google's own and, where FCM itself has spoken, a detail of
type ``FcmError`` with the code. Proxies in between answer with HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from processors.rules.answers import Answer, Kind
from processors.rules.retry_after import retry_after_ms

QUOTA_WAIT_MS: Final = 60_000
"""What a quota is waited for where FCM does not say: its quotas are per minute."""

CODE_CHARS_MAX: Final = 64
INVALID_TEXT: Final = "not a valid fcm registration token"
TARGET_FIELDS: Final = frozenset({"message.token", "message.fid"})


def answer(status: int, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> Answer:
    """
    Say what FCM's answer to one message means.

    Args:
        status: HTTP status.
        headers: HTTP headers.
        body: As received, bounded by the caller.
        now_ms: Unix time in milliseconds.
    """
    parsed = _parsed(body)
    if 200 <= status < 300:
        name = parsed.get("name")
        return Answer(Kind.SENT, provider_id=name[:200] if isinstance(name, str) else "")
    error = parsed.get("error")
    error = error if isinstance(error, dict) else {}
    fcm_code = _fcm_code(error)
    code = fcm_code or _word(error.get("status")) or f"http-{status}"
    wait_ms = retry_after_ms(headers, now_ms=now_ms)
    if status >= 500 or status == 408:
        return Answer(Kind.LATER, code, retry_after_ms=wait_ms, scope="provider")
    if status == 429:
        wait_ms = wait_ms or QUOTA_WAIT_MS
        if _concerns_device(error):
            return Answer(Kind.LIMITED, code, retry_after_ms=wait_ms)
        return Answer(Kind.LIMITED, code, retry_after_ms=wait_ms, scope="provider")
    return Answer(_kind_of_refusal(status, fcm_code, error), code)


def is_token_refused(status: int, body: bytes) -> bool:
    """Say whether the access token was refused, so that a fresh one may help."""
    return status == 401 and _fcm_code(_parsed(body).get("error")) != "THIRD_PARTY_AUTH_ERROR"


def is_sender_mismatch(answer: Answer) -> bool:
    """Say whether the target belongs to another project; or ours is the wrong one."""
    return answer.code == "SENDER_ID_MISMATCH"


def token_answer(status: int, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> Answer:
    """
    Say what a failed request for an access token means for the message that needed it.

    Args:
        status: HTTP status, not 200.
        headers: HTTP headers.
        body: As received, bounded by the caller.
        now_ms: Unix time in milliseconds.
    """
    code = f"oauth-{_word(_parsed(body).get('error')) or f'http-{status}'}"[:CODE_CHARS_MAX]
    wait_ms = retry_after_ms(headers, now_ms=now_ms)
    if status == 429:
        return Answer(Kind.LIMITED, code, retry_after_ms=wait_ms or QUOTA_WAIT_MS, scope="provider")
    if status >= 500 or status == 408:
        return Answer(Kind.LATER, code, retry_after_ms=wait_ms, scope="provider")
    return Answer(Kind.MISCONFIGURED, code, scope="provider")


def _kind_of_refusal(status: int, fcm_code: str, error: Mapping[str, Any]) -> Kind:
    if fcm_code == "THIRD_PARTY_AUTH_ERROR":
        # FCM's own credentials with APNs or a push service, which are kept in the project.
        return Kind.MISCONFIGURED
    match status:
        case 404 if fcm_code == "UNREGISTERED":
            return Kind.TARGET_GONE
        case 403 if fcm_code == "SENDER_ID_MISMATCH":
            return Kind.TARGET_GONE
        case 400 if _blames_target(error):
            return Kind.TARGET_GONE
        case 404 | 403 if not fcm_code:
            # No such project, the API switched off, or no right to send.
            return Kind.MISCONFIGURED
        case 401:
            return Kind.MISCONFIGURED
        case _ if status < 400:
            # A redirect: the address is not FCM's.
            return Kind.MISCONFIGURED
        case _:
            return Kind.REFUSED


def _blames_target(error: Mapping[str, Any]) -> bool:
    violations = [
        violation
        for detail in _details(error)
        for violation in _dicts(detail.get("fieldViolations"))
    ]
    named = any(violation.get("field") in TARGET_FIELDS for violation in violations)
    texts = [error.get("message"), *(violation.get("description") for violation in violations)]
    return named or any(isinstance(text, str) and INVALID_TEXT in text.lower() for text in texts)


def _concerns_device(error: Mapping[str, Any]) -> bool:
    """Say whether the quota of one device is meant, not that of the project."""
    texts = [error.get("message")]
    for detail in _details(error):
        for violation in _dicts(detail.get("violations")):
            texts += [violation.get("subject"), violation.get("description")]
    return any(isinstance(text, str) and "device" in text.lower() for text in texts)


def _fcm_code(error: object) -> str:
    if not isinstance(error, dict):
        return ""
    for detail in _details(error):
        kind = detail.get("@type")
        if isinstance(kind, str) and kind.endswith("google.firebase.fcm.v1.FcmError"):
            return _word(detail.get("errorCode"))
    return ""


def _details(error: Mapping[str, Any]) -> list[dict[str, Any]]:
    return _dicts(error.get("details"))


def _dicts(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _word(value: object) -> str:
    """Take a code as it is named, and nothing that could be a sentence."""
    if isinstance(value, str) and value.isascii() and value.replace("_", "").isalnum():
        return value[:CODE_CHARS_MAX]
    return ""


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
