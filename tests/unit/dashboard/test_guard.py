"""Who is let in."""

from __future__ import annotations

import base64

import pytest

from engine.dashboard.guard import HEADERS, Guard, is_embedded, is_from_elsewhere
from engine.tokens import read_tokens

TOKEN = "a-token-of-some-length-ä"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_what_answers_carry_stays_as_strict() -> None:
    """A loosened header looks like any other change, so each is written down here once more."""
    policy = dict(
        part.strip().split(" ", 1) for part in HEADERS["Content-Security-Policy"].split(";")
    )

    assert policy == {
        "default-src": "'none'",
        **dict.fromkeys(("script-src", "style-src", "img-src", "connect-src"), "'self'"),
        **dict.fromkeys(("base-uri", "frame-ancestors", "trusted-types"), "'none'"),
        "form-action": "'self'",
        "require-trusted-types-for": "'script'",
        "report-uri": "/api/csp-report",
        "report-to": "page",
    }
    assert HEADERS.items() >= {
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-store"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    }


@pytest.mark.parametrize(
    ("authorization", "let_in"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN}", True),
        (basic("", TOKEN), True),
        (basic("anyone", TOKEN), True),
        ("", False),
        ("Bearer", False),
        ("Bearer ", False),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer {TOKEN[:-1]}", False),
        (f"Digest {TOKEN}", False),
        (basic(TOKEN, ""), False),
        ("Basic %%%", False),
        ("Basic /w==", False),
        (f"Bearer wrong, Bearer {TOKEN}", False),
        ("Bearer wrong", False),
    ],
)
def test_only_the_token_opens(authorization: str, let_in: bool) -> None:
    guard = Guard("0.0.0.0", read_tokens(TOKEN, {}))

    assert guard.caller({"Authorization": authorization}).may("read") is let_in


def test_without_a_token_everybody_is_let_in() -> None:
    assert Guard("127.0.0.1", []).caller({}).may("admin")


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8787", True),
        ("localhost:8787", True),
        ("LOCALHOST", True),
        ("[::1]:8787", True),
        ("10.0.0.5:8787", True),
        ("mine.internal:8787", True),
        ("evil.example:8787", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("", False),
        ("[", False),
    ],
)
def test_without_a_token_only_names_of_this_server_are_answered(host: str, known: bool) -> None:
    assert Guard("mine.internal", []).knows_host(host) is known


def test_with_a_token_the_name_does_not_matter() -> None:
    assert Guard("0.0.0.0", read_tokens(TOKEN, {})).knows_host("streamlane.example")


def test_each_token_names_its_holder_and_what_it_may_do() -> None:
    other = "another-token-of-some-length"
    guard = Guard("0.0.0.0", read_tokens(TOKEN, {"alice": f"read:{other}"}))

    main = guard.caller({"Authorization": f"Bearer {TOKEN}"})
    alice = guard.caller({"Authorization": f"Bearer {other}"})

    assert (main.name, main.scope) == ("token", "admin")
    assert (alice.name, alice.scope, alice.may("read"), alice.may("operate")) == (
        "alice",
        "read",
        True,
        False,
    )


HOST = {"Host": "jobs.example:8443"}


@pytest.mark.parametrize(
    ("headers", "elsewhere"),
    [
        ({}, False),
        ({"Sec-Fetch-Site": "same-origin"}, False),
        ({"Sec-Fetch-Site": "Same-Origin"}, False),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": ""}, True),
        ({"Origin": "https://jobs.example:8443"}, False),
        ({"Origin": "https://JOBS.example:8443"}, False),
        ({"Origin": "https://jobs.example"}, True),
        ({"Origin": "https://jobs.example:8444"}, True),
        ({"Origin": "https://evil.example:8443"}, True),
        ({"Origin": "https://jobs.example:8443.evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": ""}, True),
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}, False),
        ({"Origin": "https://jobs.example:8443", "Sec-Fetch-Site": "cross-site"}, True),
    ],
)
def test_what_another_site_sent_is_told_by_the_browser(
    headers: dict[str, str], elsewhere: bool
) -> None:
    assert is_from_elsewhere({**HOST, **headers}) is elsewhere


@pytest.mark.parametrize(
    ("site", "mode", "embedded"),
    [
        ("cross-site", "no-cors", True),
        ("cross-site", "cors", True),
        ("same-site", "no-cors", True),
        ("cross-site", "navigate", False),
        ("same-origin", "cors", False),
        ("none", "navigate", False),
    ],
)
def test_other_sites_may_link_here_but_not_look_in(site: str, mode: str, embedded: bool) -> None:
    assert is_embedded({"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}) is embedded
