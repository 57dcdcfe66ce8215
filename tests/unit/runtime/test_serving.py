"""Under which address an engine tells others to look for it."""

from __future__ import annotations

import socket

import pytest

from engine.runtime.serving import reachable

HERE = socket.gethostname()


@pytest.mark.parametrize(
    ("listens", "host", "told"),
    [
        ("127.0.0.1:8787", "", "127.0.0.1:8787"),
        ("10.1.2.3:8787", "", "10.1.2.3:8787"),
        ("[::1]:8787", "", "[::1]:8787"),
        ("0.0.0.0:8787", "", f"{HERE}:8787"),
        ("[::]:8788", "", f"{HERE}:8788"),
        ("0.0.0.0:8787", "10.1.2.3", "10.1.2.3:8787"),
        ("0.0.0.0:8787", "fd00::7", "[fd00::7]:8787"),
        ("127.0.0.1:8787", "engine-1.example", "engine-1.example:8787"),
    ],
)
def test_an_address_is_one_that_others_can_reach(listens: str, host: str, told: str) -> None:
    assert reachable(listens, host) == told
