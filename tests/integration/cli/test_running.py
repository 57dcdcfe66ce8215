"""``run`` and ``dev`` as programs of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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


def test_a_burst_runs_what_waits_and_ends(cli: Cli, queue: QueueWriter, tmp_path: Path) -> None:
    for number in range(3):
        queue.enqueue(job_fields(b'{"userId":%d}' % number))
    queue.enqueue(job_fields(b'{"userId":"x"}'))

    ran = subprocess.run(
        program("run", "--burst", "--concurrency", "2"),
        env=environment(ENGINE_HTTP="", **cli.environ),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    (stats,) = cli.json("queues", queue.queue)
    assert (stats["waiting"], stats["doneKept"], stats["dead"]) == (0, 3, 1)


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
            lines = [started.stdout.readline().split() for _ in range(4)]
            urls = dict(lines)
            assert [name for name, _ in lines] == ["redis", "postgres", "page", "metrics"]
            with redis.Redis.from_url(urls["redis"]) as client:
                assert client.ping()
            with urllib.request.urlopen(urls["page"] + "live") as answer:
                assert answer.status == 200
            with urllib.request.urlopen(urls["metrics"]) as answer:
                assert b"engine_info" in answer.read()
            started.send_signal(signal.SIGINT)
            assert started.wait(60) == 0
        finally:
            started.kill()
