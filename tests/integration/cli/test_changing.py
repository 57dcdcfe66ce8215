"""Commands that change queues and dead letters."""

from __future__ import annotations

import orjson
import pytest

from engine.wire.keys import AUDIT
from tests.integration.cli.conftest import Cli
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter, job_fields


def test_pause_and_resume_say_what_they_did(cli: Cli, queue: QueueWriter) -> None:
    queue.beat()

    assert cli("pause", QUEUE, "--reason", "tea").stdout == f"{QUEUE}: paused\n"
    assert cli("pause", QUEUE).stdout == f"{QUEUE}: was paused already\n"
    assert cli.json("queues", QUEUE)[0]["pausedBy"]["reason"] == "tea"
    (change,) = cli.json("resume", QUEUE)
    assert change == {
        "queue": QUEUE, "what": "resume", "changed": True, "before": "1", "after": "",
    }  # fmt: skip
    assert cli("resume", QUEUE).stdout == f"{QUEUE}: was not paused\n"
    assert queue.call("XLEN", AUDIT) == 2


def test_a_queue_that_nobody_serves_is_pointed_out(cli: Cli) -> None:
    found = cli("pause", "mesage-delivery")

    assert found.exit_code == 0
    assert "no engine serves queue mesage-delivery" in found.stderr


def test_a_type_is_held_and_released(cli: Cli, queue: QueueWriter) -> None:
    queue.beat()

    assert "holds send-message now" in cli("pause", QUEUE, "--type", TYPE).stdout
    assert cli.json("queues", QUEUE)[0]["held"][0]["held"]
    assert "released its hold" in cli("resume", QUEUE, "--type", TYPE).stdout
    assert "had no such hold" in cli("resume", QUEUE, "--type", TYPE).stdout


def test_concurrency_is_set_and_reset(cli: Cli, queue: QueueWriter) -> None:
    queue.beat()

    assert "7 jobs at a time per engine" in cli("concurrency", QUEUE, "7").stdout
    assert queue.call("HGET", queue.keys.control, "concurrency") == b"7"
    assert "each engine's own" in cli("concurrency", QUEUE, "default").stdout
    assert cli("concurrency", QUEUE, "many").exit_code == 2
    refused = cli("concurrency", QUEUE, "0")
    assert (refused.exit_code, "1 to 10000" in refused.stderr) == (1, True)


def test_many_are_retried_in_the_background(cli: Cli, queue: QueueWriter) -> None:
    for number in range(3):
        queue.bury(f"j{number}")
    queue.beat()
    refused = cli("dead", "retry", QUEUE, "--all", "--canary", "2")
    assert (refused.exit_code, "--canary needs --background" in refused.stderr) == (2, True)
    both = cli("dead", "retry", QUEUE, "--all", "--background", "--limit", "2")
    assert (both.exit_code, "leave --limit out" in both.stderr) == (2, True)

    options = ("--all", "--background", "--canary", "2", "--rate", "5", "--why", "provider is back")
    started = cli.json("dead", "retry", QUEUE, *options)

    name, record = started["record"]["id"], started["record"]
    assert (record["planned"], record["rate"], record["canary"]) == (3, 5, 2)
    assert len(queue.dead()) == 3
    assert name in cli("operations", "list").stdout
    shown = cli("operations", "show", QUEUE, name).stdout
    assert "retry 3 jobs" in shown
    assert "provider is back" in shown
    stopped = cli.json("operations", "stop", QUEUE, name, "--why", "tea")
    assert (stopped["record"]["state"], stopped["can"]) == ("stopped", ["resume"])
    assert cli.json("operations", "resume", QUEUE, name)["record"]["state"] == "releasing"
    undone = cli("operations", "undo", QUEUE, name)
    assert (undone.exit_code, "cannot undo" in undone.stderr) == (1, True)


def test_a_discard_in_the_background_can_be_undone(cli: Cli, queue: QueueWriter) -> None:
    queue.bury("a")

    asked = cli("dead", "discard", QUEUE, "--all", "--background")
    started = cli.json("dead", "discard", QUEUE, "--all", "--background", "--yes")
    undone = cli.json("operations", "undo", QUEUE, started["record"]["id"])

    assert (asked.exit_code, "say --yes" in asked.stderr) == (2, True)
    assert (started["record"]["state"], undone["record"]["state"]) == ("waiting", "undone")
    assert len(queue.dead()) == 1


def test_dead_letters_are_listed_shown_and_analysed(cli: Cli, queue: QueueWriter) -> None:
    queue.bury("a")
    queue.bury("b", reason="timeout", fingerprint="f" * 12)

    page = cli.json("dead", "list", QUEUE, "--reason", "timeout", "--since", "1h")
    (analysis,) = cli.json("dead", "analyse", QUEUE)

    assert [job["id"] for job in page["jobs"]] == ["b"]
    assert cli.json("dead", "list", QUEUE, "--before", "2001-01-01")["jobs"] == []
    assert (analysis["dead"], len(analysis["groups"])) == (2, 2)
    assert analysis["byReason"] == {"exhausted": 1, "timeout": 1}
    assert "no such user 17" in cli("dead", "show", QUEUE, "a").stdout
    assert cli.json("dead", "show", QUEUE, "a")["dead"]["reason"] == "exhausted"
    assert "2 dead in 2 groups" in cli("dead", "analyse").stdout
    assert cli("dead", "show", QUEUE, "c").exit_code == 1


def test_a_retry_does_what_its_dry_run_said(cli: Cli, queue: QueueWriter) -> None:
    queue.bury("a")
    queue.bury("b", cut=10, sha256="0")

    planned = cli.json("dead", "retry", QUEUE, "--all", "--dry-run")
    assert len(queue.dead()) == 2
    done = cli.json("dead", "retry", QUEUE, "--all", "--why", "mended")

    assert planned == {**done, "dryRun": True}
    assert (done["matched"], done["changed"], sum(done["unable"].values())) == (2, 1, 1)
    assert len(queue.lane()) == 1
    again = cli("dead", "retry", QUEUE, "--all")
    assert "too large to keep" in again.stderr


def test_an_id_that_is_not_dead_fails(cli: Cli, queue: QueueWriter) -> None:
    found = cli("dead", "retry", QUEUE, "nope")

    assert found.exit_code == 1
    assert "no dead letter nope" in found.stderr


@pytest.mark.parametrize("action", ["retry", "discard"])
def test_bulk_actions_want_to_know_which(cli: Cli, queue: QueueWriter, action: str) -> None:
    assert cli("dead", action, QUEUE).exit_code == 2
    assert cli("dead", action, QUEUE, "--all", "--reason", "timeout").exit_code == 2


def test_discard_wants_a_yes(cli: Cli, queue: QueueWriter) -> None:
    queue.bury_many(3, job_fields())

    asked = cli("dead", "discard", QUEUE, "--all")
    assert (asked.exit_code, len(queue.dead())) == (2, 3)
    done = cli("dead", "discard", QUEUE, "--all", "--yes")
    assert (done.stdout, queue.dead()) == ("3 of 3 dropped\n", [])
    (_, fields), *_ = queue.call("XREVRANGE", AUDIT, "+", "-")
    detail = orjson.loads(fields[fields.index(b"detail") + 1])
    assert detail["jobs"] == 3
