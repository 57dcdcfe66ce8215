"""What ``run`` hands to its processes, and which ports ``dev`` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine import logs
from engine.cli import main
from engine.cli.frame import Frame
from engine.cli.serve import _page_address
from engine.embedded import Ports, unused_port
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


def test_two_that_start_at_once_take_different_ports_and_say_so() -> None:
    wished = unused_port()
    first, second = Ports(), Ports()
    try:
        # Nobody listens yet, so the port looks free to both.
        assert first.near(wished, what="the page") == wished
        other = second.near(wished, what="the page")

        assert other != wished
        assert first.notes == []
        assert second.notes == [f"port {wished} is in use, so the page listens on port {other}"]
    finally:
        first.close()
        second.close()


def test_a_port_is_free_again_when_its_claim_ends() -> None:
    wished = unused_port()
    for _ in range(2):
        ports = Ports()
        assert ports.near(wished, what="redis") == wished
        ports.close()


def test_an_address_that_somebody_set_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ports, taken = Ports(), Ports()
    frame = Frame(config=None, redis_url=None, debug=False)
    try:
        monkeypatch.delenv("ENGINE_HTTP", raising=False)
        taken.near(8787, what="another page")
        address = _page_address(frame, ports)
        assert address.startswith("127.0.0.1:")
        assert address != "127.0.0.1:8787"

        monkeypatch.setenv("ENGINE_HTTP", "127.0.0.1:8787")
        assert _page_address(frame, ports) == "127.0.0.1:8787"
    finally:
        ports.close()
        taken.close()
