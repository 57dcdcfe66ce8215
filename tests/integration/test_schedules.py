"""Real engines fire schedules: killed at random, while hours pass in seconds."""

from __future__ import annotations

import asyncio
import importlib.util
import platform
import random
from collections import Counter
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.core import schedule as rules
from engine.wire.done import decode_done
from engine.wire.keys import QueueKeys
from schemas.rules import LANES
from schemas.schedule import Schedule
from tests.support.daemon import Start
from tests.support.schedule_app import QUEUE
from tests.support.servers import RedisTestServer, StartRedis
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers

KEYS = QueueKeys(QUEUE)
APP = "tests.support.schedule_app:registry"
ENVIRON = {
    "ENGINE_HTTP": "",
    # Leases are counted by the server's clock, which runs away here.
    "ENGINE_LEASE_MS": "2000000000",
    "ENGINE_RENEW_MS": "900000000",
}
SCHEDULES: dict[str, dict[str, Any]] = {
    "tens": {"cron": "*/10 * * * *", "tz": "Europe/Berlin"},
    "night": {"cron": "30 2 * * *", "tz": "Europe/Berlin"},
    "jittered": {"cron": "7 * * * *", "tz": "Europe/Berlin", "jitter_ms": 300_000},
    "often": {"every_ms": 97_000},
}


def faketime() -> Path:
    """Find the library that fakes the time; skips the test where there is none."""
    found = importlib.util.find_spec("libfaketime")
    if found is None or found.origin is None:
        pytest.skip("libfaketime is not installed (pip install libfaketime)")
    library = Path(found.origin).parent / "vendor/libfaketime/src/libfaketime.so.1"
    if platform.machine() != "x86_64" or not library.exists():
        pytest.skip("the package libfaketime has no library for this machine")
    return library


def start_fast(
    start_redis: StartRedis, monkeypatch: pytest.MonkeyPatch, begin: str, rate: int
) -> RedisTestServer:
    """Start a server at a moment in UTC, from which on its clock runs that many times too fast."""
    library = faketime()
    with monkeypatch.context() as environ:
        environ.setenv("LD_PRELOAD", str(library))
        environ.setenv("FAKETIME", f"@{begin} x{rate}")
        environ.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        environ.setenv("TZ", "UTC")
        return start_redis()


def ms(moment: str) -> int:
    return round(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1000)


def add_all(server: RedisTestServer, begin_ms: int) -> dict[str, Schedule]:
    """Write the schedules as a person with redis-cli does, from a moment on."""
    specs = {}
    for name, times in SCHEDULES.items():
        spec = Schedule(type="cleanup", catch_up="all", **times)
        specs[name] = msgspec.structs.replace(spec, next_ms=rules.tick_after(spec, begin_ms))
        server.call("HSET", KEYS.schedules, name, msgspec.json.encode(specs[name]))
    return specs


def clock_ms(server: RedisTestServer) -> int:
    seconds, micros = server.call("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


def jobs_of(server: RedisTestServer) -> Counter[str]:
    """Count the jobs by id, wherever they are."""
    with server.client() as client:
        ids = [job.id for entry, fields in client.xrange(KEYS.done)
               for job in decode_done(entry, flat(fields))]  # fmt: skip
        for lane in LANES:
            ids += [fields[b"id"].decode() for _, fields in client.xrange(KEYS.lane(lane))]
        assert client.xlen(KEYS.dead) == 0
        assert client.zcard(KEYS.delayed) == 0
    return Counter(ids)


def flat(fields: dict[bytes, bytes]) -> list[bytes]:
    return [part for pair in fields.items() for part in pair]


def has_passed(server: RedisTestServer, end_ms: int) -> bool:
    """Tell whether all ticks up to a moment were fired."""
    with server.client() as client:
        records = client.hgetall(KEYS.schedules)
    nexts = [msgspec.json.decode(raw, type=Schedule).next_ms for raw in records.values()]
    return all(next_ms > end_ms for next_ms in nexts)


@pytest.mark.parametrize(
    ("begin", "end", "rate", "count"),
    [
        pytest.param("2026-10-25 00:20:00", "2026-10-25 01:20:00", 1_200, 3, id="autumn"),
        pytest.param(
            "2026-10-24 22:00:00", "2026-10-25 04:00:00", 600, 5, id="autumn, slower",
            marks=pytest.mark.full,
        ),
        pytest.param(
            "2026-03-28 22:00:00", "2026-03-29 04:00:00", 600, 5, id="spring",
            marks=pytest.mark.full,
        ),
    ],
)  # fmt: skip
async def test_each_tick_makes_one_job_over_a_change_of_the_clocks(
    start_redis: StartRedis,
    start_daemon: Start,
    monkeypatch: pytest.MonkeyPatch,
    begin: str,
    end: str,
    rate: int,
    count: int,
) -> None:
    """
    Goal: none missed, none doubled, by engines that are killed with SIGKILL at any moment.

    Method: hours pass in seconds. What is missed while nobody fires is caught up with, so the
    jobs must be all ticks from the beginning on; what they are is worked out apart from it.
    """
    chance = random.Random(count)
    server = start_fast(start_redis, monkeypatch, begin, rate)
    specs = add_all(server, ms(begin))
    engines = [start_daemon(server.url, app=APP, environ=ENVIRON) for _ in range(count)]
    kills = 0
    while clock_ms(server) < ms(end):
        await asyncio.sleep(chance.uniform(0.2, 0.9))
        victim = chance.choice(engines)
        victim.kill9()
        victim.start()
        kills += 1
    await eventually(lambda: has_passed(server, ms(end)), "all ticks fired")
    for engine in engines:
        engine.kill9()

    jobs = jobs_of(server)
    assert kills >= count - 1
    assert set(jobs.values()) == {1}
    for name, spec in specs.items():
        fired = sorted(int(job.partition(":")[2]) for job in jobs if job.startswith(f"{name}:"))
        assert fired == list(islice(rules.ticks(spec, ms(begin)), len(fired)))
        assert fired[-1] > ms(end) - 2 * 86_400_000
    check_night(jobs, begin)


def check_night(jobs: Counter[str], begin: str) -> None:
    """02:30 comes twice in autumn and fires the first time; in spring it is 03:00."""
    at = "2026-10-25 00:30" if "-10-" in begin else "2026-03-29 01:00"
    assert [job for job in jobs if job.startswith("night:")] == [f"night:{ms(at)}"]
    tens = {int(job.partition(":")[2]) for job in jobs if job.startswith("tens:")}
    first, last = min(tens), max(tens)
    assert tens == set(range(first, last + 1, 600_000))


@pytest.mark.parametrize(
    "place", [pytest.param("K12a", marks=pytest.mark.full), pytest.param("K12b")]
)
async def test_a_tick_is_whole_where_its_engine_dies(
    redis_server: RedisTestServer, start_daemon: Start, place: str
) -> None:
    """Goal: killed before the call the tick is fired by another; after it, it stands as it is."""
    record = {"type": "cleanup", "every_ms": 1_000, "catch_up": "all"}
    redis_server.call("HSET", KEYS.schedules, "s", msgspec.json.encode(record))
    first = start_daemon(redis_server.url, app=APP, environ={"ENGINE_FAIL": f"{place}@1:kill"})
    await eventually(first.has_ended, "killed")
    assert first.wait() == -9
    left = jobs_of(redis_server)
    assert sum(left.values()) == (1 if place == "K12b" else 0)
    begun = msgspec.json.decode(redis_server.call("HGET", KEYS.schedules, "s"), type=Schedule)

    start_daemon(redis_server.url, app=APP)
    await eventually(lambda: sum(jobs_of(redis_server).values()) >= 2, "two ticks")

    jobs = jobs_of(redis_server)
    begin_ms = begun.last_ms or begun.next_ms
    assert jobs == {f"s:{begin_ms + at * 1_000}": 1 for at in range(len(jobs))}
