"""One job of a unique value at a time, or in a span; what is too much is a recorded end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from engine.wire.done import decode_done
from tests.support.daemon import SHORT_LEASES, Start
from tests.support.engines import KEYS, Server, serving, until
from tests.support.keyed import Work, fields, nothing_left
from tests.support.ledger import Ledger
from tests.support.servers import RedisTestServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers


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


def unique(number: int, *more: Any, value: str = "u", **task: Any) -> list[Any]:
    return fields("x", number, "unique", value, *more, key=None, **task)


async def results(server: Server) -> dict[str, Any]:
    """What is recorded of done jobs that another one stands for."""
    return {
        job_id: msgspec.json.decode(job.result)
        for job_id, job in (await server.done()).items()
        if job.result
    }


async def ids_done(server: Server) -> set[str]:
    """Ids of finished jobs, some of which may stand there twice."""
    entries = await server.call("XRANGE", KEYS.done, "-", "+")
    return {job.id for entry, found in entries for job in decode_done(entry, found)}


async def counted(server: Server, outcome: str) -> int:
    return int((await server.hash(KEYS.stats)).get(f"{outcome}:work", 0))


async def taken(server: Server) -> list[str]:
    return list(await server.hash(KEYS.unique))


async def test_a_value_is_taken_while_its_job_runs_and_free_afterwards(server: Server) -> None:
    work = Work()
    async with engines(work, server.url, 3):
        first = await server.add(*unique(1, waits=True))
        await until(lambda: work.running["x"])
        again = [await server.add(*unique(n)) for n in range(2, 8)]
        other = await server.add(*unique(8, value="other"))
        await server.until_ended(7)
        assert await results(server) == {f"n-{e}": {"duplicateOf": f"n-{first}"} for e in again}
        work.open("x", 1)
        await server.until_ended(8)
        await server.add(*unique(9))
        await server.until_ended(9)
        await nothing_left(server)

    assert sorted(work.ends["x"]) == [1, 8, 9]
    assert f"n-{other}" in await server.done()
    assert await counted(server, "duplicate") == 6
    assert await taken(server) == []


async def test_a_value_is_taken_while_its_job_waits_for_a_retry_a_key_or_a_limit(
    server: Server,
) -> None:
    work = Work()
    async with engines(work, server.url, 2):
        await server.add(*fields("a", 1, waits=True))
        await until(lambda: work.running["a"])
        second = await server.add(*fields("a", 2, "unique", "u", fails=2))

        async def waits() -> bool:
            return bool(await server.call("ZCARD", KEYS.parked("normal")))

        await server.until(waits, "one behind the key")
        work.open("a", 1)
        await until(lambda: len(work.starts["a"]) >= 2)
        third = await server.add(*unique(3))
        await server.until_ended(3)
        await nothing_left(server)

    ended = {"a": work.ends["a"], "x": work.ends["x"]}
    if ended["x"]:
        # It came after the end of the other, which takes some ms.
        assert ended == {"a": [1, 2], "x": [3]}
    else:
        assert await results(server) == {f"n-{third}": {"duplicateOf": f"n-{second}"}}


async def test_a_window_goes_on_after_the_end(server: Server) -> None:
    work = Work()
    async with engines(work, server.url, 2):
        await server.add(*unique(1, "window", "600000"))
        await server.until_ended(1)
        await server.add(*unique(2, "window", "600000"))
        await server.until_ended(2)
        # The end of the window, without waiting for it.
        by, _, since, more = (await server.hash(KEYS.unique))["uu"].split()
        await server.call("HSET", KEYS.unique, "uu", f"{by} 1 {since} {more}")
        await server.add(*unique(3, "window", "600000"))
        await server.until_ended(3)

    assert work.ends["x"] == [1, 3]


async def test_a_throttle_lets_one_through_in_its_span(server: Server) -> None:
    work = Work()
    async with engines(work, server.url, 3):
        await server.add_many([unique(n, "throttle", "600000") for n in range(1, 20)])
        await server.until_ended(19)
        by, _, since = (await server.hash(KEYS.unique))["uu"].split()
        await server.call("HSET", KEYS.unique, "uu", f"{by} 1 {since}")
        await server.add(*unique(20, "throttle", "600000"))
        await server.until_ended(20)
        await nothing_left(server)

    assert len(work.ends["x"]) == 2
    assert await counted(server, "duplicate") == 18


async def test_the_last_of_a_burst_runs_once(server: Server) -> None:
    """Goal: one run, of the last one; the others tell which job replaced them."""
    work = Work()
    async with engines(work, server.url, 3):
        entries = await server.add_many([unique(n, "debounce", "2000") for n in range(6)])
        await server.until_ended(6)
        await nothing_left(server)

    assert work.ends["x"] == [5]
    replaced = await results(server)
    assert set(replaced) == {f"n-{entry}" for entry in entries[:5]}
    assert {by["replacedBy"] for by in replaced.values()} <= {f"n-{entry}" for entry in entries}


async def test_a_burst_without_end_runs_at_its_longest_wait(server: Server) -> None:
    work = Work()
    async with engines(work, server.url, 2):
        number = 0
        while not work.count:
            number += 1
            await server.add(*unique(number, "debounce", "5000", "debounce-max", "300"))
            await asyncio.sleep(0.02)
        await nothing_left(server)

    assert 1 < number < 1_000


async def test_a_repeated_id_is_a_duplicate_and_another_body_a_conflict(server: Server) -> None:
    """Goal: recorded ends, told to who waits for a reply; the value of the first stays taken."""
    work = Work()
    reply = f"mq:{{{KEYS.queue}}}:reply:me"
    async with engines(work, server.url, 2):
        await server.add(*unique(1, "id", "same", waits=True))
        await until(lambda: work.running["x"])
        await server.add(*unique(1, "id", "same", "reply", reply, waits=True))
        await server.add(*unique(2, "id", "same", "reply", reply))
        await server.until_ended(2)
        third = await server.add(*unique(3))
        await server.until_ended(3)
        work.open("x", 1)
        await server.until_ended(4)
        await nothing_left(server)
        told = await server.call("XRANGE", reply, "-", "+")

    assert work.starts["x"] == [(1, 1)]
    assert f"n-{third}" in await ids_done(server)
    (letter,) = (record for record, _ in await server.letters())
    assert (letter.id, letter.reason) == ("same", "id-conflict")
    outcomes = [dict(zip(row[::2], row[1::2], strict=True)) for _, row in told]
    by_outcome = {row[b"outcome"]: row for row in outcomes}
    assert by_outcome[b"done"][b"result"] == b'{"duplicateOf":"same"}'
    assert by_outcome[b"dead"][b"reason"] == b"id-conflict"


@pytest.mark.parametrize(
    "place",
    [
        "K5@1",
        *(pytest.param(f"{place}@1", marks=pytest.mark.full) for place in ("K3", "K13")),
    ],
)
async def test_the_value_of_a_killed_engines_job_is_free_once_the_job_has_ended(
    redis_server: RedisTestServer, start_daemon: Start, ledger: Ledger, place: str
) -> None:
    lane = ledger.keys.lane("normal")

    def send(job_id: str) -> None:
        job = ("type", "quick", "data", "{}", "unique", "u", "id", job_id)
        redis_server.call("XADD", lane, "*", *job)

    first = start_daemon(redis_server.url, environ={**SHORT_LEASES, "ENGINE_FAIL": f"{place}:kill"})
    send("victim")
    await eventually(first.has_ended, "killed")
    send("beside")
    start_daemon(redis_server.url, environ=SHORT_LEASES)
    await eventually(lambda: len(ledger.ends()) == 2, "both ended")
    send("afterwards")
    await eventually(lambda: len(ledger.ends()) == 3, "the third too")

    assert {line.id for line in ledger.lines(event="end")} == {"victim", "afterwards"}
    assert b"uu" not in redis_server.call("HKEYS", ledger.keys.unique)
