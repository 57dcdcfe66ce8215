"""Commands that look: tables, JSON, exit codes."""

from __future__ import annotations

import orjson
import pytest

from schemas.job import ErrorRecord, Meta
from tests.integration.cli.conftest import Cli
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter, job_fields


def test_queues_are_shown_worst_first(cli: Cli, queue: QueueWriter) -> None:
    queue.enqueue()
    other = QueueWriter(cli.environ["ENGINE_REDIS_URL"], "other")
    other.beat("e2")
    other.close()

    shown = cli("queues").stdout.splitlines()
    told = cli.json("queues")

    assert shown[0].split() == [
        "QUEUE", "STATE", "WAITING", "OLDEST", "ACTIVE", "DELAYED", "HELD", "FULL", "DEAD",
        "DONE", "5M", "ENGINES",
    ]  # fmt: skip
    assert shown[1].startswith("message-delivery  no engine        1")
    assert [each["queue"] for each in told] == [QUEUE, "other"]
    assert told[0]["lanes"]["normal"]["waiting"] == 1
    assert {"oldestMs", "pausedBy", "doneKept"} <= told[0].keys()


def test_a_named_queue_is_shown_with_lanes_and_types(cli: Cli, queue: QueueWriter) -> None:
    queue.finish(["a"])
    queue.hold(TYPE, "bad key")
    queue.beat()

    shown = cli("queues", QUEUE).stdout

    assert "LANE" in shown
    assert f"held {TYPE}" in shown
    assert "bad key" in shown
    assert "RETRIED" in shown


def test_without_any_queue_a_note_says_so(cli: Cli) -> None:
    found = cli("queues", ENGINE_APP="cliapp:nothing")

    assert (found.exit_code, found.stdout) == (0, "")
    assert "no queue is known" in found.stderr


def test_jobs_are_paged(cli: Cli, queue: QueueWriter) -> None:
    for number in range(5):
        queue.enqueue(job_fields(id=f"j{number}"))

    first = cli.json("jobs", QUEUE, "--limit", "3", "--oldest")
    rest = cli.json("jobs", QUEUE, "--limit", "3", "--oldest", "--cursor", first["cursor"])
    shown = cli("jobs", QUEUE, "--limit", "3")

    assert [job["id"] for job in first["jobs"] + rest["jobs"]] == [f"j{n}" for n in range(5)]
    assert rest["complete"]
    assert "3 shown, 3 of 5 waiting searched" in shown.stderr
    assert len(shown.stdout.splitlines()) == 4


@pytest.mark.parametrize("state", ["waiting", "active", "delayed", "held", "done", "dead"])
def test_every_state_prints_as_table_and_json(cli: Cli, queue: QueueWriter, state: str) -> None:
    queue.enqueue()
    queue.deliver()
    queue.enqueue()
    queue.delay(queue.now_ms() + 5_000, Meta(id="x", enqueued_ms=5))
    queue.hold(TYPE)
    queue.set_aside(TYPE, Meta(id="x", enqueued_ms=5))
    queue.finish(["y"])
    queue.bury("z")

    told = cli.json("jobs", QUEUE, "--state", state)
    shown = cli("jobs", QUEUE, "--state", state)

    assert [job["state"] for job in told["jobs"]] == [state]
    assert {"atMs", "enqueuedMs", "sizeBytes", "runMs"} <= told["jobs"][0].keys()
    assert state in shown.stdout


def test_a_job_tells_its_story_without_power_over_the_terminal(
    cli: Cli, queue: QueueWriter
) -> None:
    error = ErrorRecord(kind="Bad", message="\x1b[2Jgone", traceback="File x\n  \x1b]0;t\x07raise")
    queue.bury("z", job_fields(b"\x1b[31mred", **{"he\x1bader": "v"}), error=error)

    shown = cli("job", "z")
    told = cli.json("job", "z")

    assert "\x1b" not in shown.output
    assert "\\x1b[2Jgone" in shown.stdout
    assert told["found"][0]["dead"]["error"]["kind"] == "Bad"
    assert told["found"][0]["job"]["state"] == "dead"


def test_an_attempts_story_is_camel_case(cli: Cli, queue: QueueWriter) -> None:
    meta = orjson.dumps(
        {
            "id": "r",
            "enqueued_ms": 1,
            "attempts": 1,
            "history": [{"number": 1, "at_ms": 2, "run_ms": 3, "engine": "e", "outcome": "failed"}],
        }
    )
    queue.enqueue([*job_fields(), b"_engine", meta])

    (story,) = cli.json("job", "r")["found"]

    assert story["history"] == [
        {"number": 1, "atMs": 2, "runMs": 3, "engine": "e", "outcome": "failed", "error": None}
    ]
    assert "failed" in cli("job", "r").stdout


def test_a_job_that_is_nowhere_fails_in_one_line(cli: Cli, queue: QueueWriter) -> None:
    found = cli("job", "nope")

    assert found.exit_code == 1
    assert found.stderr.startswith("error: no job nope in message-delivery")
    assert len(found.stderr.splitlines()) == 1


def test_health_exits_by_what_it_finds(cli: Cli, queue: QueueWriter) -> None:
    unserved = cli("health", "--json")
    queue.beat()
    well = cli("health")

    assert unserved.exit_code == 1
    report = orjson.loads(unserved.stdout)
    assert not report["healthy"]
    assert report["findings"][0]["check"] == "served"
    assert well.exit_code == 0
    assert "warning: no append-only file" in well.stdout


def test_health_of_an_unknown_app_says_what_it_could_not_see(cli: Cli, queue: QueueWriter) -> None:
    found = cli("health", "--json", ENGINE_APP="nowhere:app")

    assert found.exit_code == 0
    assert "app" in {finding["check"] for finding in orjson.loads(found.stdout)["findings"]}


@pytest.mark.parametrize(
    "command",
    [
        ("queues",),
        ("jobs", QUEUE),
        ("job", "x"),
        ("dead", "list", QUEUE),
        ("dead", "show", QUEUE, "x"),
        ("dead", "analyse"),
        ("dead", "retry", QUEUE, "--all"),
        ("dead", "discard", QUEUE, "--all", "--yes"),
        ("pause", QUEUE),
        ("resume", QUEUE),
        ("concurrency", QUEUE, "3"),
        ("health",),
    ],
)
def test_a_server_that_is_gone_exits_with_3_in_one_line(
    cli: Cli, unused_port: int, command: tuple[str, ...]
) -> None:
    found = cli("--redis-url", f"redis://127.0.0.1:{unused_port}", *command)

    assert found.exit_code == 3
    told = found.stderr or found.stdout
    assert told.startswith("error: ")
    assert "Traceback" not in found.output


def test_jobs_of_a_queue_that_nobody_knows_fail(cli: Cli, queue: QueueWriter) -> None:
    found = cli("jobs", "nosuch")

    assert found.exit_code == 1
    assert "no queue nosuch" in found.stderr


def test_a_queue_of_the_app_is_known_before_its_first_job(cli: Cli, queue: QueueWriter) -> None:
    queue.call("FLUSHALL")

    assert cli.json("jobs", QUEUE)["jobs"] == []
