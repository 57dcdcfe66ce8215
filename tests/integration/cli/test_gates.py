"""Commands for order by key and limits."""

from __future__ import annotations

import pytest

from engine.wire.keys import AUDIT
from engine.wire.packing import pack
from tests.integration.cli.conftest import Cli
from tests.support.queue_writer import QUEUE, QueueWriter

SMS = "provider:sms"


def test_a_limit_is_set_listed_and_cleared(cli: Cli, queue: QueueWriter) -> None:
    told = cli("limit", "set", QUEUE, SMS, "--rate", "6000/min", "--burst", "20", "--reason", "x")
    assert told.stdout == f"{QUEUE}: limit {SMS} allows 6000 per 60 s (burst 20) now\n"
    assert queue.call("HGET", queue.keys.control, f"limit:{SMS}") == b"6000 60000 20 0"
    again = cli("limit", "set", QUEUE, SMS, "--rate", "6000/min", "--burst", "20")
    assert "already" in again.stdout

    (limit,) = cli.json("limit", "list", QUEUE)
    assert (limit["name"], limit["rate"], limit["tokens"], limit["declared"]) == (
        SMS, 6000, 20, False,
    )  # fmt: skip
    assert "operator  6000 per 60 s (burst 20)" in cli("limit", "list", QUEUE).stdout
    assert SMS in cli("queues", QUEUE).stdout

    cleared = cli.json("limit", "clear", QUEUE, SMS)
    assert (cleared["changed"], cleared["limit"]) == (True, SMS)
    missing = cli("limit", "clear", QUEUE, SMS)
    assert (missing.exit_code, "has no rule" in missing.stderr) == (1, True)
    assert "has no limits" in cli("limit", "list", QUEUE).stderr
    assert queue.call("XLEN", AUDIT) == 2


def test_groups_shares_and_single_groups_are_written_as_scripts_read_them(
    cli: Cli, queue: QueueWriter
) -> None:
    by = ("--by", "header:tenant", "--concurrency", "5")
    share = ("--share", "header:tenant", "--weight", "acme=3", "--concurrency", "9")
    for words in (("tenant=*", *by), ("tenant=acme", "--concurrency", "50"), ("queue", *share)):
        assert cli("limit", "set", QUEUE, *words).exit_code == 0

    control = queue.call("HGETALL", queue.keys.control)
    assert dict(zip(control[::2], control[1::2], strict=True)) == {
        b"limit:tenant=*": b"0 1000 0 5 by=header:tenant",
        b"limit:tenant=acme": b"0 1000 0 50",
        b"limit:queue": b"0 1000 0 9 share=header:tenant acme=3",
    }


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ((SMS,), 2, "say what it allows"),
        ((SMS, "--rate", "9"), 2, "is no rate such as"),
        ((SMS, "--rate", "0/s"), 2, "is no rate such as"),
        ((SMS, "--rate", "1/0s"), 2, "is no rate such as"),
        ((SMS, "--concurrency", "1", "--weight", "acme"), 2, "is no weight"),
        (("tenant=*", "--concurrency", "1"), 1, "says by what"),
        (("a b", "--concurrency", "1"), 1, "must match"),
        ((SMS, "--concurrency", "1", "--share", "who"), 1, "told by header"),
    ],
)
def test_what_makes_no_rule_is_refused(
    cli: Cli, queue: QueueWriter, words: tuple[str, ...], code: int, text: str
) -> None:
    found = cli("limit", "set", QUEUE, *words)

    assert (found.exit_code, text in found.stderr) == (code, True)
    assert queue.call("EXISTS", queue.keys.control) == 0


def test_a_limit_is_shut_and_opened(cli: Cli, queue: QueueWriter) -> None:
    assert (
        f"limit {SMS} is shut and opens in"
        in cli("limit", "shut", QUEUE, SMS, "--for", "10m").stdout
    )
    assert "opens in" in cli("limit", "list", QUEUE).stdout
    assert cli("limit", "open", QUEUE, SMS).stdout == f"{QUEUE}: limit {SMS} is open\n"
    assert "was not shut" in cli("limit", "open", QUEUE, SMS).stdout
    assert cli("limit", "shut", QUEUE, SMS, "--for", "ever").exit_code == 2


def test_the_order_is_shown_set_and_keys_are_let_go(cli: Cli, queue: QueueWriter) -> None:
    assert "go on" in cli("order", QUEUE).stdout
    change = cli.json("order", QUEUE, "--on-dead", "block", "--reason", "lost messages")
    assert (change["before"], change["after"], change["changed"]) == ("continue", "block", True)
    assert "blocks its key" in cli("order", QUEUE).stdout

    ticket = f"{5:015}-{0:010}"
    behind = f"kK\0{6:015}-{0:010}\0".encode() + pack([b"K\0\0\0", b"type", b"x"])
    queue.call("HSET", queue.keys.busy("normal"), "K", f"!{ticket}")
    queue.call("ZADD", queue.keys.parked("normal"), 0, behind)
    detail = cli("queues", QUEUE).stdout
    assert "1: 1 behind their keys, 0 behind limits" in detail
    assert "1 by dead jobs" in detail
    assert "behind key K" in cli("jobs", QUEUE, "--state", "parked").stdout

    assert "; 1 blocked keys go on" in cli("order", QUEUE, "--on-dead", "continue").stdout
    assert queue.call("XLEN", queue.keys.lane("normal:ready")) == 1
    assert queue.call("XLEN", AUDIT) == 2
