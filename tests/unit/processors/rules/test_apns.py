"""What APNs' answers mean, row by row."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.answers import Answer, Kind
from processors.rules.apns import (
    answer,
    is_token_expired,
    is_token_proven,
    is_too_large,
)

NOW_MS = 1_763_769_600_000
QUARTER_MS = 900_000


def judged(status: int, reason: str = "", *, retry_after: str = "", **extra: object) -> Answer:
    body = orjson.dumps({"reason": reason, **extra}) if reason else b""
    headers = {"retry-after": retry_after} if retry_after else {}
    return answer(status, headers, body, now_ms=NOW_MS)


def test_a_taken_push_has_apple_s_id() -> None:
    assert answer(200, {"apns-id": "A"}, b"", now_ms=NOW_MS) == Answer(Kind.SENT, provider_id="A")


@pytest.mark.parametrize("reason", ["Unregistered", "ExpiredToken"])
def test_a_token_is_gone_since_the_time_told(reason: str) -> None:
    found = judged(410, reason, timestamp=NOW_MS - 5)

    assert found == Answer(Kind.TARGET_GONE, reason, gone_since_ms=NOW_MS - 5)


@pytest.mark.parametrize("timestamp", [0, -1, NOW_MS + 1, "soon", None, True, 1.5])
def test_a_time_that_makes_no_sense_is_none(timestamp: object) -> None:
    assert judged(410, "Unregistered", timestamp=timestamp).gone_since_ms == 0


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (400, "BadDeviceToken", Kind.TARGET_GONE),
        (400, "DeviceTokenNotForTopic", Kind.TARGET_GONE),
        (403, "ExpiredProviderToken", Kind.MISCONFIGURED),
        (403, "InvalidProviderToken", Kind.MISCONFIGURED),
        (403, "MissingProviderToken", Kind.MISCONFIGURED),
        (403, "BadCertificate", Kind.MISCONFIGURED),
        (403, "BadCertificateEnvironment", Kind.MISCONFIGURED),
        (403, "Forbidden", Kind.MISCONFIGURED),
        (403, "TopicDisallowed", Kind.MISCONFIGURED),
        (400, "TopicDisallowed", Kind.MISCONFIGURED),
        (413, "PayloadTooLarge", Kind.REFUSED),
        (400, "BadCollapseId", Kind.REFUSED),
        (400, "BadExpirationDate", Kind.REFUSED),
        (400, "BadMessageId", Kind.REFUSED),
        (400, "BadPriority", Kind.REFUSED),
        (400, "BadTopic", Kind.REFUSED),
        (400, "DuplicateHeaders", Kind.REFUSED),
        (400, "IdleTimeout", Kind.REFUSED),
        (400, "InvalidPushType", Kind.REFUSED),
        (400, "MissingDeviceToken", Kind.REFUSED),
        (400, "MissingTopic", Kind.REFUSED),
        (400, "PayloadEmpty", Kind.REFUSED),
        (404, "BadPath", Kind.REFUSED),
        (405, "MethodNotAllowed", Kind.REFUSED),
        (503, "Shutdown", Kind.LATER),
    ],
)
def test_a_row_of_the_table(status: int, reason: str, kind: Kind) -> None:
    found = judged(status, reason)

    assert (found.kind, found.code, found.retry_after_ms) == (kind, reason, 0)


@pytest.mark.parametrize(
    ("status", "reason", "retry_after", "wanted"),
    [
        (429, "TooManyRequests", "",
         Answer(Kind.LIMITED, "TooManyRequests", retry_after_ms=60_000)),
        (429, "TooManyRequests", "5",
         Answer(Kind.LIMITED, "TooManyRequests", retry_after_ms=5_000)),
        (429, "TooManyProviderTokenUpdates", "",
         Answer(Kind.LIMITED, "TooManyProviderTokenUpdates", retry_after_ms=1_200_000,
                scope="provider")),
        (500, "InternalServerError", "",
         Answer(Kind.LATER, "InternalServerError", retry_after_ms=QUARTER_MS, scope="provider")),
        (500, "", "", Answer(Kind.LATER, "http-500", retry_after_ms=QUARTER_MS, scope="provider")),
        (503, "ServiceUnavailable", "",
         Answer(Kind.LATER, "ServiceUnavailable", retry_after_ms=QUARTER_MS, scope="provider")),
        (503, "ServiceUnavailable", "Sat, 22 Nov 2025 00:00:30 GMT",
         Answer(Kind.LATER, "ServiceUnavailable", retry_after_ms=30_000, scope="provider")),
    ],
)  # fmt: skip
def test_who_has_to_wait_and_how_long(
    status: int, reason: str, retry_after: str, wanted: Answer
) -> None:
    assert judged(status, reason, retry_after=retry_after) == wanted


def test_a_fresh_token_is_worth_a_try_only_where_ours_is_too_old() -> None:
    assert is_token_expired(judged(403, "ExpiredProviderToken"))
    assert not is_token_expired(judged(403, "InvalidProviderToken"))


def test_what_shows_that_the_token_was_found_valid() -> None:
    proven = {status for status in (200, 400, 403, 410, 413, 429, 500, 503)
              if is_token_proven(status)}  # fmt: skip

    assert proven == {200, 400, 410, 413, 429}


def test_a_shorter_push_is_worth_a_try_after_413_alone() -> None:
    assert is_too_large(413)
    assert not is_too_large(400)


@given(st.integers(100, 599), st.binary(max_size=60))
def test_whatever_comes_is_an_answer_with_a_short_code(status: int, body: bytes) -> None:
    found = answer(status, {}, body, now_ms=NOW_MS)

    assert (found.kind is Kind.SENT) == (status == 200)
    assert len(found.code) <= 64
