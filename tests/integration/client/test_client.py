"""The producer against a real server."""

from __future__ import annotations

import asyncio
import gc
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis as redis_py

from engine import (
    Client,
    Enqueued,
    EnqueueReport,
    EnqueueStopped,
    EnqueueUnsure,
    JobRefused,
    NewJob,
    Refusal,
)
from engine.client.client import REPORT_EVERY
from engine.client.many import OUTSTANDING_MAX
from engine.clock import SystemClock
from engine.errors import EnqueueError, SettingsError
from engine.store import producer as producer_module
from engine.store.batches import (
    BATCH_BYTES_MAX,
    BATCH_JOBS_MAX,
    Batched,
    Channel,
    Outgoing,
    batched,
)
from engine.store.pressure import KnownBounds
from engine.wire.keys import QueueKeys
from tests.support.proxy import FaultProxy
from tests.support.servers import REDIS_SERVERS, RedisTestServer, StartRedis
from tests.support.waiting import eventually

QUEUES = {"noop": "noop-queue", "other": "other-queue"}
LANE = "mq:{noop-queue}:normal"


def entries(url: str, key: str = LANE) -> list[Any]:
    with redis_py.Redis.from_url(url, decode_responses=True) as client:
        found: list[Any] = client.xrange(key)
        return found


def calls(url: str, command: str) -> int:
    with redis_py.Redis.from_url(url) as client:
        stats = client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].split("/")[0])


class CountingClock(SystemClock):
    """Tells when a try has failed, which is when the next one is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.failed = asyncio.Semaphore(0)

    async def sleep(self, seconds: float) -> None:
        self.failed.release()
        await super().sleep(seconds)

    async def tries(self, count: int) -> None:
        for _ in range(count):
            await self.failed.acquire()


async def collect(
    found: AsyncIterator[Enqueued | Refusal],
    results: list[Enqueued | Refusal],
    came: asyncio.Event | None = None,
) -> None:
    async for result in found:
        results.append(result)
        if came:
            came.set()


async def test_a_job_lands_in_its_lane_with_its_fields(redis_url: str) -> None:
    async with Client(redis_url, queues=QUEUES) as client:
        job = await client.enqueue("noop", {"n": 1}, lane="high", headers={"h": "v"}, delay_ms=5)

    ((entry, fields),) = entries(redis_url, "mq:{noop-queue}:high")
    assert fields == {"type": "noop", "data": '{"n":1}', "delay": "5", "h": "v"}
    assert job == Enqueued(id=f"h-{entry}", queue="noop-queue", lane="high", entry=entry)


async def test_an_id_of_ones_own_is_the_jobs_id(redis_url: str) -> None:
    async with Client(redis_url, queues=QUEUES) as client:
        job = await client.enqueue("noop", {}, id="mine")

    assert job.id == "mine"
    assert entries(redis_url)[0][1]["id"] == "mine"


async def test_calls_of_one_loop_turn_share_one_script_call_per_queue(redis_url: str) -> None:
    async with Client(redis_url, queues=QUEUES) as client:
        # One job alone takes another script than a batch.
        await asyncio.gather(*(client.enqueue("noop", {"warm": "up"}) for _ in range(2)))
        before = calls(redis_url, "evalsha")

        jobs = await asyncio.gather(
            *(client.enqueue("noop" if n % 2 else "other", {"n": n}) for n in range(100))
        )

    assert calls(redis_url, "evalsha") - before == 2
    assert len({(job.queue, job.id) for job in jobs}) == 100
    assert [fields["data"] for _, fields in entries(redis_url)[2:]] == [
        f'{{"n":{n}}}' for n in range(1, 100, 2)
    ]


async def test_a_batch_has_at_most_so_many_jobs_and_bytes(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    batched = producer_module.batched

    def record(channel: Any, jobs: Any, known: Any) -> Any:
        made = batched(channel, jobs, known)
        seen.append((len(jobs), sum(len(part) for part in made.rest if isinstance(part, bytes))))
        return made

    monkeypatch.setattr(producer_module, "batched", record)
    async with Client(redis_url, queues=QUEUES) as client:
        await asyncio.gather(*(client.enqueue("noop", {}) for _ in range(1_201)))
        big = {"x": "y" * 300_000}
        await asyncio.gather(*(client.enqueue("noop", big) for _ in range(7)))
        await client.enqueue("noop", {"x": "y" * (BATCH_BYTES_MAX - 20)})

    assert max(jobs for jobs, _ in seen) == BATCH_JOBS_MAX
    assert all(size <= BATCH_BYTES_MAX or jobs == 1 for jobs, size in seen)
    assert sum(jobs for jobs, _ in seen) == 1_201 + 7 + 1


@pytest.mark.parametrize("name", REDIS_SERVERS)
async def test_nothing_of_a_batch_remains_when_one_lane_refuses(
    name: str, start_redis: StartRedis
) -> None:
    url = start_redis(name=name).url
    with redis_py.Redis.from_url(url) as raw:
        raw.set("mq:{noop-queue}:low", "not a stream")

    async with Client(url, queues=QUEUES) as client:
        answers = await asyncio.gather(
            client.enqueue("noop", {}),
            client.enqueue("noop", {}, lane="low"),
            return_exceptions=True,
        )

    assert [type(answer) for answer in answers] == [EnqueueError, EnqueueError]
    assert "nothing was written" in str(answers[0])
    assert "wrongtype" in str(answers[0])
    assert entries(url) == []


@pytest.mark.parametrize("name", REDIS_SERVERS)
async def test_a_job_alone_is_told_what_its_lane_says(name: str, start_redis: StartRedis) -> None:
    url = start_redis(name=name).url
    with redis_py.Redis.from_url(url) as raw:
        raw.set(LANE, "not a stream")

    async with Client(url, queues=QUEUES) as client:
        with pytest.raises(EnqueueError, match=r"nothing was written.*wrongtype"):
            await client.enqueue("noop", {})


async def test_a_batch_of_all_kinds_keeps_each_jobs_fields_and_order(redis_url: str) -> None:
    """Method: lanes, types and further fields alternate within one batch."""
    lanes, types = ("low", "high", "normal"), ("noop", "noop-two")
    jobs = [
        NewJob(
            types[n % 2],
            {"n": n},
            queue="noop-queue",
            lane=lanes[n % 3],
            headers={f"h{k}": str(n) for k in range(n % 4)},
        )
        for n in range(200)
    ]
    async with Client(redis_url) as client:
        results = [result async for result in client.enqueue_each(jobs)]

    for lane in lanes:
        wanted = [
            {"type": job.type, "data": f'{{"n":{n}}}', **(job.headers or {})}
            for n, job in enumerate(jobs)
            if job.lane == lane
        ]
        found = entries(redis_url, f"mq:{{noop-queue}}:{lane}")
        assert [fields for _, fields in found] == wanted
        told = [each.entry for each in results if isinstance(each, Enqueued) and each.lane == lane]
        assert told == [entry for entry, _ in found]


async def test_a_refused_job_is_not_sent_and_harms_no_other(redis_url: str) -> None:
    async with Client(redis_url, queues=QUEUES) as client:
        good, bad = await asyncio.gather(
            client.enqueue("noop", {}), client.enqueue("noop", {}, id="a b"), return_exceptions=True
        )

    assert isinstance(good, Enqueued)
    assert isinstance(bad, JobRefused)
    assert len(entries(redis_url)) == 1


async def test_a_cancelled_caller_harms_no_other(redis_url: str) -> None:
    async with Client(redis_url, queues=QUEUES) as client:
        tasks = [asyncio.create_task(client.enqueue("noop", {"n": n})) for n in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(answers[1], asyncio.CancelledError)
    assert isinstance(answers[0], Enqueued)
    assert isinstance(answers[2], Enqueued)


async def test_many_jobs_of_several_queues_and_lanes_are_reported(redis_url: str) -> None:
    def jobs() -> Iterator[NewJob]:
        for n in range(3_000):
            if n % 1_000 == 7:
                yield NewJob("noop", {}, id="a b")
            else:
                yield NewJob(
                    "noop" if n % 3 else "other", {"n": n}, lane="low" if n % 2 else "high"
                )

    steps: list[int] = []
    async with Client(redis_url, queues=QUEUES) as client:
        report = await client.enqueue_many(
            jobs(), on_progress=lambda so_far: steps.append(so_far.accepted + so_far.refused)
        )

    assert (report.accepted, report.refused, report.unsent, report.unsure) == (2_997, 3, 0, 0)
    assert [refusal.index for refusal in report.refusals] == [7, 1_007, 2_007]
    assert steps == [500, 1_000, 1_500, 2_000, 2_500, 3_000, 3_000]
    assert (
        sum(
            len(entries(redis_url, f"mq:{{{queue}}}:{lane}"))
            for queue in QUEUES.values()
            for lane in ("high", "low")
        )
        == 2_997
    )


async def test_results_come_in_the_order_of_the_jobs_and_without_waiting_for_later_ones(
    redis_url: str,
) -> None:
    seen_first = asyncio.Event()

    async def jobs() -> AsyncIterator[NewJob]:
        yield NewJob("noop", {}, id="first")
        # A job is sent, and told of, before the next one is there.
        await seen_first.wait()
        yield NewJob("noop", {}, id="a b")
        yield NewJob("other", {}, id="third")

    seen: list[str] = []
    async with Client(redis_url, queues=QUEUES) as client:
        async for result in client.enqueue_each(jobs()):
            seen.append(result.id if isinstance(result, Enqueued) else str(result.index))
            seen_first.set()

    assert seen == ["first", "1", "third"]


async def test_an_error_of_the_jobs_iterator_comes_after_the_results_before_it(
    redis_url: str,
) -> None:
    def jobs() -> Iterator[NewJob]:
        yield NewJob("noop", {})
        raise LookupError("the source broke")

    results: list[Enqueued | Refusal] = []
    async with Client(redis_url, queues=QUEUES) as client:
        with pytest.raises(LookupError, match="the source broke"):
            await collect(client.enqueue_each(jobs()), results)

    assert len(results) == 1
    assert len(entries(redis_url)) == 1


async def test_what_was_read_is_sent_although_nobody_waits_for_its_result(redis_url: str) -> None:
    async with Client(redis_url, queues=QUEUES) as client:
        results = client.enqueue_each(NewJob("noop", {}) for _ in range(100))
        await anext(results)
        await results.aclose()

    assert len(entries(redis_url)) == 100


async def test_who_is_cancelled_while_it_waits_for_results_takes_no_job_back(
    redis_url: str,
) -> None:
    read = 0

    def jobs() -> Iterator[NewJob]:
        nonlocal read
        for read in range(1, 1_001):  # noqa: B007 - told to the test
            yield NewJob("noop", {})

    async with (
        FaultProxy(port_of(redis_url)) as proxy,
        Client(proxy.url(redis_url), queues=QUEUES) as client,
    ):
        await client.enqueue("noop", {"warm": "up"})
        proxy.to_client.blackhole()
        sending = asyncio.create_task(client.enqueue_many(jobs()))
        await eventually(lambda: len(entries(redis_url)) > 1, "the first batch was written")
        sending.cancel()
        await asyncio.wait({sending})
        proxy.to_client.heal()

    assert sending.cancelled()
    assert len(entries(redis_url)) == 1 + read


@pytest.mark.timeout(240)
async def test_a_hundred_thousand_jobs_pass_in_bounded_memory(redis_url: str) -> None:
    """
    Goal: enqueue_many keeps no more than a bounded part of its jobs.

    Method: count the jobs read and not yet reported, and watch the process' peak memory.
    """
    read = done = ahead_max = 0

    def jobs() -> Iterator[NewJob]:
        nonlocal read, ahead_max
        for n in range(100_000):
            read += 1
            ahead_max = max(ahead_max, read - done)
            yield NewJob("noop", {"n": n, "text": "x" * 100}, key="k" if n % 10 == 0 else None)

    def progress(report: EnqueueReport) -> None:
        nonlocal done
        done = report.accepted

    async with Client(redis_url, queues=QUEUES) as client:
        await client.enqueue_many(NewJob("noop", {}) for _ in range(5_000))
        gc.collect()
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        report = await client.enqueue_many(jobs(), on_progress=progress)
        after_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert report.accepted == 100_000
    assert ahead_max <= OUTSTANDING_MAX + REPORT_EVERY + 1
    assert after_kib - before_kib < 20_000


async def test_jobs_of_one_key_keep_their_order_over_lost_replies(redis_url: str) -> None:
    async with FaultProxy(port_of(redis_url)) as proxy:
        async with Client(proxy.url(redis_url), queues=QUEUES) as client:
            await client.enqueue("noop", {"warm": "up"})
            proxy.rst_on_reply(request=b"EVALSHA", nth=2)
            await client.enqueue_many(
                NewJob("noop", {"n": n}, key="one" if n % 2 else None) for n in range(4_000)
            )
        assert proxy.was_reset.is_set()

    found = [fields for _, fields in entries(redis_url)][1:]
    keyed = [fields["data"] for fields in found if "key" in fields]
    assert keyed == [f'{{"n":{n}}}' for n in range(1, 4_000, 2)]
    assert len(found) == 4_000


@pytest.mark.parametrize("name", REDIS_SERVERS)
async def test_a_resend_after_a_lost_reply_doubles_nothing(
    name: str, start_redis: StartRedis
) -> None:
    redis_url = start_redis(name=name).url
    async with FaultProxy(port_of(redis_url)) as proxy:
        async with Client(proxy.url(redis_url), queues=QUEUES) as client:
            await client.enqueue("noop", {"n": "first"})
            proxy.rst_on_reply(request=b"EVALSHA")
            job = await client.enqueue("noop", {"n": "second"})
        assert proxy.was_reset.is_set()

    found = entries(redis_url)
    assert [fields["data"] for _, fields in found] == ['{"n":"first"}', '{"n":"second"}']
    assert job.entry == found[1][0]


async def test_the_script_is_loaded_again_after_a_flush(redis_url: str) -> None:
    async with Client(redis_url, queues=QUEUES) as client:
        for count in (1, 300):
            await client.enqueue_many(NewJob("noop", {}) for _ in range(count))
            with redis_py.Redis.from_url(redis_url) as raw:
                raw.script_flush()
        await client.enqueue("noop", {})

    assert len(entries(redis_url)) == 302


@pytest.mark.parametrize("counts", [(1, 1), (2, 1), (1, 3), (2, 2)])
async def test_a_batch_that_arrives_after_its_successor_is_refused(
    redis_url: str, counts: tuple[int, int]
) -> None:
    """A connection that was given up may still hand its bytes over later."""
    channel = Channel(QueueKeys("noop-queue"))
    known = KnownBounds("noop-queue")
    job = Outgoing("normal", [b"type", b"noop", b"data", b"{}"], False, 50)
    first, second = (batched(channel, [job] * count, known) for count in counts)
    with redis_py.Redis.from_url(redis_url) as raw:

        def send(batch: Batched) -> Any:
            return raw.eval(batch.script.text, len(batch.keys), *batch.keys, *batch.rest)

        assert send(first) == send(first)
        told = send(second)
        with pytest.raises(redis_py.ResponseError, match="STALE"):
            send(first)
        assert send(second) == told

    assert len(entries(redis_url)) == sum(counts)


async def test_a_restart_of_the_server_is_bridged(redis_server: RedisTestServer) -> None:
    async with Client(redis_server.url, queues=QUEUES) as client:
        await client.enqueue("noop", {"n": 0})
        redis_server.kill9()
        waiting = asyncio.create_task(client.enqueue("noop", {"n": 1}))
        await asyncio.to_thread(redis_server.start)
        await waiting

    assert len(entries(redis_server.url)) == 2


async def test_without_a_server_it_is_given_up_and_known_that_nothing_was_written(
    unused_port: int,
) -> None:
    url = f"redis://127.0.0.1:{unused_port}/0"
    async with Client(url, queues=QUEUES, give_up_s=0.2) as client:
        with pytest.raises(EnqueueError, match="nothing was written") as caught:
            await client.enqueue("noop", {})

    assert type(caught.value) is EnqueueError


async def test_a_silent_server_is_given_up_and_the_doubt_is_said(redis_url: str) -> None:
    async with FaultProxy(port_of(redis_url)) as proxy:
        url = proxy.url(redis_url)
        async with Client(url, queues=QUEUES, give_up_s=0.3, timeout_s=0.2) as client:
            await client.enqueue("noop", {})
            proxy.to_client.blackhole()
            with pytest.raises(EnqueueUnsure, match="accepted or not"):
                await client.enqueue("noop", {})


async def test_enqueue_many_says_what_is_known_when_the_server_is_gone(
    start_redis: StartRedis,
) -> None:
    server = start_redis()
    stop_at = 1_000
    accepted_one = asyncio.Event()

    async def jobs() -> AsyncIterator[NewJob]:
        for n in range(1_000_000):
            if n == stop_at:
                await accepted_one.wait()
                await asyncio.to_thread(server.kill9)
            yield NewJob("noop", {"n": n})

    results: list[Enqueued | Refusal] = []
    async with Client(server.url, queues=QUEUES, give_up_s=0.2) as client:
        with pytest.raises(EnqueueStopped, match="jobs were accepted") as caught:
            await collect(client.enqueue_each(jobs()), results, accepted_one)

    report = caught.value.report
    accepted = sum(isinstance(result, Enqueued) for result in results)
    assert report.accepted == accepted
    assert 0 < accepted <= stop_at
    assert report.unsent + report.unsure == len(results) - accepted > 0
    assert len(results) < stop_at + OUTSTANDING_MAX + 1_000


@pytest.mark.parametrize("name", REDIS_SERVERS)
async def test_out_of_memory_is_waited_for(name: str, start_redis: StartRedis) -> None:
    server = start_redis(name=name, config={"maxmemory": "1", "maxmemory-policy": "noeviction"})
    clock = CountingClock()
    async with Client(server.url, queues=QUEUES, clock=clock) as client:
        waiting = asyncio.create_task(client.enqueue("noop", {}))
        await clock.tries(2)
        server.call("CONFIG", "SET", "maxmemory", "0")
        await waiting

    assert len(entries(server.url)) == 1


async def test_a_wrong_password_is_said_at_once(start_redis: StartRedis) -> None:
    server = start_redis(password="right")
    url = server.url.replace("right", "wrong")
    async with Client(url, queues=QUEUES, give_up_s=60) as client:
        with pytest.raises(EnqueueError, match="nothing was written"):
            await client.enqueue("noop", {})


async def test_callers_wait_while_the_client_is_full(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer_module, "ROOM_JOBS", 10)
    async with Client(redis_url, queues=QUEUES) as client:
        jobs = [asyncio.create_task(client.enqueue("noop", {"n": n})) for n in range(95)]
        await asyncio.gather(*jobs)

    assert len(entries(redis_url)) == 95


async def test_a_closed_client_refuses(redis_url: str) -> None:
    client = Client(redis_url, queues=QUEUES)
    await client.enqueue("noop", {})
    await client.close()

    with pytest.raises(EnqueueError, match="closed"):
        await client.enqueue("noop", {})


def test_a_client_says_when_it_is_used_from_another_event_loop(redis_url: str) -> None:
    client = Client(redis_url, queues=QUEUES)
    with asyncio.Runner() as runner:
        runner.run(client.enqueue("noop", {}))
        client._producer._link.drop()

    with pytest.raises(RuntimeError, match="event loop"):
        asyncio.run(client.enqueue("noop", {}))


async def test_a_url_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(SettingsError, match="redis_url"):
        Client("http://127.0.0.1")


def test_the_client_needs_no_processors() -> None:
    code = "import sys, engine; sys.exit(any(n.split('.')[0] == 'processors' for n in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
