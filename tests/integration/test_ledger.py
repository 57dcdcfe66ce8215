"""The checker of the other tests sees what it is there to see."""

from __future__ import annotations

from array import array
from pathlib import Path

import msgspec
import pytest

from engine.wire.done import encode_done
from engine.wire.keys import GROUP
from tests.support.ledger import KEYS, Ledger, send
from tests.support.ledger_app import Line
from tests.support.servers import RedisTestServer

pytestmark = pytest.mark.servers


@pytest.fixture
def ledger(tmp_path: Path, shared_redis: RedisTestServer) -> Ledger:
    shared_redis.call("FLUSHALL")
    for key in KEYS.lanes.values():
        shared_redis.call("XGROUP", "CREATE", key, GROUP, "0", "MKSTREAM")
    return Ledger(tmp_path / "ledger", shared_redis)


def end(ledger: Ledger, job_id: str) -> None:
    fields = encode_done("quick", "normal", "e1", [job_id.encode()], array("I", [1]), None)
    ledger.server.call("XADD", KEYS.done, "*", *fields)


def start(ledger: Ledger, job_id: str) -> None:
    line = Line("start", job_id, "quick", 1, 1, 1, 0.0)
    with ledger.path.open("ab") as file:
        file.write(msgspec.json.encode(line) + b"\n")


def test_an_honest_ledger_passes(ledger: Ledger) -> None:
    start(ledger, "a")
    end(ledger, "a")
    ledger.check({"a": 0})


def test_a_lost_job_is_seen(ledger: Ledger) -> None:
    end(ledger, "a")
    with pytest.raises(AssertionError, match="1 of 2 accepted jobs are lost"):
        ledger.check({"a": 0, "b": 0})


def test_a_second_end_is_seen_unless_a_send_of_unknown_fate_explains_it(ledger: Ledger) -> None:
    end(ledger, "a")
    end(ledger, "a")
    ledger.check({"a": 1})
    with pytest.raises(AssertionError, match="a ended twice"):
        ledger.check({"a": 0})


def test_a_second_start_is_seen(ledger: Ledger) -> None:
    start(ledger, "a")
    start(ledger, "a")
    end(ledger, "a")
    ledger.check({"a": 0}, starts_over=1)
    with pytest.raises(AssertionError, match="started again"):
        ledger.check({"a": 0})


@pytest.mark.parametrize("left", ["waiting", "pending", "delayed"])
def test_whatever_is_left_is_seen(ledger: Ledger, left: str) -> None:
    if left == "delayed":
        ledger.server.call("ZADD", KEYS.delayed, 1, "x")
    else:
        send(ledger.server, "quick", "a")
    if left == "pending":
        lane = KEYS.lane("normal")
        ledger.server.call("XREADGROUP", "GROUP", GROUP, "c", "STREAMS", lane, ">")
    with pytest.raises(AssertionError, match="mq:"):
        ledger.is_empty()
