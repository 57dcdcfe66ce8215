"""What push services' answers mean, and which of them may be asked at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.answers import Answer, Kind
from processors.rules.web_push import answer, endpoint_fault, is_too_large, may_be_asked

NOW_MS = 1_763_769_600_000
HOSTS = ("fcm.googleapis.com", "*.push.services.mozilla.com")


def judged(status: int, body: bytes = b"", *, retry_after: str = "") -> Answer:
    headers = {"Retry-After": retry_after} if retry_after else {}
    return answer(status, headers, body, now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        (200, Answer(Kind.SENT)),
        (201, Answer(Kind.SENT)),
        (202, Answer(Kind.SENT)),
        (404, Answer(Kind.TARGET_GONE, "http-404")),
        (410, Answer(Kind.TARGET_GONE, "http-410")),
        (413, Answer(Kind.REFUSED, "http-413")),
        (401, Answer(Kind.MISCONFIGURED, "vapid-401")),
        (403, Answer(Kind.MISCONFIGURED, "vapid-403")),
        (429, Answer(Kind.LIMITED, "http-429", retry_after_ms=60_000)),
        (400, Answer(Kind.REFUSED, "http-400")),
        (307, Answer(Kind.REFUSED, "http-307")),
        (408, Answer(Kind.LATER, "http-408")),
        (500, Answer(Kind.LATER, "http-500")),
        (502, Answer(Kind.LATER, "http-502")),
        (503, Answer(Kind.LATER, "http-503")),
    ],
)
def test_a_row_of_the_table(status: int, wanted: Answer) -> None:
    assert judged(status) == wanted


def test_a_400_that_speaks_of_our_key_is_our_set_up() -> None:
    assert judged(400, b"UnauthorizedRegistration") == Answer(Kind.MISCONFIGURED, "vapid-400")


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("told", ["30", "Sat, 22 Nov 2025 00:00:30 GMT"])
def test_a_wait_is_as_long_as_the_service_says(status: int, told: str) -> None:
    assert judged(status, retry_after=told).retry_after_ms == 30_000


def test_a_shorter_push_is_worth_a_try_after_413_alone() -> None:
    assert is_too_large(413)
    assert not is_too_large(400)


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ("https://fcm.googleapis.com/fcm/send/abc", ""),
        ("https://FCM.googleapis.com:443/x", ""),
        ("https://fcm.googleapis.com./x", ""),
        ("https://updates.push.services.mozilla.com/wpush/v2/x", ""),
        ("https://push.services.mozilla.com/x", "endpoint-host"),
        ("https://evilpush.services.mozilla.com/x", "endpoint-host"),
        ("https://fcm.googleapis.com.evil.example/x", "endpoint-host"),
        ("https://evil.example/fcm.googleapis.com", "endpoint-host"),
        ("https://evil.example#@fcm.googleapis.com/", "endpoint-host"),
        ("https://evil.example?@fcm.googleapis.com/", "endpoint-host"),
        ("https://fcm.googleapis.com@evil.example/", "endpoint-malformed"),
        ("https://user:secret@fcm.googleapis.com/", "endpoint-malformed"),
        ("https://evil.example\\@fcm.googleapis.com/", "endpoint-malformed"),
        ("https://fcm.googleapis.com:8443/x", "endpoint-port"),
        ("https://fcm.googleapis.com:99999/x", "endpoint-malformed"),
        ("http://fcm.googleapis.com/x", "endpoint-scheme"),
        ("ftp://fcm.googleapis.com/x", "endpoint-scheme"),
        ("file:///etc/passwd", "endpoint-malformed"),
        ("https://127.0.0.1/x", "endpoint-host"),
        ("https://2130706433/x", "endpoint-host"),
        ("https://0x7f000001/x", "endpoint-host"),
        ("https://[::1]/x", "endpoint-host"),
        ("https://[::1/x", "endpoint-malformed"),
        ("https://169.254.169.254/latest/meta-data", "endpoint-host"),
        ("https://localhost/x", "endpoint-host"),
        ("https://fcm.googleapis.com/\r\nHost: evil", "endpoint-malformed"),
        ("https://ｆcm.googleapis.com/x", "endpoint-malformed"),
        ("https:///x", "endpoint-malformed"),
        ("", "endpoint-malformed"),
        ("https://fcm.googleapis.com/" + "a" * 5_000, "endpoint-malformed"),
    ],
)
def test_whom_an_endpoint_leads_to(endpoint: str, fault: str) -> None:
    assert endpoint_fault(endpoint, hosts=HOSTS, allow_loopback=False) == fault


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ("http://127.0.0.1:9000/x", ""),
        ("http://localhost:9000/x", ""),
        ("https://[::1]:9000/x", ""),
        ("ftp://127.0.0.1/x", "endpoint-scheme"),
        ("http://10.0.0.1:9000/x", "endpoint-scheme"),
        ("https://10.0.0.1/x", "endpoint-host"),
        ("http://fcm.googleapis.com/x", "endpoint-scheme"),
    ],
)
def test_this_machine_may_be_asked_where_that_is_allowed(endpoint: str, fault: str) -> None:
    assert endpoint_fault(endpoint, hosts=HOSTS, allow_loopback=True) == fault


@pytest.mark.parametrize("address", ["142.250.1.95", "2a00:1450:4001::5f", "::ffff:142.250.1.95"])
def test_public_addresses_may_be_asked(address: str) -> None:
    assert may_be_asked(address, allow_loopback=False)


INWARD = [
    "127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1",
    "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:a00:1::",
    "not an address",
]  # fmt: skip


@pytest.mark.parametrize("address", INWARD)
def test_addresses_that_lead_inward_may_not(address: str) -> None:
    assert not may_be_asked(address, allow_loopback=False)


def test_loopback_alone_is_what_the_setting_allows() -> None:
    allowed = [address for address in INWARD if may_be_asked(address, allow_loopback=True)]

    assert allowed == ["127.0.0.1", "127.8.8.8", "::1"]


@given(st.text(max_size=60))
def test_whatever_is_handed_in_is_judged(text: str) -> None:
    assert endpoint_fault(text, hosts=HOSTS, allow_loopback=False) in {
        "endpoint-malformed", "endpoint-scheme", "endpoint-port", "endpoint-host",
    }  # fmt: skip
