"""Producers before a full queue: they wait, fail or shed; real server, real engines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis as redis_py

from engine import (
    Client,
    Enqueued,
    EnqueueStopped,
    Job,
    JobRefused,
    NewJob,
    QueueFull,
    Refusal,
    Registry,
    SettingsError,
    Shed,
    SyncClient,
)
from engine.client.full import choices
from engine.clock import SystemClock
from engine.wire.keys import QueueKeys
from tests.integration.client.test_client import QUEUES, CountingClock, calls, entries, port_of
from tests.support.engines import serving
from tests.support.proxy import FaultProxy
from tests.support.servers import RedisTestServer, StartRedis
from tests.support.waiting import eventually

KEYS = QueueKeys("noop-queue")
LANE = KEYS.lane("normal")

pytestmark = pytest.mark.servers


class MovedClock(SystemClock):
    """A clock that moves only when told."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1.0
        self.monotonic = lambda: self.now_s


@pytest.fixture
def raw(redis_url: str) -> Iterator[Any]:
    with redis_py.Redis.from_url(redis_url) as client:
        yield client


def bound(raw: Any, jobs: int, filled: int = 0) -> None:
    raw.hset(KEYS.control, "jobs_max", jobs)
    for n in range(filled):
        raw.xadd(LANE, {"type": "noop", "data": "{}", "before": n})


def data(url: str) -> list[str]:
    return [fields["data"] for _, fields in entries(url) if "before" not in fields]


async def test_fail_says_at_once_how_full_the_queue_is(redis_url: str, raw: Any) -> None:
    bound(raw, 3, filled=2)
    async with Client(redis_url, queues=QUEUES, when_full="fail") as client:
        await client.enqueue("noop", {"n": 1})
        with pytest.raises(
            QueueFull, match=r"noop-queue is full, 3 of 3 jobs.*engine bounds"
        ) as no:
            await client.enqueue("noop", {"n": 2})

    assert (no.value.queue, no.value.jobs, no.value.jobs_max) == ("noop-queue", 3, 3)
    assert data(redis_url) == ['{"n":1}']


def test_fail_without_an_event_loop(redis_url: str, raw: Any) -> None:
    bound(raw, 3, filled=3)
    with SyncClient(redis_url, queues=QUEUES, when_full="fail") as client:
        with pytest.raises(QueueFull, match="3 of 3 jobs"):
            client.enqueue("noop", {})
        report = client.enqueue_many(NewJob("noop", {}) for _ in range(4))

    assert (report.accepted, report.full) == (0, 4)
    assert data(redis_url) == []


async def test_shed_drops_the_lower_lanes_first_and_says_so(redis_url: str, raw: Any) -> None:
    bound(raw, 100, filled=92)
    wish = {"critical": "wait", "high": "shed", "normal": "shed", "low": "shed"}
    async with Client(redis_url, queues=QUEUES, when_full=wish) as client:
        found = [await client.enqueue("noop", {}, lane=lane) for lane in wish]
        many = [NewJob("noop", {}, lane=lane) for lane in wish for _ in range(5)]
        report = await client.enqueue_many(many)

    assert [type(each) for each in found] == [Enqueued, Enqueued, Shed, Shed]
    assert isinstance(found[3], Shed)
    assert "94 of 100 jobs, and lane low is shed from 80 %" in found[3].why
    assert (report.accepted, report.shed, report.full) == (5, 15, 0)


def test_shed_without_an_event_loop(redis_url: str, raw: Any) -> None:
    bound(raw, 10, filled=8)
    with SyncClient(redis_url, queues=QUEUES) as client:
        found = client.enqueue("noop", {}, lane="low", id="mine", when_full="shed")
        report = client.enqueue_many(
            NewJob("noop", {}, lane=lane, when_full="shed") for lane in ("low", "normal")
        )

    assert isinstance(found, Shed)
    assert (found.id, found.queue, found.lane) == ("mine", "noop-queue", "low")
    assert (report.accepted, report.shed) == (1, 1)


async def test_who_waits_goes_on_by_itself_once_there_is_room(redis_url: str, raw: Any) -> None:
    bound(raw, 3, filled=3)
    clock = CountingClock()
    async with Client(redis_url, queues=QUEUES, clock=clock) as client:
        waiting = [asyncio.create_task(client.enqueue("noop", {"n": n})) for n in range(2)]
        await clock.tries(2)
        assert not any(task.done() for task in waiting)
        raw.xtrim(LANE, maxlen=0)
        assert all(isinstance(job, Enqueued) for job in await asyncio.gather(*waiting))

    assert data(redis_url) == ['{"n":0}', '{"n":1}']


async def test_jobs_of_one_call_go_different_ways_before_a_full_queue(
    redis_url: str, raw: Any
) -> None:
    """Method: jobs that wait, fail and are shed travel together; each is told of in its place."""
    bound(raw, 2, filled=2)
    clock = CountingClock()
    wishes = ["wait", "fail", "shed"] * 100
    jobs = [NewJob("noop", {"n": n}, when_full=wish) for n, wish in enumerate(wishes)]

    async def send() -> list[Enqueued | Refusal | Shed]:
        return [result async for result in client.enqueue_each(jobs)]

    async with Client(redis_url, queues=QUEUES, clock=clock) as client:
        first = asyncio.create_task(send())
        await clock.tries(2)
        # A second call meets the line of the first.
        second = asyncio.create_task(send())
        await clock.tries(2)
        raw.hdel(KEYS.control, "jobs_max")
        for results in await asyncio.gather(first, second):
            kinds = [type(each).__name__ for each in results]
            assert kinds == ["Enqueued", "Refusal", "Shed"] * 100

    waited = [f'{{"n":{n}}}' for n in range(0, 300, 3)]
    assert sorted(data(redis_url)) == sorted(waited + waited)


async def test_nobody_stands_behind_those_who_wait(redis_url: str, raw: Any) -> None:
    bound(raw, 3, filled=3)
    async with Client(redis_url, queues=QUEUES) as client:
        waiting = [asyncio.create_task(client.enqueue("noop", {"n": n})) for n in range(2_000)]
        with pytest.raises(QueueFull):
            await client.enqueue("noop", {}, when_full="fail")
        assert isinstance(await client.enqueue("noop", {}, when_full="shed"), Shed)
        assert isinstance(await client.enqueue("other", {}), Enqueued)
        with pytest.raises(QueueFull):
            await client.enqueue("noop", {}, key="k", when_full="fail")
        keyed = asyncio.create_task(client.enqueue("noop", {"n": "keyed"}, key="k"))
        raw.hdel(KEYS.control, "jobs_max")
        await asyncio.gather(*waiting, keyed)

    assert len(data(redis_url)) == 2_001


async def test_waiting_is_given_up_in_the_end(redis_url: str, raw: Any) -> None:
    bound(raw, 3, filled=3)
    async with Client(redis_url, queues=QUEUES, give_up_s=0.1) as client:
        with pytest.raises(QueueFull, match="still full, 3 of 3 jobs") as caught:
            await client.enqueue("noop", {})
        with pytest.raises(EnqueueStopped, match="7 found their queue full"):
            await client.enqueue_many(NewJob("noop", {}) for _ in range(7))

    assert caught.value.waited
    assert data(redis_url) == []


def test_waiting_is_given_up_without_an_event_loop(redis_url: str, raw: Any) -> None:
    bound(raw, 3, filled=2)
    with SyncClient(redis_url, queues=QUEUES, give_up_s=0.1) as client:
        with pytest.raises(EnqueueStopped) as stopped:
            client.enqueue_many(NewJob("noop", {}) for _ in range(7))
        with pytest.raises(QueueFull, match="still full"):
            client.enqueue("noop", {})

    assert (stopped.value.report.accepted, stopped.value.report.full) == (1, 6)


async def test_jobs_of_a_key_keep_their_order_before_a_full_queue(redis_url: str, raw: Any) -> None:
    """Method: another reader takes a few at a time, which makes room now and then."""
    bound(raw, 5)
    taken: list[str] = []

    async def drain() -> None:
        while len(taken) < 60:
            found = await asyncio.to_thread(raw.xrange, LANE, count=3)
            for entry, fields in found:
                taken.append(fields[b"data"].decode())
                raw.xdel(LANE, entry)

    async with Client(redis_url, queues=QUEUES) as client:
        jobs = (NewJob("noop", {"n": n}, key="k") for n in range(60))
        report, _ = await asyncio.gather(client.enqueue_many(jobs), drain())

    assert report.accepted == 60
    assert taken == [f'{{"n":{n}}}' for n in range(60)]


async def test_engines_drain_and_all_who_wait_go_on(redis_url: str, raw: Any) -> None:
    """
    Goal: many producers of both kinds before a small queue: all jobs run once, none is refused,
    and the queue never holds more than it may.
    """
    bound(raw, 20)
    seen: list[int] = []
    most = 0
    registry = Registry()

    @registry.job("noop", queue="noop-queue")
    async def noop(job: Job, payload: dict[str, int]) -> None:
        nonlocal most
        seen.append(payload["n"])
        most = max(most, sum(raw.xlen(key) for key in KEYS.lanes.values()))

    def jobs(first: int) -> Iterator[NewJob]:
        return (NewJob("noop", {"n": first + n}) for n in range(100))

    def without_a_loop(first: int) -> int:
        with SyncClient(redis_url, registry=registry, give_up_s=30) as client:
            return client.enqueue_many(jobs(first)).accepted

    async with serving(registry, redis_url):
        async with Client(redis_url, registry=registry, give_up_s=30) as client:
            accepted = await asyncio.gather(
                client.enqueue_many(jobs(0)),
                client.enqueue_many(jobs(100)),
                asyncio.to_thread(without_a_loop, 200),
                asyncio.to_thread(without_a_loop, 300),
            )
        await eventually(lambda: len(seen) == 400, "all ran")

    assert [each if isinstance(each, int) else each.accepted for each in accepted] == [100] * 4
    assert sorted(seen) == list(range(400))
    assert most <= 20


async def test_producers_together_keep_to_the_bound(redis_url: str, raw: Any) -> None:
    bound(raw, 50)

    def produce(accepted: list[int]) -> None:
        with SyncClient(redis_url, queues=QUEUES, when_full="fail") as client:
            accepted.append(client.enqueue_many(NewJob("noop", {}) for _ in range(40)).accepted)

    accepted: list[int] = []
    threads = [threading.Thread(target=produce, args=(accepted,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)

    assert sum(accepted) == len(entries(redis_url)) == 50


async def test_a_bound_set_live_is_met_by_clients_that_run(redis_url: str, raw: Any) -> None:
    clock = MovedClock()
    async with Client(redis_url, queues=QUEUES, clock=clock, when_full="fail") as client:
        before = calls(redis_url, "hgetall")
        for n in range(20):
            await client.enqueue("noop", {"n": n})
        # One look at the start; without bounds the plain script goes on serving.
        assert calls(redis_url, "hgetall") - before == 1
        bound(raw, 20)
        clock.now_s += 1.1
        # The next one looks beside its own batch, which passes.
        await client.enqueue("noop", {})
        await asyncio.wait(client._producer._tasks)
        with pytest.raises(QueueFull):
            await client.enqueue("noop", {})


async def test_who_may_not_look_at_bounds_may_enqueue(start_redis: StartRedis) -> None:
    server = start_redis()
    server.call("ACL", "SETUSER", "default", "-hgetall")
    async with Client(server.url, queues=QUEUES) as client:
        await client.enqueue("noop", {})
    with SyncClient(server.url, queues=QUEUES) as sync:
        sync.enqueue("noop", {})

    assert len(entries(server.url)) == 2


@pytest.mark.parametrize("is_sync", [False, True])
async def test_a_lost_reply_before_a_full_queue_doubles_and_loses_nothing(
    redis_url: str, raw: Any, *, is_sync: bool
) -> None:
    """Goal: the answer of the batch is that of its first time, though the queue is full by then."""
    bound(raw, 2)
    async with FaultProxy(port_of(redis_url)) as proxy:
        proxy.rst_on_reply(request=b"EVALSHA", nth=2)
        if is_sync:
            with SyncClient(proxy.url(redis_url), queues=QUEUES, when_full="fail") as sync:
                found = [await asyncio.to_thread(sync.enqueue, "noop", {"n": n}) for n in range(2)]
        else:
            async with Client(proxy.url(redis_url), queues=QUEUES, when_full="fail") as client:
                found = [await client.enqueue("noop", {"n": n}) for n in range(2)]
        assert proxy.was_reset.is_set()

    assert data(redis_url) == ['{"n":0}', '{"n":1}']
    assert [job.entry for job in found] == [entry for entry, _ in entries(redis_url)]  # type: ignore[union-attr]


async def test_a_server_that_dies_between_append_and_answer_doubles_and_loses_nothing(
    redis_server: RedisTestServer,
) -> None:
    """
    Method: answers are held back, the batch is appended, the server is killed and started again;
    the client sends the batch once more to a queue that its own jobs have filled.
    """
    with redis_server.client() as raw:
        bound(raw, 4)
    async with FaultProxy(port_of(redis_server.url)) as proxy:
        url = proxy.url(redis_server.url)
        async with Client(url, queues=QUEUES, give_up_s=60, when_full="fail") as client:
            await client.enqueue("noop", {"n": 0})
            proxy.to_client.blackhole()
            waiting = [asyncio.create_task(client.enqueue("noop", {"n": n})) for n in range(1, 5)]
            await eventually(lambda: redis_server.call("XLEN", LANE) == 4, "appended")
            redis_server.kill9()
            proxy.reset_all()
            proxy.to_client.heal()
            await asyncio.to_thread(redis_server.start)
            found = await asyncio.gather(*waiting, return_exceptions=True)

    kinds = [type(each) for each in found]
    assert kinds == [Enqueued] * 3 + [QueueFull]
    assert data(redis_server.url) == [f'{{"n":{n}}}' for n in range(4)]


async def test_many_read_on_where_jobs_fail_for_a_full_queue(redis_url: str, raw: Any) -> None:
    bound(raw, 5)

    async def jobs() -> AsyncIterator[NewJob]:
        for n in range(12):
            yield NewJob("noop", {"n": n}, when_full="fail" if n % 2 else "shed")

    async with Client(redis_url, queues=QUEUES) as client:
        results = [result async for result in client.enqueue_each(jobs())]
        report = await client.enqueue_many([NewJob("noop", {}, when_full="fail")] * 3)

    assert [type(each) for each in results[:4]] == [Enqueued] * 4
    assert all(
        isinstance(each.error, QueueFull) for each in results[5:] if isinstance(each, Refusal)
    )
    assert sum(isinstance(each, Enqueued) for each in results) == 5
    assert (report.accepted, report.full, len(report.refusals)) == (0, 3, 3)


def test_wishes_are_checked() -> None:
    assert choices({"low": "shed"}) == {
        "critical": "wait",
        "high": "wait",
        "normal": "wait",
        "low": "shed",
    }
    with pytest.raises(SettingsError, match="none of wait, fail, shed"):
        Client("redis://localhost", when_full="drop")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="lowest"):
        SyncClient("redis://localhost", when_full={"lowest": "shed"})
    with (
        SyncClient("redis://localhost", queues=QUEUES) as client,
        pytest.raises(JobRefused, match="when-full"),
    ):
        client.enqueue("noop", {}, when_full="drop")
