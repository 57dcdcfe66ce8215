"""The demo as a person plays it: `make run` with its sinks, and a chat day against it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

pytestmark = pytest.mark.servers

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m"]
MESSAGES, RECIPIENTS = 12, 30


def environment(**more: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ENGINE_", "PROCESSORS_", "DEMO_"))
    }
    return kept | {"PYTHONPATH": str(ROOT)} | more


def exports(*paths: Path) -> dict[str, str]:
    """Read what a shell would be told by these files."""
    words = [word for path in paths for word in shlex.split(path.read_text())]
    return dict(word.split("=", 1) for word in words if word != "export")


@pytest.fixture(scope="module")
def day(session_directory: Path) -> Iterator[tuple[dict[str, Any], list[dict[str, str]]]]:
    """Play a short day once; give the closing tables, and what the sinks wrote down."""
    data = session_directory / "demo"
    kept = ["--data", str(data)]
    started = subprocess.Popen(
        [*PROGRAM, "tests.peers", *kept, "--", *PROGRAM, "engine", "dev", *kept],
        env=environment(ENGINE_HTTP="127.0.0.1:0", PROCESSORS_NOTIFICATION_PUSH_DELAY_MS="0"),
        cwd=session_directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert started.stdout is not None
        said = []
        for line in started.stdout:
            said.append(line)
            if "bob reads" in line:
                break
        assert started.poll() is None, "".join(said)
        variables = exports(data / "env", data / "sinks.env")
        size = ["--messages", str(MESSAGES), "--recipients", str(RECIPIENTS)]
        played = subprocess.run(
            [*PROGRAM, "processors", "demo", "--json", *size, "--wait", "90"],
            env=environment(**variables),
            cwd=session_directory,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert played.returncode == 0, played.stderr + played.stdout
        arrived = [orjson.loads(line) for line in (data / "sinks.jsonl").read_bytes().splitlines()]
        started.send_signal(signal.SIGINT)
        started.communicate(timeout=90)
        assert started.returncode == 0
        yield orjson.loads(played.stdout), arrived
    finally:
        started.kill()
        started.communicate()


Day = tuple[dict[str, Any], list[dict[str, str]]]


@pytest.mark.timeout(300)
def test_all_seven_job_types_are_played_and_one_job_dies(day: Day) -> None:
    found, _ = day

    done = {job_type: counts["done"] for job_type, counts in found["jobs"].items()}
    assert set(done) == {
        *("send-message", "delivery-confirmation", "notification", "encryption", "indexing"),
        *("batch-message", "cleanup"),
    }
    assert min(done.values()) > 0, done
    assert sum(counts["dead"] for counts in found["jobs"].values()) == 1
    assert found["messages"]["sent"] == MESSAGES + 1
    assert found["messages"]["sealed"] == MESSAGES // 4
    assert f"{RECIPIENTS} sent, 1 failed" in found["told"]["batch"]


def test_every_client_sees_every_message(day: Day) -> None:
    found, _ = day

    share = MESSAGES // 4
    wanted = 6 * (MESSAGES - share + 1) + 4 * share
    assert found["sockets"]["messages seen"] == wanted


def test_something_arrives_over_each_channel_and_some_providers_fail(day: Day) -> None:
    found, arrived = day

    states: dict[str, set[str]] = {}
    for row in found["channels"]:
        states.setdefault(row["channel"], set()).add(row["state"])
    assert set(states) == {"email", "sms", "push apns", "push fcm", "push webpush"}
    assert all("sent" in each or "delivered" in each for each in states.values()), found["channels"]
    assert {"failed"} <= states["email"]
    assert {"failed"} <= states["push apns"]
    codes = {row["code"] for row in found["channels"] if row["channel"] == "sms"}
    assert "21610" in codes
    assert {record["sink"] for record in arrived} == {"apns", "fcm", "webpush", "smtp", "sms"}
