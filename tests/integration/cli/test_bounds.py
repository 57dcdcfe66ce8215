"""Bounds from the command line, and what the commands say of a queue that fills up."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from engine.wire.keys import AUDIT
from tests.integration.cli.conftest import Cli
from tests.support.queue_writer import QUEUE, QueueWriter

DATA = '{"userId": 1}'


def test_bounds_are_set_shown_and_cleared(cli: Cli, queue: QueueWriter) -> None:
    queue.beat()
    queue.enqueue()

    assert "no bounds" in cli("bounds", QUEUE).stdout
    change = cli.json("bounds", QUEUE, "--jobs", "4", "--bytes", "64MiB", "--reason", "launch")
    assert (change["changed"], change["after"]) == (True, "jobs_max=4,bytes_max=67108864")
    shown = cli("bounds", QUEUE).stdout
    assert f"{QUEUE}: 1 of 4 jobs" in shown
    assert "of 64.0 MiB, 25% full; set live" in shown
    assert "it was set so already" in cli("bounds", QUEUE, "--jobs", "4").stderr
    assert "1 job, " in cli("bounds", QUEUE, "--jobs", "none").stdout
    assert queue.call("HGET", queue.keys.control, "jobs_max") == b"0"
    assert "no bounds" in cli("bounds", QUEUE, "--clear").stdout
    assert queue.call("HLEN", queue.keys.control) == 0
    assert queue.call("XLEN", AUDIT) == 3
    assert b"launch" in queue.call("XRANGE", AUDIT, "-", "+")[0][1]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--jobs", "many"), 2, "neither a number nor none"),
        (("--bytes", "1 acre"), 2, "64MiB"),
        (("--bytes", "1000"), 1, "65536"),
    ],
)
def test_what_is_no_bound_is_refused(
    cli: Cli, words: tuple[str, ...], code: int, said: str
) -> None:
    found = cli("bounds", QUEUE, *words)

    assert (found.exit_code, said in found.stderr) == (code, True)


def test_queues_and_health_tell_of_a_queue_that_fills_up(cli: Cli, queue: QueueWriter) -> None:
    queue.beat()
    for _ in range(9):
        queue.enqueue(lane="low")
    cli("bounds", QUEUE, "--jobs", "10")

    row = cli("queues").stdout.splitlines()[1]
    assert ("filling up" in row, "90%" in row) == (True, True)
    assert "9 of 10 jobs" in cli("queues", QUEUE).stdout
    assert cli.json("queues", QUEUE)[0]["fullness"]["jobsMax"] == 10
    health = cli("health", QUEUE)
    assert health.exit_code == 0
    assert f"warning: queue {QUEUE} is 90% full: 9 of 10 jobs" in health.stdout
    assert "most of it are 9 waiting in lane low" in health.stdout
    queue.enqueue()
    full = cli("health", QUEUE)
    assert (full.exit_code, f"error: queue {QUEUE} is full: 10 of 10" in full.stdout) == (1, True)


def test_enqueue_waits_fails_or_sheds(cli: Cli, queue: QueueWriter, tmp_path: Path) -> None:
    queue.beat()
    queue.enqueue()
    cli("bounds", QUEUE, "--jobs", "1")
    one = ("enqueue", "send-message", "--data", DATA)
    lines = tmp_path / "jobs.jsonl"
    lines.write_text(f'{{"type": "send-message", "data": {DATA}}}\n' * 3)

    failed = cli(*one, "--when-full", "fail")
    assert (failed.exit_code, "is full, 1 of 1 jobs" in failed.stderr) == (1, True)
    waited = cli(*one, "--give-up", "0.1")
    assert (waited.exit_code, "still full" in waited.stderr) == (1, True)
    shed = cli(*one, "--when-full", "shed", "--lane", "low")
    assert (shed.exit_code, shed.stdout) == (0, "")
    assert "note: shed: queue message-delivery has 1 of 1 jobs" in shed.stderr
    assert cli.json(*one, "--when-full", "shed")["shed"] is True
    many = cli("enqueue", "--file", str(lines), "--when-full", "shed")
    assert (many.exit_code, many.stdout) == (0, "0 accepted, 0 refused, 3 shed\n")
    many = cli("enqueue", "--file", str(lines), "--when-full", "fail", "--json")
    assert (many.exit_code, orjson.loads(many.stdout)["full"]) == (1, 3)
    many = cli("enqueue", "--file", str(lines), "--give-up", "0.1")
    assert (many.exit_code, "3 not accepted since the queue is full" in many.stdout) == (1, True)
    assert queue.call("XLEN", queue.keys.lane("normal")) == 1
