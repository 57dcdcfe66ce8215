"""What becomes of ends for which the hooks are too slow."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import Any

import pytest

from engine import logs
from engine.clock import SystemClock
from engine.registry import Ended
from engine.runtime import hooks as under_test
from engine.runtime.hooks import Hooks
from engine.runtime.settler import Settled


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Give what is logged."""
    stream = io.StringIO()
    lines = logs._Lines(stream, logs._json, 20, SystemClock())
    monkeypatch.setattr(logs, "_sink", lines)
    return stream


async def test_ends_that_are_dropped_are_told_with_their_number(
    told: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hook(_: Ended) -> None:
        """Never reached."""

    monkeypatch.setattr(under_test, "WAITING_MAX", 2)
    hooks = Hooks([hook], [], on_error=lambda *_: None)
    job: Any = SimpleNamespace(id="a", type="mail", queue="q", attempt=1, result=b"")
    settled = Settled([job] * 5, [], [])

    hooks.note(settled)
    hooks.note(settled)

    events = [json.loads(line) for line in told.getvalue().splitlines()]
    assert [(each["event"], each["count"], each["total"]) for each in events] == [
        ("hooks_dropped", 3, 3),
        ("hooks_dropped", 5, 8),
    ]
