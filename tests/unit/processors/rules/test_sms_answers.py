"""Each row of the tables of an SMS provider's answers and reports, and its signatures."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.answers import Kind
from processors.rules.sms_answers import (
    RANKS,
    Report,
    create_answer,
    is_signed,
    opt_out,
    report_of,
    signature,
)

# The example of the provider's documentation.
URL = "https://example.com/myapp.php?foo=1&bar=2"
FIELDS = [
    ("CallSid", "CA1234567890ABCDE"),
    ("Caller", "+14158675310"),
    ("Digits", "1234"),
    ("From", "+14158675310"),
    ("To", "+18005551212"),
]
TOKEN = "12345"
SIGNED = "L/OH5YylLD5NRKLltdqwSvS0BnU="


@pytest.mark.parametrize(
    ("http", "code", "kind"),
    [
        (400, 21211, Kind.TARGET_GONE),
        (400, 21610, Kind.TARGET_GONE),
        (400, 21614, Kind.TARGET_GONE),
        (401, 20003, Kind.MISCONFIGURED),
        (403, 20005, Kind.MISCONFIGURED),
        (404, 20404, Kind.MISCONFIGURED),
        (400, 21212, Kind.MISCONFIGURED),
        (400, 21603, Kind.MISCONFIGURED),
        (400, 21606, Kind.MISCONFIGURED),
        (400, 21609, Kind.MISCONFIGURED),
        (400, 21659, Kind.MISCONFIGURED),
        (400, 21660, Kind.MISCONFIGURED),
        (400, 21701, Kind.MISCONFIGURED),
        (400, 21703, Kind.MISCONFIGURED),
        (400, 21705, Kind.MISCONFIGURED),
        (400, 30002, Kind.MISCONFIGURED),
        (400, 30034, Kind.MISCONFIGURED),
        (401, 0, Kind.MISCONFIGURED),
        (403, 0, Kind.MISCONFIGURED),
        (404, 0, Kind.MISCONFIGURED),
        (405, 0, Kind.MISCONFIGURED),
        (301, 0, Kind.MISCONFIGURED),
        (429, 20429, Kind.LIMITED),
        (429, 0, Kind.LIMITED),
        (429, 14107, Kind.LIMITED),
        (400, 21611, Kind.LIMITED),
        (400, 30001, Kind.LIMITED),
        (400, 63038, Kind.LIMITED),
        (503, 20503, Kind.LATER),
        (503, 0, Kind.LATER),
        (408, 0, Kind.LATER),
        (425, 0, Kind.LATER),
        (400, 21602, Kind.REFUSED),
        (400, 21612, Kind.REFUSED),
        (400, 21617, Kind.REFUSED),
        (400, 21408, Kind.REFUSED),
        (400, 99999, Kind.REFUSED),
        (400, 0, Kind.REFUSED),
        (413, 0, Kind.REFUSED),
    ],
)
def test_a_refusal_means(http: int, code: int, kind: Kind) -> None:
    answer = create_answer(http, code, 0)

    assert answer
    assert (answer.kind, answer.code) == (kind, str(code) if code else f"http-{http}")


@pytest.mark.parametrize(
    ("http", "code"),
    [(500, 0), (500, 20500), (500, 21211), (502, 0), (504, 0), (520, 0), (200, 0), (102, 0)],
)
def test_some_answers_do_not_tell_whether_the_provider_has_it(http: int, code: int) -> None:
    assert create_answer(http, code, 0) is None


@pytest.mark.parametrize(
    ("http", "code", "told_ms", "wait_ms"),
    [
        (429, 20429, 7_000, 7_000),
        (429, 20429, 0, 60_000),
        (400, 63038, 0, 3_600_000),
        (503, 0, 9_000, 9_000),
        (503, 0, 0, 0),
        (400, 21602, 9_000, 0),
    ],
)
def test_the_provider_says_how_long_to_wait(
    http: int, code: int, told_ms: int, wait_ms: int
) -> None:
    answer = create_answer(http, code, told_ms)

    assert answer
    assert answer.retry_after_ms == wait_ms
    assert answer.scope == ("provider" if answer.kind is Kind.LIMITED else "target")


@pytest.mark.parametrize(
    ("state", "code", "report"),
    [
        ("accepted", 0, None),
        ("scheduled", 0, None),
        ("queued", 0, None),
        ("sending", 0, None),
        ("sent", 0, None),
        ("newer than this table", 0, None),
        ("", 0, None),
        ("delivered", 0, Report("delivered", "delivered")),
        ("Delivered", 0, Report("delivered", "delivered")),
        ("read", 0, Report("delivered", "read")),
        ("failed", 0, Report("failed", "failed")),
        ("canceled", 0, Report("failed", "canceled")),
        ("undelivered", 30003, Report("failed", "30003")),
        ("undelivered", 30007, Report("failed", "30007")),
        ("undelivered", 30008, Report("failed", "30008")),
        ("failed", 30001, Report("failed", "30001")),
        ("undelivered", 30005, Report("bounced", "30005")),
        ("undelivered", 30006, Report("bounced", "30006")),
        ("failed", 21211, Report("bounced", "21211")),
        ("failed", 21614, Report("bounced", "21614")),
        ("failed", 21610, Report("stopped", "21610")),
    ],
)
def test_a_report_means(state: str, code: int, report: Report | None) -> None:
    assert report_of(state, code) == report


def test_states_have_one_order() -> None:
    chain = ["queued", "sending", "sent", "failed", "delivered"]

    assert all(RANKS[one] < RANKS[next_] for one, next_ in itertools.pairwise(chain))


@pytest.mark.parametrize(
    ("body", "kind", "meaning"),
    [
        ("STOP", "", "stopped"),
        (" stop \n", "", "stopped"),
        ("Stop.", "", "stopped"),
        ("unsubscribe", "", "stopped"),
        ("QUIT", "", "stopped"),
        ("ARRET", "STOP", "stopped"),
        ("START", "", "started"),
        ("unstop", "", "started"),
        ("DEBUT", "START", "started"),
        ("HELP", "", None),
        ("AIDE", "HELP", None),
        ("please stop", "", None),
        ("stop it, you are killing me", "", None),
        ("", "", None),
    ],
)
def test_a_text_from_a_recipient_means(body: str, kind: str, meaning: str | None) -> None:
    assert opt_out(body, kind) == meaning


def test_the_signature_is_the_provider_s() -> None:
    assert signature(URL, FIELDS, TOKEN) == SIGNED
    assert is_signed(SIGNED, URL, FIELDS, [TOKEN])


@pytest.mark.parametrize(
    ("given_", "url", "fields", "tokens"),
    [
        ("", URL, FIELDS, [TOKEN]),
        ("ü", URL, FIELDS, [TOKEN]),
        (SIGNED.lower(), URL, FIELDS, [TOKEN]),
        (SIGNED, URL + "&x=1", FIELDS, [TOKEN]),
        (SIGNED, URL.replace("https", "http"), FIELDS, [TOKEN]),
        (SIGNED, URL, FIELDS[1:], [TOKEN]),
        (SIGNED, URL, [*FIELDS, ("X", "1")], [TOKEN]),
        (SIGNED, URL, FIELDS, ["54321"]),
        (SIGNED, URL, FIELDS, []),
    ],
)
def test_another_request_is_not_signed(
    given_: str, url: str, fields: list[tuple[str, str]], tokens: list[str]
) -> None:
    assert not is_signed(given_, url, fields, tokens)


def test_an_old_secret_is_good_while_it_is_kept() -> None:
    assert is_signed(SIGNED, URL, FIELDS, ["54321", TOKEN])


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("https://example.com/x", "https://example.com:443/x"),
        ("https://example.com:443/x", "https://example.com/x"),
        ("http://example.com:80/x", "http://example.com/x"),
        ("https://example.com:8443/x?a=1", "https://example.com:8443/x?a=1"),
    ],
)
def test_the_port_of_the_scheme_may_be_left_out(theirs: str, ours: str) -> None:
    assert is_signed(signature(theirs, FIELDS, TOKEN), ours, FIELDS, [TOKEN])


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=6), st.randoms())
def test_the_order_of_fields_does_not_matter(fields: list[tuple[str, str]], random: object) -> None:
    shuffled = list(fields)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert is_signed(signature(URL, fields, TOKEN), URL, shuffled, [TOKEN])
