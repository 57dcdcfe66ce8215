"""Engines that die again and again, freeze, or are blocked; leases decide who holds a job."""

from __future__ import annotations

import asyncio
import signal

import pytest

from engine.store.scripts import script
from tests.support.daemon import SHORT_LEASES, Start
from tests.support.ledger import Ledger, gate, send
from tests.support.servers import RedisTestServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers

LEASE_S = 1.5


async def test_a_job_that_kills_its_engines_is_dead_after_three(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    accepted = {send(redis_server, "crashing", "bomb"): 0}
    for _ in range(3):
        engine = start_daemon(redis_server.url, environ=SHORT_LEASES)
        await eventually(engine.has_ended, "killed by its job")
        assert engine.wait() == -9
    accepted[send(redis_server, "quick", "bystander")] = 0

    last = start_daemon(redis_server.url, environ=SHORT_LEASES)
    await eventually(lambda: "bomb" in ledger.ends(), "buried")
    await eventually(ledger.is_empty, "all ended")

    ledger.check(accepted, starts_over=2)
    (end,) = ledger.ends()["bomb"]
    assert end == ("dead", "crash-loop", 0, 3)
    assert [(line.attempt, line.deliveries) for line in ledger.lines("bomb", "start")] == [
        (1, 1),
        (1, 2),
        (1, 3),
    ]
    assert last.is_ready()
    assert last.metric("engine_jobs_total", type="crashing", outcome="lost") == 1


@pytest.mark.parametrize("ends", ["before it wakes", "after it wakes"])
async def test_a_frozen_engine_loses_its_lease_and_its_result_is_dropped(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger, ends: str
) -> None:
    """
    Goal: a zombie neither settles nor goes on with a job that another engine holds.

    Method: the first engine is stopped for longer than a lease; the job's second run ends before
    or after the first engine wakes.
    """
    zombie = start_daemon(redis_server.url, environ=SHORT_LEASES)
    await eventually(zombie.is_ready, "ready")
    opened = gate(ledger.path.parent)
    accepted = {send(redis_server, "slow", "contested", gate=str(opened)): 0}
    await eventually(lambda: ledger.lines("contested", "start"), "runs")
    zombie.signal(signal.SIGSTOP)
    heir = start_daemon(redis_server.url, environ=SHORT_LEASES)
    await eventually(lambda: len(ledger.lines("contested", "start")) == 2, "runs again")
    assert ledger.lines("contested", "start")[1].pid == heir.pid

    if ends == "before it wakes":
        opened.touch()
        await eventually(lambda: "contested" in ledger.ends(), "ended")
    zombie.signal(signal.SIGCONT)
    await eventually(lambda: zombie.metric("engine_leases_lost_total") == 1, "noticed")
    if ends == "after it wakes":
        cancelled = await eventually(lambda: ledger.lines("contested", "cancelled"), "cancelled")
        assert cancelled[0].pid == zombie.pid
        opened.touch()

    await eventually(ledger.is_empty, "all ended")
    ledger.check(accepted, starts_over=1)
    accepted[send(redis_server, "quick", "later")] = 0
    await eventually(lambda: "later" in ledger.ends(), "both work on")
    assert zombie.metric("engine_jobs_total", type="slow", outcome="done") == 0
    assert heir.metric("engine_jobs_total", type="slow", outcome="done") == 1
    assert zombie.metric("engine_leases_lost_total") == 1


async def test_a_handler_that_blocks_the_loop_keeps_its_lease(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    """Goal: one of two engines is blocked, whichever has the job; the other one leaves it alone."""
    engines = [start_daemon(redis_server.url, environ=SHORT_LEASES) for _ in range(2)]
    for engine in engines:
        await eventually(engine.is_ready, "ready")

    accepted = {send(redis_server, "blocking", "hog", runMs=2_000 * LEASE_S): 0}

    await eventually(lambda: "hog" in ledger.ends(), "ended")
    ledger.check(accepted)
    for engine in engines:
        assert engine.metric("engine_reclaimed_total") == 0
        assert engine.metric("engine_leases_lost_total") == 0


async def test_idle_times_are_not_believed_after_a_restart_of_the_server(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    """
    Goal: leases that ran out only because the server was down are nobody's to take.

    Method: the server is down for two leases; what runs goes on at its engine, while another
    engine, just started, looks for lost jobs all the time.
    """
    holder = start_daemon(redis_server.url, environ=SHORT_LEASES)
    await eventually(holder.is_ready, "ready")
    opened = gate(ledger.path.parent)
    accepted = {send(redis_server, "slow", f"s{n}", gate=str(opened)): 0 for n in range(50)}
    await eventually(lambda: len(ledger.lines(event="start")) == 50, "jobs run")
    idle = start_daemon(redis_server.url, environ=SHORT_LEASES)
    await eventually(idle.is_ready, "ready")

    redis_server.kill9()
    # Waits for nothing: the time for which the server is away is what this is about.
    await asyncio.sleep(2 * LEASE_S)
    redis_server.start()
    redis_server.call("CONFIG", "SET", "slowlog-max-len", "100000")
    redis_server.call("CONFIG", "SET", "slowlog-log-slower-than", "0")
    fresh = start_daemon(redis_server.url, environ=SHORT_LEASES)
    for engine in (holder, idle, fresh):
        await eventually(engine.is_ready, "ready again")
    # While the gate is closed, and once idle times are believed again.
    await eventually(lambda: len(believers(redis_server)) == 3, "all look for lost jobs")
    opened.touch()

    await eventually(ledger.is_empty, "all ended")
    ledger.check(accepted)
    assert sum(engine.metric("engine_reclaimed_total") for engine in (idle, fresh)) == 0
    assert holder.metric("engine_leases_lost_total") == 0


def believers(server: RedisTestServer) -> set[bytes]:
    """Consumers that asked for whatever was idle for one lease, as they do in plain times."""
    with server.client() as client:
        # As they are: what is parsed is put together.
        client.response_callbacks.clear()
        commands = [entry[3] for entry in client.execute_command("SLOWLOG", "GET", "-1")]
    looks = [words for words in commands if words[:2] == [b"EVALSHA", script("reclaim").sha]]
    return {words[6] for words in looks if words[7] == str(round(LEASE_S * 1e3)).encode()}


async def test_lost_jobs_are_found_while_a_backlog_keeps_every_engine_busy(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    first = start_daemon(redis_server.url, environ={**SHORT_LEASES, "ENGINE_FAIL": "K3@1:kill"})
    accepted = {send(redis_server, "quick", "orphan"): 0}
    await eventually(first.has_ended, "killed")
    for n in range(240):
        accepted[send(redis_server, "slow", f"s{n}", runMs=50)] = 0

    start_daemon(redis_server.url, environ={**SHORT_LEASES, "ENGINE_CONCURRENCY": "4"})
    await eventually(lambda: "orphan" in ledger.ends(), "found")
    waiting = ledger.left()
    assert waiting, "the backlog was gone before the orphan was found"

    await eventually(ledger.is_empty, "all ended")
    ledger.check(accepted, starts_over=1)
