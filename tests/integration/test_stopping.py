"""SIGTERM: what is unfinished goes back without spending an attempt, and others take it at once."""

from __future__ import annotations

import pytest

from tests.support.daemon import Daemon, Start
from tests.support.ledger import Ledger, Load, gate, send
from tests.support.servers import RedisTestServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers

AT_ONCE_S = 12.0
"""Far below the lease of 30 s."""


async def test_jobs_that_end_within_the_grace_are_let_run(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    engine = start_daemon(redis_server.url)
    accepted = {send(redis_server, "slow", f"s{n}", runMs=800): 0 for n in range(10)}
    await eventually(lambda: len(ledger.lines(event="start")) == 10, "jobs run")

    assert engine.stop() == 0

    ledger.check(accepted)
    assert not ledger.lines(event="cancelled")


@pytest.mark.parametrize(("job_type", "signals"), [("slow", 1), ("stubborn", 3)])
async def test_jobs_that_do_not_end_are_handed_to_another_engine_at_once(
    redis_server: RedisTestServer,
    start_daemon: Start,
    ledger: Ledger,
    job_type: str,
    signals: int,
) -> None:
    """
    Goal: neither running nor buffered jobs spend an attempt or a delivery, whether their handlers
    end when cancelled or swallow that; further signals change nothing; the exit code is 0.
    """
    engine = start_daemon(
        redis_server.url, environ={"ENGINE_GRACE_S": "2", "ENGINE_CONCURRENCY": "4"}
    )
    await eventually(engine.is_ready, "ready")
    opened = gate(ledger.path.parent)
    accepted = {send(redis_server, job_type, f"s{n}", gate=str(opened)): 0 for n in range(12)}
    await eventually(lambda: len(ledger.lines(event="start")) == 4, "four run")
    heir = start_daemon(redis_server.url)
    await eventually(heir.is_ready, "ready")

    for _ in range(signals):
        engine.terminate()
        await eventually(lambda: engine.has_ended() or engine.readiness().status == 503, "draining")

    def started_at_heir() -> set[str]:
        return {line.id for line in ledger.lines(event="start") if line.pid == heir.pid}

    await eventually(
        lambda: started_at_heir() == accepted.keys(), "taken at once", limit_s=AT_ONCE_S
    )
    assert engine.wait() == 0
    opened.touch()
    await eventually(ledger.is_empty, "all ended")
    ledger.check(accepted, starts_over=4)
    lines = ledger.lines(event="start")
    assert {(line.attempt, line.deliveries) for line in lines} == {(1, 1)}
    assert len(ledger.lines(event="cancelled")) == (4 if job_type == "slow" else 0)


async def test_an_idle_engine_stops_and_leaves_nothing_behind(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    engine = start_daemon(redis_server.url)
    await eventually(engine.is_ready, "ready")
    await eventually(lambda: redis_server.call("HLEN", "mq:engines") == 1, "listed")

    assert engine.stop() == 0

    assert redis_server.call("HLEN", "mq:engines") == 0
    assert redis_server.call("XINFO", "CONSUMERS", "mq:{ledger}:normal", "engine") == []
    assert ledger.is_empty()


async def test_a_rolling_restart_under_load_spends_nothing(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    """Goal: two engines, each replaced twice; no attempt or delivery is spent on that."""

    async def ready() -> Daemon:
        engine = start_daemon(redis_server.url, environ={"ENGINE_GRACE_S": "2"})
        await eventually(engine.is_ready, "ready")
        return engine

    running = [await ready(), await ready()]
    with Load(redis_server) as load:
        for _ in range(2):
            for place in range(2):
                before = len(load.accepted)
                await eventually(lambda b=before: len(load.accepted) > b + 100, "jobs flow")
                old = running[place]
                old.terminate()
                running[place] = await ready()
                await eventually(old.has_ended, "ended")
                assert old.wait() == 0
    await eventually(ledger.is_empty, "all ended", limit_s=AT_ONCE_S)

    ledger.check(load.accepted)
    assert {line.deliveries for line in ledger.lines()} == {1}
    attempts = {end.attempts for ends in ledger.ends().values() for end in ends if end.reason}
    assert attempts == {3}


async def test_an_engine_that_cannot_hand_back_says_so(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    """Goal: with the server away, SIGTERM ends the engine in its grace, with exit code 75."""
    engine = start_daemon(redis_server.url, environ={"ENGINE_GRACE_S": "2"})
    opened = gate(ledger.path.parent)
    accepted = {send(redis_server, "slow", f"s{n}", gate=str(opened)): 0 for n in range(3)}
    await eventually(lambda: len(ledger.lines(event="start")) == 3, "jobs run")
    redis_server.kill9()

    assert engine.stop() == 75

    redis_server.start()
    opened.touch()
    start_daemon(
        redis_server.url,
        environ={"ENGINE_LEASE_MS": "1500", "ENGINE_RENEW_MS": "500", "ENGINE_RECLAIM_MS": "200"},
    )
    await eventually(ledger.is_empty, "all ended")
    ledger.check(accepted, starts_over=3)


async def test_an_engine_that_waits_for_its_server_can_be_stopped(
    unused_port: int, start_daemon: Start
) -> None:
    engine = start_daemon(f"redis://127.0.0.1:{unused_port}/0")
    await eventually(lambda: engine.is_unready("connection"), "unready")

    assert engine.stop() == 0
