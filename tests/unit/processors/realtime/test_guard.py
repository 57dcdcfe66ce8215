"""Who may connect."""

from __future__ import annotations

import pytest

from processors.realtime.guard import client_address, is_bearer, is_origin_allowed


@pytest.mark.parametrize(
    ("remote", "forwarded", "proxies", "said"),
    [
        ("10.0.0.1", ["1.1.1.1"], 0, "10.0.0.1"),
        (None, [], 0, "unknown"),
        ("10.0.0.1", ["1.1.1.1, 2.2.2.2"], 1, "2.2.2.2"),
        ("10.0.0.1", ["1.1.1.1, 2.2.2.2"], 2, "1.1.1.1"),
        ("10.0.0.1", ["1.1.1.1", "2.2.2.2"], 1, "2.2.2.2"),
        ("10.0.0.1", [" , 1.1.1.1 ,"], 1, "1.1.1.1"),
        ("10.0.0.1", ["1.1.1.1"], 2, "10.0.0.1"),
        ("10.0.0.1", [], 1, "10.0.0.1"),
    ],
)
def test_the_address_is_the_one_that_trusted_proxies_tell(
    remote: str | None, forwarded: list[str], proxies: int, said: str
) -> None:
    assert client_address(remote, forwarded, proxies) == said


def test_origins_are_compared_exactly() -> None:
    allowed = ("https://a.example",)
    assert is_origin_allowed("https://a.example", allowed)
    assert is_origin_allowed(None, allowed)
    for other in ("https://a.example/", "https://A.example", "", "null", "http://a.example"):
        assert not is_origin_allowed(other, allowed)


def test_a_bearer_shows_the_very_token() -> None:
    token = "sixteen-chars-ok"
    assert is_bearer({"Authorization": f"Bearer {token}"}, token)
    assert is_bearer({"Authorization": f"bearer  {token} "}, token)
    for shown in ("", token, "Bearer", f"Bearer {token[:-1]}", f"Basic {token}", "Bearer \udcff"):
        assert not is_bearer({"Authorization": shown}, token)
    assert not is_bearer({"Authorization": "Bearer "}, "")
    assert not is_bearer({}, "")
