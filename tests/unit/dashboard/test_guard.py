"""Who is let in."""

from __future__ import annotations

import base64

import pytest

from engine.dashboard.guard import Guard

TOKEN = "a-token-of-some-length-ä"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


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
    guard = Guard("0.0.0.0", TOKEN)

    assert guard.caller({"Authorization": authorization}).may("read") is let_in


def test_without_a_token_everybody_is_let_in() -> None:
    assert Guard("127.0.0.1", "").caller({}).may("admin")


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
    assert Guard("mine.internal", "").knows_host(host) is known


def test_with_a_token_the_name_does_not_matter() -> None:
    assert Guard("0.0.0.0", TOKEN).knows_host("streamlane.example")
