"""Limits hold over all engines, whoever dies, and nobody waits while there is room."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from engine import Job
from engine.core.limits import make_rule
from engine.wire.keys import GROUP
from tests.support.daemon import SHORT_LEASES, Start
from tests.support.engines import KEYS, Server, serving, until
from tests.support.keyed import Work, fields, nothing_left
from tests.support.ledger import Ledger
from tests.support.servers import RedisTestServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers

SMS = "provider:sms"


@pytest.fixture
async def server(redis_url: str) -> AsyncIterator[Server]:
    async with Server(redis_url) as found:
        yield found


@contextlib.asynccontextmanager
async def engines(work: Work, url: str, count: int, **settings: Any) -> AsyncIterator[list[Any]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                serving(work.registry, url, name=f"e{number}", **settings)
            )
            for number in range(count)
        ]


async def rule(server: Server, name: str, **rules: Any) -> None:
    """Set a rule as an operator does."""
    await server.call("HSET", KEYS.control, f"limit:{name}", make_rule(name, **rules).text())


async def places(server: Server, name: str) -> int:
    return int(await server.call("HGET", KEYS.limits, f"u:{name}") or 0)


class Sending(Work):
    """Handlers that ask a named limit, and a provider that answers 429 a few times."""

    refusals = 0
    refused = 0

    async def act(self, job: Job, payload: dict[str, Any]) -> None:
        await job.limit(SMS)
        if self.refused < self.refusals:
            self.refused += 1
            await job.limit(SMS, retry_after_ms=300)
        self.running["inside"] += 1
        self.most["inside"] = max(self.most["inside"], self.running["inside"])
        try:
            await asyncio.sleep(0.002)
        finally:
            self.running["inside"] -= 1


@pytest.mark.parametrize("name", ["queue", "type:work", "named"])
async def test_no_more_than_the_limit_run_at_once_over_three_engines(
    server: Server, name: str
) -> None:
    work = Work(limits=["named"])
    await rule(server, name, concurrency=4)
    await server.add_many([fields("x", n, key=None, fails=n % 10 == 0) for n in range(150)])
    async with engines(work, server.url, 3, concurrency=8):
        await server.until_ended(150)
        await nothing_left(server)

    assert work.most["all"] == 4
    assert work.count == 150


async def test_each_group_has_its_own_places(server: Server) -> None:
    work = Work()
    await rule(server, "tenant=*", concurrency=2, by="header:tenant")
    jobs = [fields(t, n, "tenant", t, key=None) for n in range(40) for t in ("a", "b", "c d")]
    await server.add_many([*jobs, *(fields("none", n, key=None) for n in range(40))])
    async with engines(work, server.url, 3, concurrency=10):
        await server.until_ended(160)
        await nothing_left(server)

    assert [work.most[tenant] for tenant in ("a", "b", "c d")] == [2, 2, 2]
    assert work.most["none"] > 2


async def test_jobs_under_a_limit_keep_their_order_by_key(server: Server) -> None:
    work = Work()
    await rule(server, "queue", concurrency=3)
    await server.add_many([fields(f"k{n % 8}", n, fails=n % 13 == 0) for n in range(160)])
    async with engines(work, server.url, 3, concurrency=8):
        await server.until_ended(160)
        await nothing_left(server)

    work.check_order([f"k{n}" for n in range(8)])
    assert work.most["all"] <= 3


async def test_a_limit_asked_in_the_handler_holds_and_ends(server: Server) -> None:
    """Goal: no more than two are past the limit; each gets there, and no attempt is spent."""
    work = Sending()
    await rule(server, SMS, concurrency=2)
    await server.add_many([fields("x", n, key=None) for n in range(40)])
    async with engines(work, server.url, 3, concurrency=6):
        await server.until_ended(40)
        await nothing_left(server)

    assert work.most["inside"] <= 2
    assert sorted(work.ends["x"]) == list(range(40))
    assert {attempt for _, attempt in work.starts["x"]} == {1}


async def test_a_rate_asked_in_the_handler_counts_each_pass_once(server: Server) -> None:
    """Goal: a job that waited for its token and got it goes through when it asks again."""
    work = Sending()
    # So slow that a token more than the burst comes by once in the test, if at all.
    await rule(server, SMS, rate=1, per_s=0.1, burst=5)
    await server.add_many([fields("x", n, key=None) for n in range(12)])
    async with engines(work, server.url, 2, concurrency=6):
        await server.until_ended(12)
        await nothing_left(server)

    assert sorted(work.ends["x"]) == list(range(12))
    # One start that met the limit, and one that went through.
    assert len(work.starts["x"]) <= 24


async def test_limits_of_the_type_hold_for_jobs_that_waited_in_the_handler(
    server: Server,
) -> None:
    work = Sending()
    await rule(server, SMS, concurrency=2)
    await rule(server, "type:work", concurrency=3)
    await server.add_many([fields("x", n, key=None) for n in range(60)])
    async with engines(work, server.url, 3, concurrency=6):
        await server.until_ended(60)
        await nothing_left(server)

    assert work.most["inside"] <= 2
    assert work.most["all"] <= 3


async def test_a_429_stops_everybody_and_spends_no_attempt(server: Server) -> None:
    work = Sending()
    work.refusals = 3
    await server.add_many([fields(f"k{n % 5}", n) for n in range(30)])
    async with engines(work, server.url, 3, concurrency=6):
        await until(lambda: work.refused)

        async def is_shut() -> bool:
            return bool(await server.call("HEXISTS", KEYS.limits, f"x:{SMS}"))

        await server.until(is_shut, "a limit that is shut")
        await server.until_ended(30)
        await nothing_left(server)

    work.check_order([f"k{n}" for n in range(5)])
    assert work.count == 30
    assert {attempt for line in work.starts for _, attempt in work.starts[line]} == {1}
    assert await server.dead() == {}


async def test_a_shut_limit_stops_those_that_are_handed_over_too(server: Server) -> None:
    """Goal: a declared limit without a rule, shut by a 429: the next of a key waits for it."""
    work = Work(limits=[SMS])
    async with engines(work, server.url, 1):
        await server.add(*fields("a", 1, waits=True))
        await until(lambda: work.running["a"])
        await server.add(*fields("a", 2))

        async def waits() -> bool:
            return bool(await server.call("ZCARD", KEYS.parked("normal")))

        await server.until(waits, "the second one to wait")
        far = (await server.call("TIME"))[0].decode() + "999000"
        await server.call("HSET", KEYS.limits, f"x:{SMS}", far)
        work.open("a", 1)
        await server.until(lambda: server.call("ZSCORE", KEYS.limits_due, SMS), "a waiting job")
        assert work.ends["a"] == [1]
        await server.call("HDEL", KEYS.limits, f"x:{SMS}")
        await server.call("ZADD", KEYS.limits_due, 0, SMS)
        await server.until_ended(2)
        await nothing_left(server)


async def test_a_rate_lets_its_burst_through_and_then_what_its_bucket_gains(
    server: Server,
) -> None:
    """Method: the server's clock when the bucket was full and when the last one took a token."""
    work = Work()
    await rule(server, "queue", rate=50, burst=10)
    await server.add_many([fields("x", n, key=None) for n in range(60)])
    before = await now_ms(server)
    async with engines(work, server.url, 3):
        await server.until_ended(60)
        _, at = (await server.call("HGET", KEYS.limits, "t:queue")).decode().split()
        await nothing_left(server)

    # Ten at once, and a fiftieth of a second for each of the others.
    assert int(at) - before >= 1000 * (60 - 10) / 50 - 20


async def now_ms(server: Server) -> int:
    seconds, micros = await server.call("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


async def test_rules_change_live(server: Server) -> None:
    """Goal: shut, narrowed, widened, removed: what waits follows within a poll."""
    work = Work()
    await rule(server, "queue", concurrency=1)
    await server.add_many([fields("x", n, key=None, waits=True) for n in range(30)])
    async with engines(work, server.url, 3, concurrency=40):
        await until(lambda: work.running["all"] == 1)
        await rule(server, "queue", concurrency=5)
        await until(lambda: work.running["all"] == 5)
        await server.call("HDEL", KEYS.control, "limit:queue")
        await until(lambda: work.running["all"] == 30)
        for number in range(30):
            work.open("x", number)
        await server.until_ended(30)
        await nothing_left(server)


async def test_places_come_back_whose_rule_went_while_they_were_held(server: Server) -> None:
    """
    Goal: jobs that were let through, or handed back, give their places back without any rule.

    Method: an engine stops while five run; the rule goes; another engine takes them up.
    """
    work = Work()
    await rule(server, "queue", concurrency=5)
    await server.add_many([fields("x", n, key=None, waits=True) for n in range(20)])
    async with engines(work, server.url, 1, concurrency=5, grace_s=0.05):
        await until(lambda: work.running["all"] == 5)
    await server.call("HDEL", KEYS.control, "limit:queue")
    for number in range(20):
        work.open("x", number)
    async with engines(work, server.url, 1, concurrency=5):
        await server.until_ended(20)
        await nothing_left(server)


async def test_shares_get_their_weight_and_nothing_is_left_idle(server: Server) -> None:
    """
    Goal: while both wait, the heavier share gets three starts for each of the other; alone, a
    share gets all.
    """
    work = Work()
    await rule(server, "queue", concurrency=1, share="header:tenant", weights={"big": 3})
    await server.add_many([fields("x", 0, "tenant", "other", key=None, waits=True)])
    async with engines(work, server.url, 2):
        await until(lambda: work.running["x"])
        jobs = [fields(t, n, "tenant", t, key=None) for t in ("small", "big") for n in range(40)]
        await server.add_many(jobs)

        async def all_wait() -> bool:
            return int(await server.call("ZCARD", KEYS.parked("normal"))) == 80

        await server.until(all_wait, "80 that wait")
        work.open("x", 0)
        await until(lambda: len(work.ends["big"]) >= 30)
        small = len(work.ends["small"])
        assert 8 <= small <= 12
        await server.until_ended(81)
        await nothing_left(server)

    assert work.most["all"] == 1


async def test_places_of_a_killed_engine_come_back(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger
) -> None:
    """
    Goal: kill -9 of an engine with all places: its jobs run again at another, and then the rest.

    Method: the engine dies in the third handler; every job goes by one limit of three places.
    """
    redis_server.call(
        "HSET", ledger.keys.control, "limit:type:quick", make_rule("queue", concurrency=3).text()
    )
    lane = ledger.keys.lane("normal")
    for number in range(20):
        redis_server.call("XADD", lane, "*", "type", "quick", "data", "{}", "id", f"j{number}")
    first = start_daemon(redis_server.url, environ={**SHORT_LEASES, "ENGINE_FAIL": "K3@3:kill"})
    await eventually(first.has_ended, "killed")
    start_daemon(redis_server.url, environ=SHORT_LEASES)
    await eventually(lambda: len(ledger.ends()) == 20, "all ended")

    def given_back() -> bool:
        return redis_server.call("HKEYS", ledger.keys.limits) in ([], [b"turn"])

    await eventually(given_back, "no places held")
    ledger.check({f"j{number}": 0 for number in range(20)}, starts_over=3)


async def test_a_place_taken_in_the_handler_comes_back_when_its_engine_is_lost(
    server: Server,
) -> None:
    """
    Goal: the job that runs again has its place still, and gives it back at its end.

    Method: a thief takes the entry of the job that is past the limit; its lease ends too.
    """
    work = Sending()
    await rule(server, SMS, concurrency=1)
    entry = await server.add(*fields("x", 1, key=None, waits=True))
    async with engines(work, server.url, 2):
        await until(lambda: work.running["x"] and not work.running["inside"])
        await server.until(partial(places, server, SMS), "a place that is taken")
        await server.call("XCLAIM", KEYS.lane("normal"), GROUP, "thief", 0, entry)
        await until(lambda: work.cancelled)
        await server.add(*fields("x", 2, key=None))
        await server.until(lambda: server.call("ZCARD", KEYS.parked("normal")), "one that waits")
        assert work.ends["x"] == []
        work.open("x", 1)
        await server.until_ended(2)
        await nothing_left(server)

    assert work.ends["x"] == [1, 2]
    assert work.most["inside"] == 1


async def test_what_limits_remember_of_groups_goes_once_it_means_nothing(server: Server) -> None:
    """Goal: buckets of groups that have come and gone do not stay for ever; the others do."""
    work = Work()
    await rule(server, "tenant=*", rate=1, per_s=0.001, burst=1, by="header:tenant")
    await rule(server, "type:work", rate=1, per_s=100_000, burst=500)
    await server.add_many([fields(f"t{n}", n, "tenant", f"t{n}", key=None) for n in range(300)])
    async with engines(work, server.url, 1):
        await server.until_ended(300)

        async def is_forgotten() -> bool:
            # Engines look at all limits whenever a rule changes.
            await rule(server, "other", concurrency=1 + await now_ms(server) % 1_000)
            return int(await server.call("HLEN", KEYS.limits)) < 10

        await server.until(is_forgotten, "groups to be forgotten")
        assert await server.call("HEXISTS", KEYS.limits, "t:type:work")
        await nothing_left(server)


async def test_many_shares_all_get_their_turn(server: Server) -> None:
    """Goal: more shares than a script looks at, and none of them starves."""
    work = Work()
    await rule(server, "queue", concurrency=2, share="header:tenant")
    names = [f"t{n:03}" for n in range(150)]
    for number in range(2):
        await server.add_many([fields(t, number, "tenant", t, key=None) for t in names])
    async with engines(work, server.url, 2):
        await until(lambda: work.count >= 225)
        served = {name for name in names if work.starts[name]}
        await server.until_ended(300)
        await nothing_left(server)

    assert len(served) == 150
    assert work.most["all"] <= 2
