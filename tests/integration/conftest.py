"""Engines as processes of their own, and the ledger that their jobs write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Start, daemons
from tests.support.ledger import Ledger
from tests.support.servers import RedisTestServer


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[Start]:
    """Give a function that starts engines on the ledger app; they are ended after the test."""
    with daemons(tmp_path) as start:
        yield start


@pytest.fixture
def ledger(tmp_path: Path, redis_server: RedisTestServer) -> Ledger:
    """Give the ledger of the test's engines on the test's own server."""
    return Ledger(tmp_path / "ledger", redis_server)
