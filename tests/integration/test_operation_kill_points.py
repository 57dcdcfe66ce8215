"""
Engines are killed with SIGKILL at every step of a bulk operation; another one finishes it.

=====  =================================================
place  where
=====  =================================================
O1     the right to drive operations was taken
O2     jobs were chosen, and none of them is moved
O3     jobs were moved, and the engine does not know it
O4     jobs were taken back, and the operation goes on
O5     the operation has ended, and no audit entry says so
O6     the audit entry stands there, and the engine does not know it
=====  =================================================
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.admin import Admin
from schemas.stats import DeadFilter
from tests.support.daemon import SHORT_LEASES, Start
from tests.support.ledger import Ledger
from tests.support.ledger_app import QUEUE
from tests.support.queue_writer import QueueWriter
from tests.support.servers import RedisTestServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers

JOBS = [f"j{number}" for number in range(120)]


@pytest.fixture
def queue(redis_server: RedisTestServer) -> Iterator[QueueWriter]:
    """Give the ledger's queue, with many dead letters whose jobs would do well now."""
    writer = QueueWriter(redis_server.url, QUEUE)
    for name in JOBS:
        writer.bury(name, [b"type", b"quick", b"data", b"{}"], type="quick")
    yield writer
    writer.close()


async def start(url: str, *, rate: float = 400, canary: int = 0) -> str:
    async with Admin(url, who="ada@here") as admin:
        plan = await admin.plan_operation(QUEUE, "retry", DeadFilter(), rate=rate, canary=canary)
        return (await admin.start_operation(plan.id)).record.id


@pytest.mark.parametrize(
    "fail",
    [
        pytest.param("O1@1", marks=pytest.mark.full),
        pytest.param("O1@3", marks=pytest.mark.full),
        pytest.param("O2@1", marks=pytest.mark.full),
        pytest.param("O2@2", marks=pytest.mark.full),
        "O3@1",
        pytest.param("O3@2", marks=pytest.mark.full),
        pytest.param("O5@1", marks=pytest.mark.full),
        pytest.param("O6@1", marks=pytest.mark.full),
    ],
)
async def test_every_job_comes_back_once_wherever_an_engine_dies(
    redis_server: RedisTestServer,
    start_daemon: Start,
    ledger: Ledger,
    queue: QueueWriter,
    fail: str,
) -> None:
    name = await start(redis_server.url, canary=10)
    environ = {**SHORT_LEASES, "LEDGER_FILE": str(ledger.path)}
    first = start_daemon(redis_server.url, environ={**environ, "ENGINE_FAIL": f"{fail}:kill"})
    assert await eventually(first.has_ended, "killed")
    assert first.wait() == -9

    start_daemon(redis_server.url, environ=environ)
    await eventually(lambda: len(ledger.ends()) == len(JOBS) and not queue.dead(), "all are done")

    ledger.check(dict.fromkeys(JOBS, 0), starts_over=None)
    async with Admin(redis_server.url, who="ada@here") as admin:

        def finished() -> bool:
            record = queue.call("HGET", queue.keys.operations, name)
            return b'"state":"finished"' in record

        await eventually(finished, "the operation has finished")
        ended = await admin.operation(QUEUE, name)

        def told_of() -> bool:
            return queue.call("HGET", queue.keys.control, "operations") is None

        await eventually(told_of, "its end was recorded")
        audited = [each.what for each in await admin.audit()]
        assert audited == ["retry-end", "retry-start"]
    assert (ended.moved, ended.done, ended.died_again) == (len(JOBS), len(JOBS), 0)
    assert queue.groups() == {}


@pytest.mark.full
async def test_an_undo_is_finished_wherever_an_engine_dies(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger, queue: QueueWriter
) -> None:
    records = sorted(fields for _, fields in queue.dead())
    groups = queue.groups()
    name = await start(redis_server.url, rate=2)
    environ = {**SHORT_LEASES, "LEDGER_FILE": str(ledger.path)}
    first = start_daemon(redis_server.url, environ={**environ, "ENGINE_FAIL": "O4@1:kill"})
    await eventually(lambda: queue.call("ZCARD", queue.keys.delayed) > 5, "some are delayed")
    async with Admin(redis_server.url, who="ada@here") as admin:
        await admin.undo_operation(QUEUE, name)
    assert await eventually(first.has_ended, "killed")

    start_daemon(redis_server.url, environ=environ)

    def undone() -> bool:
        record = queue.call("HGET", queue.keys.operations, name)
        return b'"state":"undone"' in record

    await eventually(undone, "it is undone")
    started = {line.id for line in ledger.lines(event="start")}
    back = sorted(fields for _, fields in queue.dead())
    assert len(back) == len(JOBS) - len(started)
    assert all(fields in records for fields in back)
    group = "a" * 12
    assert queue.groups() == groups | {f"{group}:n": str(len(back))}
