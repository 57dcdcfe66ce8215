"""Jobs that are cancelled from another process, also where somebody is killed on the way."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import msgspec
import pytest

from engine import Client, SyncClient
from engine.admin import Admin
from schemas.job import DeadRecord
from tests.support.daemon import ROOT, SHORT_LEASES, Start
from tests.support.ledger import KEYS, Ledger, gate, send
from tests.support.ledger_app import QUEUE
from tests.support.servers import RedisTestServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers


@pytest.fixture
async def admin(redis_server: RedisTestServer) -> AsyncIterator[Admin]:
    """Give an operator, far from the engines."""
    async with Admin(redis_server.url, who="ada@desk") as admin:
        yield admin


def deaths(ledger: Ledger, job_id: str) -> list[DeadRecord]:
    """Return the deaths of a job."""
    with ledger.raw() as client:
        rows = client.execute_command("XRANGE", ledger.keys.dead, "-", "+")
    found = [msgspec.json.decode(fields[1], type=DeadRecord) for _, fields in rows]
    return [record for record in found if record.id == job_id]


async def check_end(ledger: Ledger, job_id: str, *, attempts: int) -> DeadRecord:
    """Wait for the end of a cancelled job, and see that nothing is left of it."""
    (record,) = await eventually(lambda: deaths(ledger, job_id), f"the end of {job_id}")
    assert (record.reason, record.attempts) == ("cancelled", attempts)
    assert ledger.server.call("HEXISTS", KEYS.cancelled, job_id) == 0
    assert len(ledger.ends()[job_id]) == 1
    return record


def delay(server: RedisTestServer, job_id: str) -> None:
    """Add one job that is not due for an hour."""
    fields = ("type", "quick", "data", "{}", "id", job_id, "delay", 3_600_000)
    server.call("XADD", KEYS.lane("low"), "*", *fields)


async def test_running_jobs_are_cancelled_from_another_process(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger, admin: Admin
) -> None:
    """Goal: one handler ends when it is told, the other ignores it and is given up."""
    engine = start_daemon(redis_server.url, environ={"ENGINE_CANCEL_GRACE_MS": "200"})
    opened = gate(ledger.path.parent)
    for job_type in ("slow", "stubborn"):
        send(redis_server, job_type, job_type, gate=str(opened))
    await eventually(lambda: len(ledger.lines(event="start")) == 2, "both run")

    for job_type in ("slow", "stubborn"):
        order = await admin.cancel(job_type, queue=QUEUE, reason="not wanted")
        assert order.state == "active"

    for job_type in ("slow", "stubborn"):
        record = await check_end(ledger, job_type, attempts=1)
        assert record.error.message == "cancelled by ada@desk: not wanted"
    assert len(ledger.lines("slow", "cancelled")) == 1
    assert engine.metric("engine_cancelled_total", queue=QUEUE) == 2
    opened.touch()


async def test_producers_cancel_delayed_jobs(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    start_daemon(redis_server.url)
    for job_id in ("async", "sync", "bare"):
        delay(redis_server, job_id)
    await eventually(lambda: redis_server.call("ZCARD", KEYS.delayed) == 3, "delayed")

    async with Client(redis_server.url) as client:
        await client.cancel("async", queue=QUEUE, reason="withdrawn")
    with SyncClient(redis_server.url) as sync_client:
        sync_client.cancel("sync", queue=QUEUE, reason="withdrawn", who="the shop")
    redis_server.call("HSET", KEYS.cancelled, "bare", "withdrawn")

    told = [
        (await check_end(ledger, job_id, attempts=0)).error.message
        for job_id in ("async", "sync", "bare")
    ]
    assert told == [
        "cancelled by a producer: withdrawn",
        "cancelled by the shop: withdrawn",
        "cancelled: withdrawn",
    ]


@pytest.mark.parametrize("place", ["K8a@1", "K8b@1"])
async def test_an_engine_that_dies_while_it_ends_a_cancelled_job_leaves_it_to_another(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger, admin: Admin, place: str
) -> None:
    """Goal: before and after the settlement, the job has one end and never starts again."""
    environ = {**SHORT_LEASES, "ENGINE_FAIL": f"{place}:kill"}
    first = start_daemon(redis_server.url, environ=environ)
    job_id = send(redis_server, "slow", "victim", gate=str(gate(ledger.path.parent)))
    await eventually(lambda: ledger.lines(job_id, "start"), "it runs")
    await admin.cancel(job_id, queue=QUEUE)
    await eventually(first.has_ended, "killed")

    start_daemon(redis_server.url, environ=SHORT_LEASES)

    await check_end(ledger, job_id, attempts=1 if place == "K8b@1" else 0)
    assert len(ledger.lines(job_id, "start")) == 1


@pytest.mark.full
async def test_an_order_outlives_the_engine_that_never_heard_of_it(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger, admin: Admin
) -> None:
    first = start_daemon(redis_server.url, environ=SHORT_LEASES)
    job_id = send(redis_server, "slow", "victim", gate=str(gate(ledger.path.parent)))
    await eventually(lambda: ledger.lines(job_id, "start"), "it runs")
    first.signal(signal.SIGSTOP)
    await admin.cancel(job_id, queue=QUEUE)
    first.kill9()

    start_daemon(redis_server.url, environ=SHORT_LEASES)

    await check_end(ledger, job_id, attempts=0)
    assert len(ledger.lines(job_id, "start")) == 1


async def test_a_command_that_dies_half_way_is_carried_out_all_the_same(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    """Goal: the tombstone stands, the delayed job was not moved; engines fetch it themselves."""
    engine = start_daemon(redis_server.url)
    delay(redis_server, "victim")
    await eventually(lambda: redis_server.call("ZCARD", KEYS.delayed), "delayed")
    engine.signal(signal.SIGSTOP)
    command = [sys.executable, "-m", "engine", "cancel", "victim", "--queue", QUEUE]
    environ = {**os.environ, "ENGINE_REDIS_URL": redis_server.url, "ENGINE_FAIL": "C1@1:kill"}
    killed = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, env=environ, check=False, timeout=60
    )
    assert killed.returncode == -9
    assert redis_server.call("ZCARD", KEYS.delayed) == 1
    assert redis_server.call("HLEN", KEYS.cancelled) == 1

    engine.signal(signal.SIGCONT)

    await check_end(ledger, "victim", attempts=0)
    assert not ledger.lines("victim")
