"""What FCM's answers mean, row by row."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.answers import Answer, Kind
from processors.rules.fcm import answer, is_sender_mismatch, is_token_refused, token_answer

NOW_MS = 1_763_769_600_000


def fcm_error(status: str, *details: dict[str, Any], code: str = "", message: str = "") -> bytes:
    own = {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}
    error = {"status": status, "message": message, "details": [*([own] if code else []), *details]}
    return orjson.dumps({"error": error})


def violation(field: str, description: str = "") -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{"field": field, "description": description}],
    }


def quota(subject: str) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"subject": subject}],
    }


def judged(status: int, body: bytes, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return answer(status, named, body, now_ms=NOW_MS)


def test_a_taken_message_has_its_name() -> None:
    assert judged(200, b'{"name":"projects/p/messages/1"}') == Answer(
        Kind.SENT, provider_id="projects/p/messages/1"
    )
    assert judged(200, b"") == Answer(Kind.SENT)


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        pytest.param(
            404, fcm_error("NOT_FOUND", code="UNREGISTERED"), Kind.TARGET_GONE, "UNREGISTERED",
            id="unregistered",
        ),
        pytest.param(
            403, fcm_error("PERMISSION_DENIED", code="SENDER_ID_MISMATCH"), Kind.TARGET_GONE,
            "SENDER_ID_MISMATCH", id="other sender",
        ),
        pytest.param(
            400,
            fcm_error("INVALID_ARGUMENT", violation("message.token"), code="INVALID_ARGUMENT"),
            Kind.TARGET_GONE, "INVALID_ARGUMENT", id="token named by its field",
        ),
        pytest.param(
            400,
            fcm_error("INVALID_ARGUMENT", violation("message.fid"), code="INVALID_ARGUMENT"),
            Kind.TARGET_GONE, "INVALID_ARGUMENT", id="installation id named by its field",
        ),
        pytest.param(
            400,
            fcm_error(
                "INVALID_ARGUMENT",
                code="INVALID_ARGUMENT",
                message="The registration token is not a valid FCM registration token",
            ),
            Kind.TARGET_GONE, "INVALID_ARGUMENT", id="token named in words",
        ),
        pytest.param(
            400,
            fcm_error("INVALID_ARGUMENT", violation("message.data"), code="INVALID_ARGUMENT"),
            Kind.REFUSED, "INVALID_ARGUMENT", id="another field",
        ),
        pytest.param(400, b"{}", Kind.REFUSED, "http-400", id="a 400 without words"),
        pytest.param(404, fcm_error("NOT_FOUND"), Kind.MISCONFIGURED, "NOT_FOUND", id="no project"),
        pytest.param(404, b"<html>", Kind.MISCONFIGURED, "http-404", id="a 404 in HTML"),
        pytest.param(
            403, fcm_error("PERMISSION_DENIED"), Kind.MISCONFIGURED, "PERMISSION_DENIED",
            id="no right to send",
        ),
        pytest.param(
            401, fcm_error("UNAUTHENTICATED", code="THIRD_PARTY_AUTH_ERROR"), Kind.MISCONFIGURED,
            "THIRD_PARTY_AUTH_ERROR", id="credentials with APNs",
        ),
        pytest.param(
            401, fcm_error("UNAUTHENTICATED"), Kind.MISCONFIGURED, "UNAUTHENTICATED",
            id="access token",
        ),
        pytest.param(302, b"", Kind.MISCONFIGURED, "http-302", id="redirect"),
        pytest.param(500, fcm_error("INTERNAL", code="INTERNAL"), Kind.LATER, "INTERNAL", id="500"),
        pytest.param(502, b"<html>Bad Gateway</html>", Kind.LATER, "http-502", id="502 in HTML"),
        pytest.param(
            503, fcm_error("UNAVAILABLE", code="UNAVAILABLE"), Kind.LATER, "UNAVAILABLE", id="503"
        ),
        pytest.param(504, b"", Kind.LATER, "http-504", id="504"),
    ],
)  # fmt: skip
def test_a_row_of_the_table(status: int, body: bytes, kind: Kind, code: str) -> None:
    found = judged(status, body)

    assert (found.kind, found.code, found.retry_after_ms) == (kind, code, 0)


def test_a_quota_is_waited_for_as_long_as_fcm_says() -> None:
    body = fcm_error("RESOURCE_EXHAUSTED", code="QUOTA_EXCEEDED")

    assert judged(429, body, Retry_After="7") == Answer(
        Kind.LIMITED, "QUOTA_EXCEEDED", retry_after_ms=7_000, scope="provider"
    )
    assert judged(429, body).retry_after_ms == 60_000
    assert judged(429, fcm_error("RESOURCE_EXHAUSTED")).scope == "provider"


@pytest.mark.parametrize(
    "body",
    [
        fcm_error("RESOURCE_EXHAUSTED", quota("device:abc"), code="QUOTA_EXCEEDED"),
        fcm_error("RESOURCE_EXHAUSTED", message="Device message rate exceeded"),
    ],
)
def test_the_quota_of_one_device_stops_no_other(body: bytes) -> None:
    assert judged(429, body).scope == "target"


@pytest.mark.parametrize(
    ("told", "wait_ms"), [("120", 120_000), ("Sat, 22 Nov 2025 00:00:30 GMT", 30_000)]
)
def test_trouble_is_waited_out_as_long_as_fcm_says(told: str, wait_ms: int) -> None:
    found = judged(503, b"", Retry_After=told)

    assert (found.kind, found.retry_after_ms, found.scope) == (Kind.LATER, wait_ms, "provider")


def test_a_fresh_access_token_is_worth_a_try_only_where_ours_was_refused() -> None:
    third_party = fcm_error("UNAUTHENTICATED", code="THIRD_PARTY_AUTH_ERROR")

    assert is_token_refused(401, fcm_error("UNAUTHENTICATED"))
    assert is_token_refused(401, b"")
    assert not is_token_refused(401, third_party)
    assert not is_token_refused(403, b"")


def test_targets_of_another_project_are_told() -> None:
    assert is_sender_mismatch(
        judged(403, fcm_error("PERMISSION_DENIED", code="SENDER_ID_MISMATCH"))
    )
    assert not is_sender_mismatch(judged(404, fcm_error("NOT_FOUND", code="UNREGISTERED")))


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "wait_ms"),
    [
        (400, b'{"error":"invalid_grant"}', Kind.MISCONFIGURED, "oauth-invalid_grant", 0),
        (401, b'{"error":"invalid_client"}', Kind.MISCONFIGURED, "oauth-invalid_client", 0),
        (404, b"<html>", Kind.MISCONFIGURED, "oauth-http-404", 0),
        (429, b"", Kind.LIMITED, "oauth-http-429", 60_000),
        (500, b"", Kind.LATER, "oauth-http-500", 0),
        (503, b'{"error":"temporarily_unavailable"}', Kind.LATER,
         "oauth-temporarily_unavailable", 0),
    ],
)  # fmt: skip
def test_a_refused_access_token_is_told_by_its_cause(
    status: int, body: bytes, kind: Kind, code: str, wait_ms: int
) -> None:
    assert token_answer(status, {}, body, now_ms=NOW_MS) == Answer(
        kind, code, retry_after_ms=wait_ms, scope="provider"
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["error", "details", "violations", "fieldViolations", "field", "@type",
                         "status", "message", "errorCode", "name"]),
        inner, max_size=4,
    ),
)  # fmt: skip


@given(st.integers(100, 599), JSON.map(orjson.dumps) | st.binary(max_size=40))
def test_whatever_comes_is_an_answer_with_a_short_code(status: int, body: bytes) -> None:
    found = judged(status, body)

    assert (found.kind is Kind.SENT) == (200 <= status < 300)
    assert len(found.code) <= 64
    assert found.code.isprintable()
