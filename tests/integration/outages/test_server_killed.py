"""The server is killed and comes back."""

from __future__ import annotations

import pytest

from tests.support.daemon import Start
from tests.support.ledger import Ledger, Load, gate, send
from tests.support.servers import RedisTestServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers


LOADING_S = 2.0


async def test_a_server_that_loads_its_data_is_waited_for(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    daemon = start_daemon(redis_server.url)
    await eventually(daemon.is_ready, "ready")
    opened = gate(ledger.path.parent)
    accepted = {send(redis_server, "slow", f"s{n}", gate=str(opened)): 0 for n in range(5)}
    await eventually(lambda: len(ledger.lines(event="start")) == 5, "jobs run")
    commands = 20_000
    with redis_server.client() as client, client.pipeline(transaction=False) as pipe:
        for _ in range(commands):
            pipe.set("makes the log long", "")
        pipe.execute()

    # Per command, in microseconds.
    redis_server.config["key-load-delay"] = str(int(LOADING_S * 1e6 / commands))
    redis_server.restart(kill=True, wait=False)
    opened.touch()
    await eventually(lambda: daemon.is_unready("(?i)loading"), "unready")
    assert daemon.errors()["loading"] > 0

    await eventually(daemon.is_ready, "ready again")
    await eventually(ledger.is_empty, "drained")
    ledger.check(accepted)
    assert len(daemon.log_lines()) < 100


async def test_no_accepted_job_is_lost_when_the_server_is_killed_under_load(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    """
    Goal: kill -9 of a server with AOF loses no accepted job and makes none run twice.

    Method: a producer sends without a pause; the server is killed three times once jobs flow.
    """
    daemon = start_daemon(redis_server.url)
    await eventually(daemon.is_ready, "ready")
    with Load(redis_server) as load:
        for _ in range(3):
            before = len(load.accepted)
            await eventually(lambda b=before: len(load.accepted) > b + 300, "jobs flow")
            redis_server.kill9()
            await eventually(lambda: daemon.is_unready("redis"), "unready")
            redis_server.start()
            await eventually(daemon.is_ready, "ready again")
    await eventually(ledger.is_empty, "drained")

    ledger.check(load.accepted)
    assert daemon.errors().keys() <= {"connection", "timeout", "loading"}
    assert daemon.errors()["connection"] > 0
    assert len(daemon.log_lines()) < 150
