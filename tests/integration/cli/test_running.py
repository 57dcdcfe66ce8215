"""``run`` and ``dev`` as programs of their own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import urllib.request
from pathlib import Path

import pytest
import redis

from tests.integration.cli.conftest import Cli
from tests.support.queue_writer import QueueWriter, job_fields

ROOT = Path(__file__).parents[3]


def program(*args: str) -> list[str]:
    return [sys.executable, "-m", "engine", *args]


def environment(**more: str) -> dict[str, str]:
    """Return the environment without settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ENGINE_")}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def burst(cli: Cli, directory: Path) -> None:
    """Let a real engine run what waits."""
    ran = subprocess.run(
        program("run", "--burst", "--concurrency", "2"),
        env=environment(ENGINE_HTTP="", **cli.environ),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_what_an_engine_writes_is_what_operators_see(
    cli: Cli, queue: QueueWriter, tmp_path: Path
) -> None:
    """Goal: the engine's own entries, not a test's copies of them, are read and redriven."""
    entries = [queue.enqueue(job_fields(b'{"userId":%d}' % number)) for number in range(3)]
    broken = queue.enqueue(job_fields(b'{"userId":"x"}'), lane="high")

    burst(cli, tmp_path)

    (stats,) = cli.json("queues", queue.queue)
    assert (stats["waiting"], stats["doneKept"], stats["dead"]) == (0, 3, 1)
    assert stats["totals"]["done"] == {"send-message": 3}
    assert stats["recent"]["done"] == 3
    (story,) = cli.json("job", f"n-{entries[1]}")["found"]
    assert story["job"]["state"] == "done"
    (dead,) = cli.json("job", f"h-{broken}")["found"]
    assert (dead["dead"]["rule"], dead["dead"]["path"]) == ("data-schema", "$.userId")
    (analysis,) = cli.json("dead", "analyse", queue.queue)
    assert (analysis["groups"][0]["jobs"], analysis["uncounted"]) == (1, 0)

    assert cli.json("dead", "retry", queue.queue, f"h-{broken}")["changed"] == 1
    assert cli.json("job", f"h-{broken}")["found"][0]["job"]["state"] == "waiting"
    burst(cli, tmp_path)

    (again,) = cli.json("job", f"h-{broken}")["found"]
    assert (again["job"]["state"], again["redrives"]) == ("dead", 1)
    assert cli.json("dead", "analyse", queue.queue)[0]["groups"][0]["jobs"] == 1


def on_terminal(cli: Cli, directory: Path, *args: str, answer: str = "") -> tuple[int, str]:
    """Run a command on a terminal of its own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    os.write(ours, answer.encode())
    with subprocess.Popen(
        program(*args),
        env=environment(TERM="xterm", **cli.environ),
        cwd=directory,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as started:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):
            while part := os.read(ours, 65_536):
                shown += part
        os.close(ours)
        return started.wait(60), shown.decode()


def test_a_terminal_gets_colour_a_question_and_a_bar(
    cli: Cli, queue: QueueWriter, tmp_path: Path
) -> None:
    queue.bury_many(1_500, job_fields())

    shown = on_terminal(cli, tmp_path, "queues")
    refused = on_terminal(cli, tmp_path, "dead", "discard", queue.queue, "--all", answer="n\n")
    assert len(queue.dead()) == 1_500
    agreed = on_terminal(cli, tmp_path, "dead", "discard", queue.queue, "--all", answer="y\n")

    assert "\x1b[31m1500\x1b[0m" in shown[1]
    assert refused[0] == 1
    assert "Drop 1500 dead letters" in refused[1]
    assert agreed[0] == 0
    assert "1500 of 1500 dropped" in agreed[1]
    assert queue.dead() == []


def test_run_says_what_is_wrong_with_the_app_in_one_line(cli: Cli, tmp_path: Path) -> None:
    ran = subprocess.run(
        program("run", "--app", "nowhere:app"),
        env=environment(**cli.environ),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "error: app nowhere:app: there is no module nowhere\n"


@pytest.mark.timeout(120)
def test_dev_brings_everything_up_and_drains_on_ctrl_c(server_directory: Path) -> None:
    """Goal: one command, four URLs, all of them working; Ctrl-C ends it well."""
    command = program("dev", "--data", str(server_directory / "dev"))
    started = subprocess.Popen(
        command,
        env=environment(ENGINE_HTTP="127.0.0.1:0"),
        cwd=server_directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with started:
        assert started.stdout is not None
        try:
            lines = [started.stdout.readline().split() for _ in range(5)]
            urls = dict(lines)
            assert [name for name, _ in lines] == [
                "redis",
                "postgres",
                "page",
                "metrics",
                "gateway",
            ]
            exports = [started.stdout.readline() for _ in range(2)]
            assert exports == [
                f"export ENGINE_REDIS_URL={urls['redis']}\n",
                f"export ENGINE_POSTGRES_URL={urls['postgres']}\n",
            ]
            kept = server_directory / "dev" / "env"
            assert kept.read_text().splitlines(keepends=True) == exports
            assert kept.stat().st_mode & 0o077 == 0
            with redis.Redis.from_url(urls["redis"]) as client:
                assert client.ping()
            with urllib.request.urlopen(urls["page"] + "live") as answer:
                assert answer.status == 200
            with urllib.request.urlopen(urls["metrics"]) as answer:
                assert b"engine_info" in answer.read()
            live = urls["gateway"].replace("ws://", "http://").removesuffix("/ws") + "/live"
            with urllib.request.urlopen(live) as answer:
                assert answer.status == 200
            started.send_signal(signal.SIGINT)
            assert started.wait(60) == 0
            assert not kept.exists()
        finally:
            started.kill()
