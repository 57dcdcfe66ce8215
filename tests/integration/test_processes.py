"""``run --processes`` and ``run --burst``, as programs."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from tests.support.daemon import Daemon, Start
from tests.support.ledger import Ledger, gate, send
from tests.support.servers import RedisTestServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers

TWO = ("--processes", "2")


def children(daemon: Daemon) -> set[int]:
    return {child.pid for child in psutil.Process(daemon.pid).children()}


def both_ready(daemon: Daemon) -> bool:
    return all(daemon.readiness(index=index).is_ready for index in (0, 1))


async def test_two_processes_share_the_work_and_drain_together(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    daemon = start_daemon(
        redis_server.url,
        arguments=(*TWO, "--concurrency", "1"),
        environ={"ENGINE_GRACE_S": "2", "ENGINE_PREFETCH_MAX": "1"},
    )
    await eventually(lambda: both_ready(daemon), "both ready")
    opened = gate(ledger.path.parent)
    accepted = {send(redis_server, "slow", f"s{n}", gate=str(opened)): 0 for n in range(6)}
    await eventually(lambda: len(ledger.lines(event="start")) == 2, "two run")
    family = children(daemon)
    assert {line.pid for line in ledger.lines()} == family

    assert daemon.stop() == 0

    assert not any(map(psutil.pid_exists, family))
    opened.touch()
    start_daemon(redis_server.url)
    await eventually(ledger.is_empty, "all ended", limit_s=12)
    ledger.check(accepted, starts_over=2)
    assert {line.deliveries for line in ledger.lines()} == {1}


async def test_a_killed_process_is_started_again(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    daemon = start_daemon(redis_server.url, arguments=TWO)
    await eventually(lambda: both_ready(daemon), "both ready")
    before = children(daemon)
    victim = max(before)

    os.kill(victim, signal.SIGKILL)

    await eventually(lambda: children(daemon) - before, "another child")
    await eventually(lambda: both_ready(daemon), "both ready again")
    assert len(children(daemon)) == 2
    accepted = {send(redis_server, "quick", "later"): 0}
    await eventually(ledger.is_empty, "ended")
    ledger.check(accepted)
    assert daemon.stop() == 0


@pytest.mark.parametrize("arguments", [(), TWO], ids=["one process", "two processes"])
async def test_a_burst_ends_when_everything_has(
    redis_server: RedisTestServer,
    start_daemon: Start,
    ledger: Ledger,
    arguments: tuple[str, ...],
) -> None:
    accepted = {send(redis_server, "quick", f"q{n}"): 0 for n in range(300)}

    daemon = start_daemon(redis_server.url, arguments=("--burst", *arguments))

    await eventually(daemon.has_ended, "burst over")
    assert daemon.wait() == 0
    ledger.check(accepted)


async def test_a_burst_waits_for_its_server(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    accepted = {send(redis_server, "slow", f"s{n}", runMs=20): 0 for n in range(300)}
    daemon = start_daemon(redis_server.url, arguments=("--burst", "--concurrency", "2"))
    await eventually(lambda: len(ledger.lines(event="end")) > 20, "jobs run")

    redis_server.kill9()
    await eventually(lambda: daemon.is_unready("connection"), "unready")
    redis_server.start()

    await eventually(daemon.has_ended, "burst over")
    assert daemon.wait() == 0
    ledger.check(accepted)


async def test_a_burst_can_be_stopped(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    opened = gate(ledger.path.parent)
    accepted = {send(redis_server, "slow", f"s{n}", gate=str(opened)): 0 for n in range(4)}
    daemon = start_daemon(redis_server.url, arguments=("--burst",), environ={"ENGINE_GRACE_S": "1"})
    await eventually(lambda: len(ledger.lines(event="start")) == 4, "jobs run")

    assert daemon.stop() == 0

    opened.touch()
    start_daemon(redis_server.url)
    await eventually(ledger.is_empty, "all ended", limit_s=12)
    ledger.check(accepted, starts_over=4)
    assert {line.deliveries for line in ledger.lines()} == {1}
