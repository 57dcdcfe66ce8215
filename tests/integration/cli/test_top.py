"""``top`` and the shell's completion, on a real server."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from engine.cli import main
from tests.integration.cli.conftest import Cli
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter

pytestmark = pytest.mark.servers


def test_without_a_terminal_it_prints_one_look(cli: Cli, queue: QueueWriter) -> None:
    queue.enqueue()
    queue.beat()

    shown = cli("top").stdout
    told = cli.json("top", QUEUE)

    assert QUEUE in shown
    assert "engines 1 of 1" in shown
    assert [each["queue"] for each in told["queues"]] == [QUEUE]
    assert told["queues"][0]["waiting"] == 1


def test_it_follows_and_acts_in_a_real_terminal(
    cli: Cli, queue: QueueWriter, tmp_path: Path
) -> None:
    queue.enqueue()
    queue.beat()
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "engine", "top", "--every", "0.2"]
    environ = {**os.environ, **cli.environ, "TERM": "xterm", "PYTHONPATH": str(Path.cwd())}
    environ["PYTHONPATH"] += os.pathsep + os.pathsep.join(sys.path)
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
    os.close(theirs)
    try:
        _read_until(ours, QUEUE)
        os.write(ours, b"p")
        _read_until(ours, "is paused")
        assert queue.call("HGET", queue.keys.control, "paused") == b"1"
        os.write(ours, b"q")
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _read_until(terminal: int, wanted: str) -> None:
    text = ""
    while wanted not in text:
        ready, _, _ = select.select([terminal], [], [], 30)
        assert ready, f"{wanted!r} was never shown, but {text[-2000:]}"
        text += os.read(terminal, 65_536).decode("utf-8", "replace")


def offered(cli: Cli, monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """Ask as the shell does: the last word is the one that is not complete."""
    for name, value in cli.environ.items():
        monkeypatch.setenv(name, value)
    complete = ShellComplete(main, {}, "streamlane", "_STREAMLANE_COMPLETE")
    return [item.value for item in complete.get_completions(list(words[:-1]), words[-1])]


def test_the_shell_is_offered_names_that_are_there(
    cli: Cli, queue: QueueWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.beat()
    queue.call("HSET", queue.keys.dead_groups, "0123456789ab:n", 1)

    assert offered(cli, monkeypatch, "queues", "") == [QUEUE]
    assert offered(cli, monkeypatch, "queues", "zz") == []
    assert offered(cli, monkeypatch, "jobs", QUEUE, "--type", "") == [TYPE]
    assert offered(cli, monkeypatch, "jobs", QUEUE, "--state", "de") == ["delayed", "dead"]
    group = offered(cli, monkeypatch, "dead", "retry", QUEUE, "--fingerprint", "")
    assert group == ["0123456789ab"]


def test_without_a_server_the_shell_is_offered_nothing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, unused_port: int
) -> None:
    cli.environ["ENGINE_REDIS_URL"] = f"redis://127.0.0.1:{unused_port}/0"

    assert offered(cli, monkeypatch, "queues", "") == []
