"""The way to the server breaks: replies get lost, connections hang, come and go."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from engine.store.scripts import script
from tests.support.daemon import SHORT_LEASES, Start
from tests.support.ledger import KEYS, Ledger, Load, gate, send
from tests.support.proxy import FaultProxy
from tests.support.servers import RedisTestServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers

SOON_S = 12.0
"""Well within the lease of 30 s: nobody waits for that to run out."""


@pytest.fixture
async def proxy(redis_server: RedisTestServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(redis_server.port) as proxy:
        yield proxy


async def warm_up(ledger: Ledger) -> None:
    """Have every script on the server, so that its first reply is not an error."""
    send(ledger.server, "quick", "warm")
    await eventually(ledger.is_empty, "warm")


def starts(ledger: Ledger, job_id: str) -> list[tuple[int, int]]:
    return [(line.attempt, line.deliveries) for line in ledger.lines(job_id, "start")]


@pytest.mark.parametrize("times", [1, 2])
async def test_jobs_in_a_lost_reply_are_taken_up_without_waiting_for_their_lease(
    redis_server: RedisTestServer,
    proxy: FaultProxy,
    start_daemon: Start,
    ledger: Ledger,
    times: int,
) -> None:
    """Goal: also where the reply that brings them the second time gets lost as well."""
    daemon = start_daemon(proxy.url(redis_server.url))
    await eventually(daemon.is_ready, "ready")
    await warm_up(ledger)

    proxy.rst_on_reply(b"victim")
    accepted = {send(redis_server, "quick", "victim"): 0}
    for _ in range(times - 1):
        await proxy.was_reset.wait()
        proxy.rst_on_reply(b"victim")

    await eventually(lambda: "victim" in ledger.ends(), "ended", limit_s=SOON_S)
    assert proxy.was_reset.is_set()
    ledger.check(accepted)
    assert starts(ledger, "victim") == [(1, 1)]
    await eventually(daemon.is_ready, "ready again")
    assert daemon.errors()["connection"] > 0


async def test_a_settlement_whose_reply_is_lost_counts_once(
    redis_server: RedisTestServer, proxy: FaultProxy, start_daemon: Start, ledger: Ledger
) -> None:
    daemon = start_daemon(proxy.url(redis_server.url))
    await eventually(daemon.is_ready, "ready")
    await warm_up(ledger)
    opened = gate(ledger.path.parent)
    accepted = {send(redis_server, "slow", f"s{n}", gate=str(opened)): 0 for n in range(3)}
    await eventually(lambda: len(ledger.lines(event="start")) == 4, "jobs run")

    proxy.rst_on_reply(request=script("settle").sha)
    opened.touch()
    await proxy.was_reset.wait()

    await eventually(ledger.is_empty, "ended", limit_s=SOON_S)
    ledger.check(accepted)
    assert redis_server.call("HGET", KEYS.stats, "done:slow") == b"3"
    await eventually(
        lambda: daemon.metric("engine_jobs_total", type="slow", outcome="done") == 3, "counted"
    )
    assert daemon.metric("engine_leases_lost_total") == 0


async def test_lost_replies_of_retries_and_deaths_change_nothing(
    redis_server: RedisTestServer, proxy: FaultProxy, start_daemon: Start, ledger: Ledger
) -> None:
    """Goal: each attempt runs once and the job dies once, whichever settlement's reply is lost."""
    daemon = start_daemon(proxy.url(redis_server.url))
    await eventually(daemon.is_ready, "ready")
    await warm_up(ledger)

    accepted = {}
    for number in range(3):
        for nth in (1, 2, 3):
            job_id = f"f{number}-{nth}"
            proxy.rst_on_reply(request=script("settle", gated=True).sha, nth=nth)
            accepted[send(redis_server, "failing", job_id)] = 0
            await proxy.was_reset.wait()
            await eventually(lambda j=job_id: j in ledger.ends(), "ended", limit_s=SOON_S)

    ledger.check(accepted)
    assert all(starts(ledger, job_id) == [(1, 1), (2, 1), (3, 1)] for job_id in accepted)
    assert redis_server.call("HGET", KEYS.stats, "retried:failing") == b"18"
    assert redis_server.call("HGET", KEYS.stats, "dead:failing") == b"9"


async def test_a_promotion_whose_reply_is_lost_moves_a_job_once(
    redis_server: RedisTestServer, proxy: FaultProxy, start_daemon: Start, ledger: Ledger
) -> None:
    daemon = start_daemon(proxy.url(redis_server.url))
    await eventually(daemon.is_ready, "ready")
    await warm_up(ledger)

    # The reply that tells of one moved job.
    proxy.rst_on_reply(b"*2\r\n:1\r\n", request=script("promote").sha)
    accepted = {send(redis_server, "flaky", "later", fails=1): 0}
    await proxy.was_reset.wait()

    await eventually(lambda: "later" in ledger.ends(), "ended", limit_s=SOON_S)
    ledger.check(accepted)
    assert starts(ledger, "later") == [(1, 1), (2, 1)]


async def test_jobs_in_a_lost_reclaim_are_taken_up_and_lose_no_more_deliveries(
    redis_server: RedisTestServer, proxy: FaultProxy, start_daemon: Start, ledger: Ledger
) -> None:
    opened = gate(ledger.path.parent)
    first = start_daemon(redis_server.url, environ=SHORT_LEASES)
    await eventually(first.is_ready, "ready")
    accepted = {send(redis_server, "slow", "orphan", gate=str(opened)): 0}
    await eventually(lambda: ledger.lines("orphan", "start"), "runs")
    first.kill9()
    opened.touch()

    proxy.rst_on_reply(b"orphan")
    second = start_daemon(proxy.url(redis_server.url), environ=SHORT_LEASES)
    await proxy.was_reset.wait()

    await eventually(lambda: "orphan" in ledger.ends(), "ended", limit_s=SOON_S)
    ledger.check(accepted, starts_over=1)
    assert starts(ledger, "orphan") == [(1, 1), (1, 2)]
    await eventually(lambda: second.metric("engine_jobs_total", outcome="lost") == 1, "counted")


async def test_a_renewal_whose_reply_is_lost_costs_no_lease(
    redis_server: RedisTestServer, proxy: FaultProxy, start_daemon: Start, ledger: Ledger
) -> None:
    daemon = start_daemon(proxy.url(redis_server.url), environ=SHORT_LEASES)
    await eventually(daemon.is_ready, "ready")
    opened = gate(ledger.path.parent)
    accepted = {send(redis_server, "slow", f"s{n}", gate=str(opened)): 0 for n in range(20)}
    await eventually(lambda: len(ledger.lines(event="start")) == 20, "jobs run")
    # It comes later, or all jobs might be its own.
    other = start_daemon(redis_server.url, environ=SHORT_LEASES)
    await eventually(other.is_ready, "ready")

    for _ in range(4):
        proxy.rst_on_reply(request=script("renew").sha)
        await proxy.was_reset.wait()
    opened.touch()

    await eventually(ledger.is_empty, "ended")
    ledger.check(accepted)
    assert daemon.metric("engine_leases_lost_total") == 0
    assert other.metric("engine_reclaimed_total") == 0


async def test_a_connection_that_hangs_is_given_up_and_made_anew(
    redis_server: RedisTestServer, proxy: FaultProxy, start_daemon: Start, ledger: Ledger
) -> None:
    """
    Goal: half-open connections end by their time limit, and nothing that was under way is lost
    or run twice.
    """
    daemon = start_daemon(proxy.url(redis_server.url))
    await eventually(daemon.is_ready, "ready")
    with Load(redis_server) as load:
        await eventually(lambda: len(load.accepted) > 100, "jobs flow")
        proxy.to_client.blackhole()
        await eventually(lambda: daemon.is_unready("(?i)timeout|in time"), "unready")
        assert daemon.errors()["timeout"] > 0
        before = proxy.accepted
        await eventually(lambda: proxy.accepted > before, "tries on")
        await proxy.heal()
        await eventually(daemon.is_ready, "ready again")
    await eventually(ledger.is_empty, "drained")

    ledger.check(load.accepted)
    assert len(daemon.log_lines()) < 100
    assert proxy.accepted < 100


async def test_a_slow_network_that_cuts_everything_up_changes_nothing(
    redis_server: RedisTestServer, proxy: FaultProxy, start_daemon: Start, ledger: Ledger
) -> None:
    daemon = start_daemon(proxy.url(redis_server.url))
    await eventually(daemon.is_ready, "ready")
    for way in (proxy.to_server, proxy.to_client):
        way.slice_bytes = 199
        way.latency_s = 0.001
    accepted = {send(redis_server, "quick", f"q{n}"): 0 for n in range(200)}
    await eventually(ledger.is_empty, "drained")

    ledger.check(accepted)


async def test_connections_that_come_and_go_cost_no_job_and_no_storm(
    redis_server: RedisTestServer, proxy: FaultProxy, start_daemon: Start, ledger: Ledger
) -> None:
    """Goal: resets at any moment, and a refusing server, with few tries to connect."""
    daemon = start_daemon(proxy.url(redis_server.url))
    await eventually(daemon.is_ready, "ready")
    with Load(redis_server) as load:
        for _ in range(20):
            before = len(load.accepted)
            await eventually(lambda b=before: len(load.accepted) > b + 20, "jobs flow")
            proxy.reset_all()
        await proxy.refuse()
        proxy.reset_all()
        await eventually(lambda: daemon.is_unready("connection"), "unready")
        await proxy.accept()
        await eventually(daemon.is_ready, "ready again")
    await eventually(ledger.is_empty, "drained")

    ledger.check(load.accepted)
    assert proxy.accepted < 400
    assert len(daemon.log_lines()) < 150


async def test_jobs_in_a_lost_reply_are_handed_back_by_an_engine_that_stops(
    redis_server: RedisTestServer, proxy: FaultProxy, start_daemon: Start, ledger: Ledger
) -> None:
    """Goal: a reply lost just before SIGTERM spends no delivery and no lease's time either."""
    daemon = start_daemon(proxy.url(redis_server.url), environ={"ENGINE_RECONNECT_MS_MAX": "1000"})
    await eventually(daemon.is_ready, "ready")
    await warm_up(ledger)
    proxy.rst_on_reply(b"victim")
    await proxy.refuse()
    accepted = {send(redis_server, "quick", "victim"): 0}
    await proxy.was_reset.wait()
    daemon.terminate()
    await proxy.accept()
    await eventually(daemon.has_ended, "ended")
    assert daemon.wait() == 0

    start_daemon(redis_server.url)
    await eventually(ledger.is_empty, "ended", limit_s=SOON_S)
    ledger.check(accepted)
    assert starts(ledger, "victim") == [(1, 1)]
