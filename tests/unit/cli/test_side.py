"""What stands beside an engine."""

from __future__ import annotations

import getpass
from types import SimpleNamespace
from typing import Any

import pytest

from engine.cli.side import HttpSide
from engine.registry import Registry
from engine.settings import EngineSettings
from engine.telemetry import Meters


def test_a_container_user_without_a_name_can_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nobody)
    engine: Any = SimpleNamespace(
        settings=EngineSettings(),
        app=SimpleNamespace(registry=Registry()),
        meters=Meters([]),
        vitals=SimpleNamespace(reasons=list),
        name="e1",
    )

    assert HttpSide(engine)
