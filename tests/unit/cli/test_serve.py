"""What ``run`` hands to its processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine import logs
from engine.cli import main
from engine.cli.frame import Frame
from engine.runtime import supervisor

URL = "redis://:canary-4711@cache/0"


def test_the_password_of_the_server_is_in_no_childs_command_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: dict[str, Any] = {}

    def supervise(_: object, arguments: list[str], **more: Any) -> int:
        told.update(more, arguments=arguments)
        return 0

    config = tmp_path / "engine.toml"
    config.write_text("")
    monkeypatch.setattr(Frame, "app", lambda *_: None)
    monkeypatch.setattr(logs, "set_up", lambda **_: None)
    monkeypatch.setattr(supervisor, "supervise", supervise)
    given = ["--config", str(config), "--redis-url", URL, "run", "--processes", "2", "--burst"]

    CliRunner().invoke(main, given)

    assert told["arguments"] == ["--config", str(config), "run", "--burst"]
    assert told["environ"] == {"ENGINE_REDIS_URL": URL}
