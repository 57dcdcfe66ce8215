"""Sessions of the page on a real server."""

from __future__ import annotations

from engine.admin import Admin
from schemas.access import PageSession
from schemas.stats import DeadFilter
from tests.support.queue_writer import QueueWriter
from tests.support.servers import RedisTestServer

SESSION = PageSession(name="olga", token="0" * 32, begun_ms=1)


async def test_a_session_is_kept_until_it_is_ended_or_unused(
    redis_url: str, shared_redis: RedisTestServer
) -> None:
    async with Admin(redis_url, who="test") as admin:
        await admin.begin_session("d1", SESSION, idle_ms=1_000)
        await admin.begin_session("d2", SESSION, idle_ms=1_000)
        await admin.keep_session("d2", idle_ms=3_600_000)
        assert await admin.session("d1") == SESSION
        await admin.end_session("d1")

        assert await admin.session("d1") is None
        assert await admin.session("d2") == SESSION
        assert 1_000 < shared_redis.call("PTTL", "mq:page:session:d2") <= 3_600_000


async def test_people_log_in_and_plan_while_the_server_is_full(
    redis_url: str, queue: QueueWriter
) -> None:
    """To discard dead letters is what somebody comes for then."""
    queue.bury("d1")
    async with Admin(redis_url, who="test") as admin:
        queue.call("CONFIG", "SET", "maxmemory", "1")
        try:
            await admin.begin_session("d1", SESSION, idle_ms=60_000)
            plan = await admin.plan_operation(queue.queue, "discard", DeadFilter())

            assert (plan.count, await admin.session("d1")) == (1, SESSION)
            assert 0 < queue.call("PTTL", "mq:page:session:d1") <= 60_000
        finally:
            queue.call("CONFIG", "SET", "maxmemory", "0")


async def test_what_is_no_session_lets_nobody_in(
    redis_url: str, shared_redis: RedisTestServer
) -> None:
    shared_redis.call("SET", "mq:page:session:d1", '{"name": 3}')

    async with Admin(redis_url, who="test") as admin:
        assert await admin.session("d1") is None
