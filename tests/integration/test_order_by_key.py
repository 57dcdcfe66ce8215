"""Jobs of one key and lane run one at a time, in the order of their XADD, whatever happens."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from engine.wire.keys import GROUP
from schemas.rules import LANES
from tests.support.engines import KEYS, QUEUE, Server, serving, until
from tests.support.keyed import Work, fields, nothing_left
from tests.support.proxy import FaultProxy

pytestmark = pytest.mark.servers


@pytest.fixture
async def server(redis_url: str) -> AsyncIterator[Server]:
    async with Server(redis_url) as found:
        yield found


async def parked(server: Server, lane: str = "normal") -> int:
    return int(await server.call("ZCARD", KEYS.parked(lane)))


async def until_parked(server: Server, count: int) -> None:
    async def are() -> bool:
        return await parked(server) == count

    await server.until(are, f"{count} that wait behind their keys")


@contextlib.asynccontextmanager
async def engines(work: Work, url: str, count: int, **settings: Any) -> AsyncIterator[list[Any]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                serving(work.registry, url, name=f"e{number}", **settings)
            )
            for number in range(count)
        ]


@pytest.mark.parametrize("seed", [1, 2])
async def test_keys_of_random_jobs_run_in_order_over_three_engines(
    server: Server, seed: int
) -> None:
    """
    Goal: order and one at a time hold with retries, plain jobs between, and lanes that share keys.

    Method: 3 engines, 25 keys in two lanes, 500 jobs of which a tenth fails once or twice; half
    of them are there before the engines, the others come while they work.
    """
    chance, work = random.Random(seed), Work(seed)
    counts: dict[str, int] = {}
    jobs: dict[str, list[list[Any]]] = {"normal": [], "low": []}
    for _ in range(500):
        lane = chance.choice(list(jobs))
        key = f"key{chance.randrange(25)}"
        keyed = chance.random() < 0.9
        line = f"{lane}.{key}" if keyed else "plain"
        number = counts[line] = counts.get(line, 0) + 1
        fails = chance.choice([1, 2]) if chance.random() < 0.1 else 0
        jobs[lane].append(fields(line, number, key=key if keyed else None, fails=fails))
    for lane, added in jobs.items():
        await server.add_many(added[: len(added) // 2], lane)
    async with engines(work, server.url, 3, concurrency=8):
        for lane, added in jobs.items():
            await server.add_many(added[len(added) // 2 :], lane)
        await server.until_ended(500)
        await nothing_left(server)

    work.check_order([line for line in counts if line != "plain"])
    assert {line: len(ends) for line, ends in work.ends.items()} == counts
    assert len(await server.done()) == 500


async def test_the_next_of_a_key_waits_for_a_retry(server: Server) -> None:
    work = Work()
    await server.add_many([fields("a", 1, fails=2), *(fields("a", n) for n in range(2, 5))])
    await server.add(*fields("b", 1, waits=True))
    async with engines(work, server.url, 2):
        await server.until_ended(4)
        work.open("b", 1)
        await server.until_ended(5)
        await nothing_left(server)

    assert work.starts["a"] == [(1, 1), (1, 2), (1, 3), (2, 1), (3, 1), (4, 1)]
    assert work.most["a"] == 1


async def test_lanes_with_the_same_key_do_not_wait_for_each_other(server: Server) -> None:
    work = Work()
    async with engines(work, server.url, 1):
        for lane in LANES:
            await server.add(*fields(lane, 1, key="same", waits=True), lane=lane)
            await server.add(*fields(lane, 2, key="same"), lane=lane)
        await until(lambda: all(work.running[lane] for lane in LANES))
        for lane in LANES:
            work.open(lane, 1)
        await server.until_ended(8)
        await nothing_left(server)

    work.check_order(LANES)


async def test_those_behind_a_dead_job_go_on(server: Server) -> None:
    work = Work()
    await server.add_many([fields("a", 1, "attempts", "1", fails=9), fields("a", 2)])
    async with engines(work, server.url, 2):
        await server.until_ended(2)
        await nothing_left(server)

    assert work.starts["a"] == [(1, 1), (2, 1)]
    (dead,) = (await server.dead()).values()
    assert dead.reason == "exhausted"


async def test_a_dead_job_blocks_its_key_where_the_queue_says_so(server: Server) -> None:
    """Goal: nobody passes it, whenever they came; another key goes on; the rule can be changed."""
    work = Work()
    await server.call("HSET", KEYS.control, "on_dead", "block")
    await server.add_many([fields("a", 1, "attempts", "1", fails=9), fields("a", 2)])
    async with engines(work, server.url, 2):
        await server.until_ended(1)
        await server.add(*fields("a", 3))
        await until_parked(server, 2)
        await server.add(*fields("b", 1))
        await server.until_ended(2)
        assert work.starts["a"] == [(1, 1)]

        await server.call("HSET", KEYS.control, "on_dead", "continue")
        await server.add(*fields("a", 4))
        await server.until_ended(5)
        await nothing_left(server)

    work.check_order("ab")
    assert work.ends["a"] == [2, 3, 4]


async def test_a_line_that_is_full_buries_what_comes_after(server: Server) -> None:
    work = Work()
    async with engines(work, server.url, 1, line_jobs_max=2):
        await server.add(*fields("a", 1, waits=True))
        await until(lambda: work.running["a"])
        for number in range(2, 6):
            await server.add(*fields("a", number))
        await server.until_ended(2)
        work.open("a", 1)
        await server.until_ended(5)
        await nothing_left(server)

    assert work.ends["a"] == [1, 2, 3]
    assert {dead.reason for dead in (await server.dead()).values()} == {"line-full"}


@pytest.mark.parametrize("broken", [("delay", "soon"), ("key", "again"), ("ttl", "1")])
@pytest.mark.parametrize("place", [1, 2])
async def test_a_job_that_cannot_be_run_does_not_stop_its_key(
    server: Server, broken: tuple[str, str], place: int
) -> None:
    """Goal: malformed or too late, at the head of its key or behind it."""
    work = Work()
    jobs = [fields("a", number) for number in range(1, 5)]
    jobs[0] = fields("a", 1, waits=True)
    jobs.insert(place - 1, fields("a", 9, *broken))
    if place == 1:
        work.open("a", 1)
    await server.add_many(jobs)
    async with engines(work, server.url, 1):
        if place == 2:
            await until(lambda: work.running["a"])
            await until_parked(server, 4)
            work.open("a", 1)
        await server.until_ended(5)
        await nothing_left(server)

    assert work.ends["a"] == [1, 2, 3, 4]


async def test_a_job_with_a_delay_takes_its_place_once_its_time_has_come(server: Server) -> None:
    work = Work()
    await server.add_many([fields("a", 3, "delay", "300"), fields("a", 1), fields("a", 2)])
    async with engines(work, server.url, 2):
        await server.until_ended(3)
        await nothing_left(server)

    assert work.ends["a"] == [1, 2, 3]


async def test_a_delay_counts_for_a_job_that_waits_behind_its_key(server: Server) -> None:
    """
    Goal: its turn comes before its time; it gives the turn away, and runs when it is due.

    Method: its unique value makes the engine ask for it together with the next one of its key.
    """
    work = Work()
    async with engines(work, server.url, 1):
        await server.add(*fields("a", 1, waits=True))
        await until(lambda: work.running["a"])
        await server.add_many([fields("a", 3, "delay", "1500", "unique", "u"), fields("a", 2)])
        await until_parked(server, 2)
        work.open("a", 1)
        await server.until_ended(3)
        await nothing_left(server)

    assert work.ends["a"] == [1, 2, 3]


async def test_a_lost_lease_keeps_the_key_until_its_job_has_run_again(server: Server) -> None:
    """
    Goal: the next of the key starts neither when the lease is lost nor while nobody runs its job.

    Method: a thief takes the head's entry; the engine cancels the handler; later the thief's lease
    ends too, and an engine takes the job up again.
    """
    work = Work()
    entry = await server.add(*fields("a", 1, waits=True))
    await server.add(*fields("a", 2))
    async with engines(work, server.url, 2):
        await until(lambda: work.running["a"])
        await until_parked(server, 1)
        lane = KEYS.lane("normal")
        await server.call("XCLAIM", lane, GROUP, "thief", 0, entry)
        await until(lambda: work.cancelled)
        work.open("a", 1)
        await server.until_ended(2)
        await nothing_left(server)

    assert work.starts["a"] == [(1, 1), (1, 1), (2, 1)]
    assert work.most["a"] == 1
    assert {job.id for job in (await server.done()).values()} >= {f"n-{entry}"}


async def test_a_pause_and_a_held_type_keep_the_order(server: Server) -> None:
    work = Work()
    async with engines(work, server.url, 2) as running:
        await server.add(*fields("a", 1, waits=True))
        await until(lambda: work.running["a"])
        await server.call("HSET", KEYS.control, "paused", "1")
        runners = [each.engine.runners[QUEUE] for each in running]
        await until(lambda: not any(runner.workers.open for runner in runners))
        await server.add_many([fields("a", number) for number in range(2, 6)])
        work.open("a", 1)
        await server.until_ended(1)
        await server.call("HSET", KEYS.control, "hold:work", "{}")
        await server.call("HDEL", KEYS.control, "paused")

        async def is_held() -> bool:
            return bool(await server.call("XLEN", KEYS.held("work")))

        await server.until(is_held, "a held job")
        await server.add_many([fields("a", number) for number in range(6, 9)])
        await server.call("HDEL", KEYS.control, "hold:work")
        await server.until_ended(8)
        await nothing_left(server)

    work.check_order("a")
    assert work.ends["a"] == list(range(1, 9))


async def test_engines_that_stop_hand_their_keys_over(server: Server) -> None:
    """Goal: three engines, stopped one after the other under load; no attempt is spent."""
    work = Work()
    jobs = [fields(f"k{n % 12}", n) for n in range(300)]
    await server.add_many(jobs)
    async with engines(work, server.url, 3, concurrency=6, grace_s=0.05) as running:
        for count, engine in zip((40, 100, 160), running, strict=True):
            await until(partial(work.has_done, count))
            assert await engine.stop() == 0
    async with engines(work, server.url, 1):
        await server.until_ended(300)
        await nothing_left(server)

    lines = [f"k{n}" for n in range(12)]
    work.check_order(lines)
    assert {attempt for line in lines for _, attempt in work.starts[line]} == {1}
    assert len(await server.done()) == 300


@pytest.mark.parametrize("verb", ["admit", "settle"])
async def test_a_lost_reply_changes_neither_the_order_nor_the_turn(
    server: Server, verb: str, redis_port: int
) -> None:
    """Method: the proxy cuts replies of the script in the middle, again and again."""
    work = Work()
    async with (
        FaultProxy(redis_port) as proxy,
        engines(work, proxy.url(server.url), 2, concurrency=4),
    ):
        for step in range(4):
            proxy.rst_on_reply(request=SIGNS[verb], nth=2)
            await server.add_many([fields(f"k{n % 3}", 100 * step + n) for n in range(24)])
            await server.until_ended(24 * (step + 1))
        assert proxy.was_reset.is_set()
        await nothing_left(server)

    work.check_order(["k0", "k1", "k2"])
    assert len(await server.done()) == 96


SIGNS = {"admit": b":busy", "settle": b":dead:groups"}
"""What only requests of the script contain."""


@pytest.fixture
def redis_port(redis_url: str) -> int:
    return int(redis_url.rpartition(":")[2].partition("/")[0])


async def test_a_flushed_queue_is_served_again(server: Server) -> None:
    """Goal: engines that read what gates let through find these streams again, or none."""
    work = Work(0)
    async with engines(work, server.url, 1):
        await server.add(*fields("a", 1, key="a"))
        await server.until_ended(1)
        await server.call("FLUSHALL")

        await server.add(*fields("plain", 1, key=None))
        await server.add(*fields("a", 1, key="a"))
        await server.until_ended(2)


async def test_parked_jobs_run_though_the_mark_of_gates_was_deleted(server: Server) -> None:
    work = Work(0)
    async with engines(work, server.url, 1):
        await server.call("HSET", KEYS.control, "paused", "1")
    await server.add_many([fields("a", number, key="a") for number in (1, 2, 3)])
    async with engines(work, server.url, 1, concurrency=1):
        await server.call("HDEL", KEYS.control, "paused")
        await server.until_ended(1)
    await server.call("DEL", KEYS.control)

    async with engines(work, server.url, 1):
        await server.until_ended(3)
