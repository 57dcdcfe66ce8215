"""``schedule``: what is printed, what is written, what is refused."""

from __future__ import annotations

import orjson
import pytest

from engine.wire.keys import AUDIT
from tests.integration.cli.conftest import Cli
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter

DATA = '{"userId": 7}'
CRON = ("--cron", "0 9 * * MON-FRI", "--tz", "Europe/Berlin")


@pytest.fixture
def added(cli: Cli, queue: QueueWriter) -> Cli:
    """Give the command line of a server with one schedule and one engine."""
    queue.beat()
    found = cli("schedule", "add", "nightly", TYPE, *CRON, "--data", DATA, "--reason", "tea")
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith("nightly: added; every weekday at 09:00 Europe/Berlin; next in ")
    return cli


def record(queue: QueueWriter, name: str = "nightly") -> dict[str, object]:
    return dict(orjson.loads(queue.call("HGET", queue.keys.schedules, name)))


def test_adding_writes_a_record_and_an_audit_entry(added: Cli, queue: QueueWriter) -> None:
    found = record(queue)

    assert found.pop("next_ms")
    assert found == {
        "type": TYPE, "data": {"userId": 7}, "cron": "0 9 * * MON-FRI", "tz": "Europe/Berlin",
    }  # fmt: skip
    ((_, entry),) = queue.call("XRANGE", AUDIT, "-", "+")
    told = dict(zip(entry[::2], entry[1::2], strict=True)) if isinstance(entry, list) else entry
    assert (told[b"what"], told[b"reason"]) == (b"schedule-add", b"tea")


def test_all_are_listed_and_one_is_shown(added: Cli, queue: QueueWriter) -> None:
    queue.call("HSET", queue.keys.schedules, "odd", "{")

    lines = added("schedule", "list", QUEUE).stdout.splitlines()
    nightly, odd = added.json("schedule", "list")
    shown = added("schedule", "show", "nightly").stdout

    assert "every weekday at 09:00 Europe/Berlin" in lines[1]
    assert "cannot be read" in lines[2]
    assert (nightly["state"], nightly["problem"], len(nightly["upcoming"])) == ("on", "", 5)
    assert (odd["state"], odd["name"]) == ("broken", "odd")
    assert '{"userId":7}' in shown
    assert added.json("queues", QUEUE)[0]["schedules"] == 2
    assert "schedules    2" in added("queues", QUEUE).stdout


def test_health_finds_what_does_not_fire(added: Cli, queue: QueueWriter) -> None:
    queue.call("HSET", queue.keys.schedules, "odd", "{")
    queue.call("HSET", queue.keys.schedules, "other", '{"type":"nothing","every_ms":5000}')

    found = added("health", QUEUE).stdout

    assert f"schedule odd of queue {QUEUE} cannot be read, so it does not fire" in found
    assert f"no engine of queue {QUEUE} takes type nothing" in found
    assert "nightly" not in found
    queue.call("DEL", "mq:engines")
    assert "so its 2 schedules do not fire" in added("health", QUEUE).stdout


def test_a_schedule_is_changed_paused_resumed_run_and_deleted(
    added: Cli, queue: QueueWriter
) -> None:
    assert "every 10 minutes" in added("schedule", "change", "nightly", "--every", "10m").stdout
    assert "cron" not in record(queue)
    assert added("schedule", "pause", "nightly").stdout.startswith("nightly: paused")
    assert "was paused already" in added("schedule", "pause", "nightly").stdout
    ran = added.json("schedule", "run", "nightly")
    (story,) = added.json("job", ran["job"], "--queue", QUEUE)["found"]
    assert (story["schedule"], story["payload"]) == ("nightly", {"userId": 7})
    assert "nightly: resumed" in added("schedule", "resume", "nightly").stdout
    assert "was not paused" in added("schedule", "resume", "nightly").stdout
    assert added("schedule", "delete", "nightly").stdout == "nightly: deleted\n"
    assert queue.call("EXISTS", queue.keys.schedules) == 0


def test_fields_are_added_to_those_there(added: Cli, queue: QueueWriter) -> None:
    added("schedule", "change", "nightly", "--key", "k", "--ttl", "5s", "--header", "x=y")
    added("schedule", "change", "nightly", "--attempts", "2")

    assert record(queue)["fields"] == {"key": "k", "ttl": "5000", "x": "y", "attempts": "2"}


def test_what_code_declares_is_changed_there(added: Cli, queue: QueueWriter) -> None:
    declared = {"type": TYPE, "every_ms": 5000, "source": "code", "app": "shop:app"}
    queue.call("HSET", queue.keys.schedules, "mine", orjson.dumps(declared))

    assert "change it in the code" in added("schedule", "change", "mine", "--every", "1h").stderr
    assert "take it out of the code" in added("schedule", "delete", "mine").stderr
    assert added("schedule", "pause", "mine").exit_code == 0
    assert added("schedule", "delete", "mine", "--force").exit_code == 0


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("add", "nightly", TYPE, *CRON, "--data", DATA), 1, "is there already"),
        (("add", "n", TYPE, *CRON, "--data", '{"userId":"x"}'), 1, "does not fit send-message"),
        (("add", "n", TYPE, *CRON), 1, "does not fit send-message"),
        (("add", "n", TYPE, "--data", DATA), 1, "give one of"),
        (("add", "n", TYPE, "--data", DATA, "--at", "1000"), 1, "the moment is"),
        (("add", "n", TYPE, "--data", DATA, "--every", "often"), 2, "neither ms nor such as"),
        (("add", "n", "other", *CRON), 2, "give its --queue"),
        (("change", "nightly"), 2, "say what to change"),
        (("change", "nightly", "--cron", "x"), 1, "five fields"),
        (("change", "nightly", "--data", "[]"), 1, "data-schema"),
        (("show", "gone"), 1, "no schedule gone"),
        (("run", "gone", "--queue", QUEUE), 1, "no schedule gone"),
        (("next", "* * * * MOON"), 1, "Bad day-of-week"),
        (("next", "* * * * *", "--tz", "Nowhere"), 1, "no time zone"),
    ],
)
def test_what_makes_no_sense_is_refused(
    added: Cli, args: tuple[str, ...], code: int, told: str
) -> None:
    found = added("schedule", *args)

    assert (found.exit_code, told in found.stderr) == (code, True), found.stderr


def test_next_runs_are_previewed_without_a_server(cli: Cli) -> None:
    args = ("schedule", "next", *CRON[1:], "--count", "3")
    found = cli("--redis-url", "redis://127.0.0.1:1", *args).stdout.splitlines()

    assert found[0] == "every weekday at 09:00 Europe/Berlin"
    assert len(found) == 4
    assert all("09:00" in line for line in found)
    assert len(cli.json(*args)["ticks"]) == 3
