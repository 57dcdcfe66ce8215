"""Jobs committed with their cause, between a real PostgreSQL and a real Valkey."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import redis

from engine import Client, EnqueueError
from engine.testing import ManualClock
from engine.wire.keys import QueueKeys
from processors.database import outbox
from processors.database.outbox import OutboxJob
from processors.services.job_relay import JobRelay
from processors.settings import from_env
from tests.integration.processors.world import World
from tests.support.servers import PostgresTestServer, RedisTestServer

pytestmark = pytest.mark.servers


class Queues:
    """What stands in the lanes of a server."""

    def __init__(self, url: str) -> None:
        self.server: Any = redis.Redis.from_url(url)

    def jobs(self, queue: str, lane: str = "normal") -> list[dict[str, str]]:
        entries = self.server.xrange(QueueKeys(queue).lane(lane))
        return [
            {name.decode(): value.decode() for name, value in fields.items()}
            for _, fields in entries
        ]

    def numbers(self, queue: str) -> list[int]:
        return [json.loads(job["data"])["n"] for job in self.jobs(queue)]


@pytest.fixture
def queues(redis_url: str) -> Iterator[Queues]:
    found = Queues(redis_url)
    yield found
    found.server.close()


def relay_of(
    world: World, client: Client, *, clock: ManualClock | None = None, **variables: str
) -> JobRelay:
    settings = from_env({f"PROCESSORS_{name}": value for name, value in variables.items()})
    own = clock or ManualClock()
    return JobRelay(world.database, client, settings, relay=uuid4(), clock=own)


def producer(url: str, *, give_up_s: float = 0.2) -> Client:
    return Client(url, give_up_s=give_up_s, when_full="fail")


@contextlib.asynccontextmanager
async def running(*relays: JobRelay) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(relay.run()) for relay in relays]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


async def put(world: World, queue: str, count: int, *, start: int = 0, **fields: Any) -> list[str]:
    async with world.database.transaction() as connection:
        return await outbox.enqueue_many(
            connection,
            [
                OutboxJob(type="count", data={"n": number}, queue=queue, **fields)
                for number in range(start, start + count)
            ],
        )


async def left(world: World) -> int:
    return int(await world.value("SELECT count(*) FROM outbox WHERE failed_at IS NULL"))


class Settled:
    """Signals when rows have left the outbox."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from processors.database import job_outbox

        self.rows: list[int] = []
        self._changed = asyncio.Condition()
        self._settle = job_outbox.settle
        monkeypatch.setattr(job_outbox, "settle", self._settling)

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(lambda: len(self.rows) >= count)

    async def _settling(self, database: Any, **told: Any) -> None:
        await self._settle(database, **told)
        async with self._changed:
            self.rows.extend(told["sent"])
            self._changed.notify_all()


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> Settled:
    return Settled(monkeypatch)


async def test_a_job_comes_with_its_transaction_or_not_at_all(
    world: World, redis_url: str, queues: Queues
) -> None:
    async with world.database.connection() as connection:
        undone = connection.transaction()
        await undone.start()
        await outbox.enqueue(connection, "count", {"n": 1}, queue="q")
        await undone.rollback()
        job_id = await outbox.enqueue(
            connection, "count", {"n": 2}, queue="q", lane="high", ttl_ms=60_000, key="k", id="own"
        )
    async with producer(redis_url) as client:
        await relay_of(world, client).relay_batch()

    assert job_id == "own"
    assert queues.jobs("q") == []
    (job,) = queues.jobs("q", "high")
    created_ms = job.pop("expires")
    assert job == {"type": "count", "data": '{"n": 2}', "id": "own", "key": "k"}
    assert int(created_ms) > 60_000
    assert await left(world) == 0


async def test_the_wait_in_the_outbox_counts_towards_delay_and_ttl(
    world: World, redis_url: str, queues: Queues
) -> None:
    await put(world, "q", 1, delay_ms=5_000, ttl_ms=9_000)
    created_ms = await world.value(
        "UPDATE outbox SET created_at = created_at - interval '1 hour' "
        "RETURNING floor(extract(epoch FROM created_at) * 1000)::bigint"
    )
    async with producer(redis_url) as client:
        await relay_of(world, client).relay_batch()

    (job,) = queues.jobs("q")
    assert (int(job["at"]), int(job["expires"])) == (created_ms + 5_000, created_ms + 9_000)


async def test_jobs_without_an_id_get_one_each(world: World) -> None:
    ids = await put(world, "q", 50)

    assert len({*ids}) == 50
    assert await world.values("SELECT payload->>'id' FROM outbox ORDER BY id") == ids


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"queue": "a b"}, "queue 'a b'"),
        ({"type": "No"}, "job type 'No'"),
        ({"data": [1]}, "JSON object"),
        ({"data": {"long": "x" * 1_100_000}}, "1 MiB"),
        ({"lane": "fast"}, "lane 'fast'"),
        ({"id": "a b"}, "id must"),
        ({"id": "x" * 129}, "id must"),
        ({"key": ""}, "key must"),
        ({"delay_ms": -1}, "delay_ms"),
        ({"ttl_ms": 10**14}, "ttl_ms"),
    ],
)
async def test_a_job_that_breaks_a_rule_is_refused_in_the_transaction(
    world: World, change: Mapping[str, Any], told: str
) -> None:
    job = {"type": "count", "data": {}, "queue": "q"} | change
    async with world.database.connection() as connection:
        with pytest.raises(asyncpg.InvalidParameterValueError, match=told):
            await outbox.enqueue_many(connection, [OutboxJob(**job)])
    assert await left(world) == 0


async def test_order_of_a_queue_is_that_of_its_rows(
    world: World, redis_url: str, queues: Queues, settled: Settled
) -> None:
    """Goal: four relays side by side, small batches, and still each queue is in order."""
    for start in range(0, 300, 30):
        await put(world, "a", 30, start=start)
        await put(world, "b", 30, start=start)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(producer(redis_url)) for _ in range(4)]
        relays = [relay_of(world, client, OUTBOX_JOBS_MAX="14") for client in clients]
        await stack.enter_async_context(running(*relays))
        await settled.reach(600)

    assert queues.numbers("a") == queues.numbers("b") == list(range(300))
    assert len(settled.rows) == len(set(settled.rows)) == 600


async def test_row_that_commits_late_is_enqueued_too(
    world: World, redis_url: str, queues: Queues
) -> None:
    async with producer(redis_url) as client:
        relay = relay_of(world, client)
        async with world.database.connection() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await outbox.enqueue(connection, "count", {"n": 0}, queue="q")
            await put(world, "q", 1, start=1)
            assert (await relay.relay_batch()).rows() == 1
            await transaction.commit()
        assert (await relay.relay_batch()).rows() == 1
    assert queues.numbers("q") == [1, 0]


async def test_committed_job_goes_out_without_waiting_for_the_poll(
    world: World, redis_url: str, queues: Queues, settled: Settled
) -> None:
    async with producer(redis_url) as client:
        relay = relay_of(world, client, OUTBOX_JOBS_POLL_MS="3600000")
        async with running(relay):
            for number in range(3):
                await put(world, "q", 1, start=number)
                relay.wake()
                await settled.reach(number + 1)
    assert queues.numbers("q") == [0, 1, 2]


BAD_PAYLOADS = (
    "[]",
    "3",
    '"text"',
    "null",
    "{}",
    '{"id": "x", "type": "count"}',
    '{"id": "x", "type": "count", "data": 5}',
    '{"id": "x", "type": "count", "data": "{}"}',
    '{"id": "x", "type": "COUNT", "data": {}}',
    '{"id": "x", "type": "count", "data": {}, "lane": "fast"}',
    '{"id": "x", "type": "count", "data": {}, "delay": -5}',
    '{"id": "x", "type": "count", "data": {}, "delay": 1e400}',
    '{"id": "x", "type": "count", "data": {}, "delay": 99999999999999999999}',
    '{"id": "x", "type": "count", "data": {}, "ttl": true}',
    '{"id": "a b", "type": "count", "data": {}}',
    '{"id": "x", "type": "count", "data": {}, "colour": "red"}',
)


async def test_bad_rows_are_set_aside_and_hold_up_nothing(
    world: World, redis_url: str, queues: Queues
) -> None:
    for number, payload in enumerate(BAD_PAYLOADS):
        await world.database.execute(
            "INSERT INTO outbox (topic, key, payload) VALUES ('job', 'q', $1::text::jsonb)", payload
        )
        await put(world, "q", 1, start=number)
    await world.database.execute(
        "INSERT INTO outbox (topic, key, payload) VALUES ('job', 'no queue!', $1::text::jsonb)",
        '{"id": "x", "type": "count", "data": {}}',
    )
    async with producer(redis_url) as client:
        await relay_of(world, client).relay_batch()

    assert queues.numbers("q") == list(range(len(BAD_PAYLOADS)))
    assert await left(world) == 0
    told = await world.values("SELECT error FROM outbox WHERE failed_at IS NOT NULL ORDER BY id")
    assert len(told) == len(BAD_PAYLOADS) + 1
    assert all(told)


async def test_row_mended_by_hand_goes_out(world: World, redis_url: str, queues: Queues) -> None:
    await world.database.execute(
        "INSERT INTO outbox (topic, key, payload) VALUES ('job', 'q', $1)", {"id": "a"}
    )
    async with producer(redis_url) as client:
        relay = relay_of(world, client)
        await relay.relay_batch()
        await world.database.execute(
            "UPDATE outbox SET failed_at = NULL, error = NULL, payload = payload || $1",
            {"type": "count", "data": {"n": 1}},
        )
        await relay.relay_batch()
    assert queues.numbers("q") == [1]


async def test_full_queue_waits_by_itself_and_keeps_its_order(
    world: World, redis_url: str, queues: Queues
) -> None:
    queues.server.hset(QueueKeys("full").control, "jobs_max", 3)
    clock = ManualClock()
    await put(world, "full", 8)
    await put(world, "other", 8)
    async with producer(redis_url) as client:
        relay = relay_of(world, client, clock=clock)
        await relay.relay_batch()
        assert queues.numbers("full") == [0, 1, 2]
        assert queues.numbers("other") == list(range(8))

        await put(world, "other", 1, start=8)
        queues.server.hset(QueueKeys("full").control, "jobs_max", 100)
        await relay.relay_batch()
        assert queues.numbers("other") == list(range(9))
        assert queues.numbers("full") == [0, 1, 2], "it rests for a moment"

        await clock.advance(1.0)
        await relay.relay_batch()
        assert queues.numbers("full") == list(range(8))
    assert await left(world) == 0


async def test_lease_of_a_dead_relay_runs_out(world: World, redis_url: str, queues: Queues) -> None:
    """Goal: nobody overtakes a relay that holds a queue, and its jobs are not lost with it."""
    from processors.database import job_outbox

    await put(world, "q", 2)
    dead = uuid4()
    await job_outbox.claim(
        world.database, relay=dead, jobs_max=1, bytes_max=1, lease_ms=60_000, skipped=[]
    )
    async with producer(redis_url) as client:
        relay = relay_of(world, client)
        assert (await relay.relay_batch()).is_busy
        assert queues.numbers("q") == []
        await world.database.execute("UPDATE outbox_queues SET leased_until = now()")
        await relay.relay_batch()
    assert queues.numbers("q") == [0, 1]


async def test_relay_outlives_redis(
    world: World, redis_server: RedisTestServer, settled: Settled
) -> None:
    """Goal: jobs committed while Redis is gone come to their queue once it is back, in order."""
    await put(world, "q", 700)
    redis_server.kill9()
    async with producer(redis_server.url) as client:
        relay = relay_of(world, client)
        with pytest.raises(EnqueueError):
            await relay.relay_batch()
        # Given back at once, not when the lease ends.
        assert not await world.value("SELECT bool_or(leased_until > now()) FROM outbox_queues")
        relay._clock = SystemLike()
        async with running(relay):
            redis_server.start()
            await settled.reach(700)
    found = Queues(redis_server.url)
    assert found.numbers("q") == list(range(700))
    found.server.close()


class SystemLike(ManualClock):
    """A clock whose sleeps end soon, for loops that wait for a server."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))


async def test_large_payloads_go_in_parts(
    world: World, redis_url: str, queues: Queues, settled: Settled
) -> None:
    for number in range(12):
        async with world.database.transaction() as connection:
            data = {"n": number, "long": "x" * 1_000_000}
            await outbox.enqueue(connection, "count", data, queue="q")
    async with producer(redis_url) as client:
        first = await relay_of(world, client).relay_batch()
        assert first.rows() < 12
        async with running(relay_of(world, client)):
            await settled.reach(12)
    assert queues.numbers("q") == list(range(12))


async def test_crowd_of_one_queue_leaves_room_for_another(
    world: World, redis_url: str, queues: Queues
) -> None:
    await put(world, "crowd", 300)
    await put(world, "one", 1)
    async with producer(redis_url) as client:
        await relay_of(world, client, OUTBOX_JOBS_MAX="100").relay_batch()
    assert queues.numbers("one") == [0]
    assert queues.numbers("crowd") == list(range(50))


async def test_events_relay_leaves_jobs_alone(world: World) -> None:
    await put(world, "q", 1)
    assert await outbox.claim(world.database, events_max=9, claim_ms=60_000) == []


async def test_psql_commits_a_job_with_its_cause(
    world: World,
    shared_postgres: PostgresTestServer,
    postgres_url: str,
    redis_url: str,
    queues: Queues,
) -> None:
    """Goal: the example of the documentation works from a client that knows nothing of us."""
    from tests.tidy.sources import ROOT

    page = (ROOT / "processors" / "README.md").read_text()
    part = page.partition("## Jobs from a transaction")[2]
    example = part.partition("```sql\n")[2].partition("```")[0]
    assert "enqueue_job" in example
    done = await asyncio.to_thread(
        subprocess.run,
        [shared_postgres.programs / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", postgres_url],
        input=f"CREATE TABLE orders (id bigint PRIMARY KEY, state text);\n{example}",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    count = await left(world)
    async with producer(redis_url) as client:
        await relay_of(world, client).relay_batch()

    found = [job for lane in ("high", "normal") for job in queues.jobs("notification", lane)]
    assert count == len(found) > 0
    assert Counter(job["type"] for job in found) == {"notification": count}
    assert await world.value("SELECT count(*) FROM orders") == 1
