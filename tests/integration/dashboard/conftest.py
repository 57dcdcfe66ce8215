"""A server of the page, started as a test wants it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from engine.clock import SystemClock
from engine.dashboard import HttpState
from engine.telemetry import EngineCollector, Meters, QueueMeter
from tests.support.page import FakeAdmin, Open, Visited


@pytest.fixture
async def site() -> AsyncIterator[Open]:
    """Give a function that starts a server; all are stopped at the end."""
    started: list[Visited] = []

    async def start(**changes: Any) -> Visited:
        reads = FakeAdmin()
        reasons: list[str] = []
        metrics = CollectorRegistry()
        meters = Meters(["connection"])
        meters.queues["q"] = QueueMeter(["greet"], ["normal"])
        metrics.register(EngineCollector(meters, "0.1.0"))
        values: dict[str, Any] = {
            "address": "127.0.0.1:0",
            "token": "",
            "admin": cast(Any, reads),
            "metrics": metrics,
            "ready": lambda: reasons,
            "schemas": {"greet": {"title": "greet", "type": "object"}},
            "clock": SystemClock(),
            "engine": "eng-1",
            "version": "0.1.0",
        }
        made = Visited(HttpState(**{**values, **changes}), reads, reasons)
        started.append(made)
        await made.start()
        return made

    yield start
    for each in started:
        await each.stop()
