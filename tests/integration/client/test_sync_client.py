"""The producer without an event loop, against a real server."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Iterator

import pytest
import redis as redis_py

from engine import Enqueued, EnqueueReport, JobRefused, NewJob, Refusal, SyncClient
from engine.client import EnqueueStopped, blocking
from engine.errors import EnqueueError
from tests.integration.client.test_client import LANE, QUEUES, entries, port_of
from tests.support.proxy import FaultProxy
from tests.support.servers import StartRedis


def test_a_job_lands_in_its_lane(redis_url: str) -> None:
    with SyncClient(redis_url, queues=QUEUES) as client:
        named = client.enqueue("noop", {"n": 1}, id="mine")
        nameless = client.enqueue("noop", {"n": 2})

    (first, second) = entries(redis_url)
    assert first[1] == {"type": "noop", "data": '{"n":1}', "id": "mine"}
    assert named == Enqueued("mine", "noop-queue", "normal", first[0])
    assert nameless.id == f"n-{second[0]}"


def test_what_breaks_a_rule_is_refused(redis_url: str) -> None:
    with SyncClient(redis_url, queues=QUEUES) as client, pytest.raises(JobRefused, match="id-name"):
        client.enqueue("noop", {}, id="a b")

    assert entries(redis_url) == []


def test_many_jobs_are_reported_in_their_order(redis_url: str) -> None:
    def jobs() -> Iterator[NewJob]:
        for n in range(2_345):
            yield NewJob("noop" if n % 2 else "other", {}, id="a b" if n == 1_200 else f"id-{n}")

    seen: list[EnqueueReport] = []
    with SyncClient(redis_url, queues=QUEUES) as client:
        results = list(client.enqueue_each(jobs()))
        report = client.enqueue_many(jobs(), on_progress=seen.append)

    ids = [each.id if isinstance(each, Enqueued) else each.index for each in results]
    assert ids == [f"id-{n}" if n != 1_200 else n for n in range(2_345)]
    assert (report.accepted, report.refused) == (2_344, 1)
    assert seen[-1].accepted == 2_344


def test_a_chunk_is_bounded_in_jobs_and_bytes(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, int]] = []
    send = blocking.SyncProducer.send

    def record(self: blocking.SyncProducer, queue: str, jobs: list[blocking.Outgoing]) -> list[str]:
        sizes.append((len(jobs), sum(job.size for job in jobs)))
        return send(self, queue, jobs)

    monkeypatch.setattr(blocking.SyncProducer, "send", record)
    with SyncClient(redis_url, queues=QUEUES) as client:
        client.enqueue_many(NewJob("noop", {}) for _ in range(1_100))
        client.enqueue_many(NewJob("noop", {"x": "y" * 400_000}) for _ in range(5))

    assert sizes[:3] == [(500, sizes[0][1]), (500, sizes[1][1]), (100, sizes[2][1])]
    assert [jobs for jobs, _ in sizes[3:]] == [2, 2, 1]


def test_nothing_but_refused_jobs_pass_in_bounded_memory(redis_url: str) -> None:
    ahead = seen = 0

    def jobs() -> Iterator[NewJob]:
        nonlocal ahead
        for n in range(5_000):
            ahead = max(ahead, n - seen)
            yield NewJob("unheard-of", {})

    with SyncClient(redis_url, queues=QUEUES) as client:
        for result in client.enqueue_each(jobs()):
            assert isinstance(result, Refusal)
            seen += 1

    assert seen == 5_000
    assert ahead <= 500


async def test_a_resend_after_a_lost_reply_doubles_nothing(redis_url: str) -> None:
    async with FaultProxy(port_of(redis_url)) as proxy:
        with SyncClient(proxy.url(redis_url), queues=QUEUES) as client:
            await asyncio.to_thread(client.enqueue, "noop", {"n": 1})
            proxy.rst_on_reply(request=b"EVALSHA")
            job = await asyncio.to_thread(client.enqueue, "noop", {"n": 2})
        assert proxy.was_reset.is_set()

    found = entries(redis_url)
    assert len(found) == 2
    assert job.entry == found[1][0]


def test_the_script_is_loaded_again_after_a_flush(redis_url: str) -> None:
    with SyncClient(redis_url, queues=QUEUES) as client, redis_py.Redis.from_url(redis_url) as raw:
        client.enqueue("noop", {})
        raw.script_flush()
        client.enqueue("noop", {})

    assert len(entries(redis_url)) == 2


def test_enqueue_many_says_what_is_known_when_the_server_is_gone(start_redis: StartRedis) -> None:
    server = start_redis()

    def jobs() -> Iterator[NewJob]:
        for n in range(10_000):
            if n == 1_200:
                server.kill9()
            yield NewJob("noop", {"n": n})

    with (
        SyncClient(server.url, queues=QUEUES, give_up_s=0.2) as client,
        pytest.raises(EnqueueStopped) as caught,
    ):
        client.enqueue_many(jobs())

    report = caught.value.report
    assert report.accepted == 1_000
    assert report.unsent + report.unsure == 500


def test_without_a_server_it_is_known_that_nothing_was_written(unused_port: int) -> None:
    with (
        SyncClient(f"redis://127.0.0.1:{unused_port}", queues=QUEUES, give_up_s=0.2) as client,
        pytest.raises(EnqueueError, match="nothing was written"),
    ):
        client.enqueue("noop", {})


def test_threads_share_a_client(redis_url: str) -> None:
    with SyncClient(redis_url, queues=QUEUES) as client:
        threads = [
            threading.Thread(
                target=lambda: client.enqueue_many(NewJob("noop", {}) for _ in range(1_000))
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(entries(redis_url)) == 4_000


def _enqueue_in_child(client: SyncClient) -> None:
    client.enqueue("noop", {"from": "child"})


def test_a_forked_child_does_not_go_on_under_its_parents_name(redis_url: str) -> None:
    """Else the server would take the child's job for the parent's, and it would be lost."""
    with SyncClient(redis_url, queues=QUEUES) as client:
        client.enqueue("noop", {"from": "parent"})
        fork = multiprocessing.get_context("fork")
        children = [fork.Process(target=_enqueue_in_child, args=(client,)) for _ in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        client.enqueue("noop", {"from": "parent"})

    assert [child.exitcode for child in children] == [0, 0]
    assert len(entries(redis_url, LANE)) == 4
