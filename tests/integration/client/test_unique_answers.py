"""Producers learn at once what becomes of a unique value."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis as redis_py

from engine import Client, Enqueued, NewJob, SyncClient
from engine.store.batches import Channel, batched, outgoing
from engine.store.pressure import KnownBounds
from engine.wire.keys import QueueKeys
from tests.support.servers import RedisTestServer

pytestmark = pytest.mark.servers
QUEUES = {"noop": "noop-queue"}
KEYS = QueueKeys("noop-queue")


@pytest.fixture
def redis(redis_server: RedisTestServer) -> Iterator[redis_py.Redis]:
    with redis_py.Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture(params=["free", "bounded"])
def bounds(request: pytest.FixtureRequest, redis: redis_py.Redis) -> str:
    """With bounds the queue has another script for enqueuing."""
    if request.param == "bounded":
        redis.hset(KEYS.control, "jobs_max", "1000")
    return str(request.param)


async def enqueue(client: Client, **options: object) -> Enqueued:
    answer = await client.enqueue("noop", {}, **options)  # type: ignore[arg-type]
    assert isinstance(answer, Enqueued)
    return answer


@pytest.mark.usefixtures("bounds")
async def test_a_second_job_of_a_value_is_answered_and_not_added(
    redis_server: RedisTestServer, redis: redis_py.Redis
) -> None:
    async with Client(redis_server.url, queues=QUEUES) as client:
        first = await enqueue(client, unique="u")
        second = await enqueue(client, unique="u")
        named = await enqueue(client, unique="v", id="mine")
        again = await enqueue(client, unique="v", id="mine")
        other = await enqueue(client, unique="v", id="other")

    assert (first.duplicate_of, first.replaces) == ("", "")
    assert (second.id, second.duplicate_of, second.entry) == (first.id, first.id, "")
    assert named.id == again.id == "mine"
    assert again.duplicate_of == "", "its own id does not stand in its way"
    assert other.duplicate_of == "mine"
    assert redis.xlen(KEYS.lane("normal")) == 3


@pytest.mark.usefixtures("bounds")
async def test_a_debounced_job_tells_whom_it_replaces(redis_server: RedisTestServer) -> None:
    async with Client(redis_server.url, queues=QUEUES) as client:
        first = await enqueue(client, unique="u", debounce_ms=60_000)
        second = await enqueue(client, unique="u", debounce_ms=60_000)

    assert (first.replaces, second.replaces) == ("", first.id)


@pytest.mark.usefixtures("bounds")
def test_the_blocking_client_is_told_the_same(redis_server: RedisTestServer) -> None:
    client = SyncClient(redis_server.url, queues=QUEUES)
    jobs = [NewJob("noop", {}, unique="u"), NewJob("noop", {}), NewJob("noop", {}, unique="u")]
    first, plain, second = client.enqueue_each(jobs)
    client.close()

    assert isinstance(first, Enqueued)
    assert isinstance(plain, Enqueued)
    assert isinstance(second, Enqueued)
    assert plain.duplicate_of == ""
    assert second.duplicate_of == first.id


def test_a_batch_that_is_sent_again_gets_the_first_answer(
    redis: redis_py.Redis, bounds: str
) -> None:
    """
    Goal: a lost reply does not turn a new job into its own duplicate.

    Method: run the same call twice, as producers do that had no answer.
    """
    known = KnownBounds("noop-queue")
    known.note([b"jobs_max", b"1000"] if bounds == "bounded" else [], 0.0)
    fields = [b"type", b"noop", b"data", b"{}", b"unique", b"u"]
    jobs = [outgoing("normal", fields, ordered=False) for _ in range(2)]
    call = batched(Channel(KEYS), jobs, known)

    answers = [redis.eval(call.script.text, len(call.keys), *call.keys, *call.rest) for _ in "12"]

    assert answers[0] == answers[1]
    assert redis.xlen(KEYS.lane("normal")) == 1


def test_a_batch_that_fails_takes_its_claims_back(redis: redis_py.Redis) -> None:
    redis.set(KEYS.lane("low"), "not a stream")
    fields = [b"type", b"noop", b"data", b"{}", b"unique", b"u"]
    jobs = [outgoing(lane, fields, ordered=False) for lane in ("normal", "low")]
    jobs[1] = outgoing("low", [*fields[:5], b"w"], ordered=False)
    known = KnownBounds("noop-queue")
    known.note([], 0.0)
    call = batched(Channel(KEYS), jobs, known)

    with pytest.raises(redis_py.ResponseError, match="WRONGTYPE"):
        redis.eval(call.script.text, len(call.keys), *call.keys, *call.rest)

    assert redis.xlen(KEYS.lane("normal")) == 0
    assert redis.hlen(KEYS.unique) == redis.zcard(KEYS.unique_ends) == 0
