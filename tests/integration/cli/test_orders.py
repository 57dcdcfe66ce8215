"""Orders about single jobs from the command line."""

from __future__ import annotations

import orjson
import pytest

from tests.integration.cli.conftest import Cli
from tests.support.queue_writer import QUEUE, QueueWriter, job_fields


def test_a_job_is_put_off_moved_run_and_cancelled(cli: Cli, queue: QueueWriter) -> None:
    queue.enqueue(job_fields(id="j1"))
    queue.beat()

    put_off = cli("reschedule", "j1", "--in", "2h", "--reason", "tea")
    moved = cli("priority", "j1", "high")
    runs = cli.json("run-now", "j1")
    cancelled = cli("cancel", "j1", "--queue", QUEUE, "--reason", "withdrawn")

    assert put_off.stdout == f"{QUEUE}: job j1 is rescheduled; it starts in 2 h\n"
    assert moved.stdout == f"{QUEUE}: job j1 will go to lane high now\n"
    assert (runs["what"], runs["lane"], runs["changed"]) == ("run-now", "high", True)
    assert cancelled.stdout == f"{QUEUE}: job j1 is cancelled; it ends when its turn comes\n"
    assert "already" in cli("cancel", "j1").stdout
    shown = cli("job", "j1").stdout
    assert "withdrawn" in shown.split("cancelled  ")[1].split("\n")[0]
    assert "cancelling   1" in cli("queues", QUEUE).stdout


def test_an_absolute_time_is_read(cli: Cli, queue: QueueWriter) -> None:
    queue.enqueue(job_fields(id="j1"))

    at = "2020-01-01T00:00:00Z"
    found = cli("reschedule", "j1", "--queue", QUEUE, "--at", at)

    assert (found.exit_code, "within 366 d" in found.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["cancel", "nobody", "--queue", QUEUE], 1, "no job nobody in message-delivery"),
        (["cancel", "nobody"], 1, "no job nobody"),
        (["cancel", "nobody", "--even-if-absent"], 2, "needs --queue"),
        (["reschedule", "j1"], 2, "either --at or --in"),
        (["reschedule", "j1", "--at", "15m"], 2, "--at takes an ISO time"),
        (["reschedule", "j1", "--in", "2030-01-01"], 2, "--in a span"),
        (["reschedule", "j1", "--in", "soon"], 2, "neither a span"),
        (["priority", "j1", "urgent"], 2, "not one of"),
        (["run-now", "over", "--queue", QUEUE], 1, "it has run"),
        (["reschedule", "running", "--in", "1m"], 1, "active: it cannot be rescheduled"),
    ],
)
def test_what_cannot_be_done_is_said(
    cli: Cli, queue: QueueWriter, words: list[str], code: int, message: str
) -> None:
    queue.enqueue(job_fields(id="running"))
    queue.deliver()
    queue.finish(["over"])

    found = cli(*words)

    assert found.exit_code == code
    assert message in found.stderr


def test_an_order_that_comes_before_its_job_is_kept(cli: Cli, queue: QueueWriter) -> None:
    told = cli("cancel", "j9", "--queue", QUEUE, "--even-if-absent").stdout

    assert "one that comes within an hour ends as cancelled" in told
    stone = orjson.loads(queue.call("HGET", queue.keys.cancelled, "j9"))
    assert stone["ahead"] is True
