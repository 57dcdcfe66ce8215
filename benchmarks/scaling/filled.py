"""A queue as a bad day fills it: jobs that wait, run, are done or dead, and engines."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator

import msgspec

from benchmarks.scaling.app import QUEUE
from benchmarks.scaling.dead import GROUPS, letters
from benchmarks.scaling.rig import BLOCK, KEYS, command, fill
from engine.wire.codec import META, encode_meta
from engine.wire.done import encode_done
from engine.wire.keys import ENGINES, GROUP
from engine.wire.packing import pack
from schemas.job import Meta
from schemas.rules import LANES
from schemas.stats import Beat, QueueLoad
from tests.support.servers import RedisTestServer

Blocks = Iterator[tuple[bytes, int]]

TYPES = ("noop", "spin", "rare")
SHARES = {"critical": 1, "high": 4, "normal": 70, "low": 25}
"""Lanes of a hundred jobs."""

PER_LANE = [lane for lane, share in SHARES.items() for _ in range(share)]
NEEDLE = "needle-in-the-last-job"
DONE_BATCH = 50


def fill_all(
    server: RedisTestServer, *, waiting: int, dead: int, engines: int, others: int
) -> None:
    """
    Fill a server that nobody serves yet.

    Args:
        server: The server.
        waiting: Jobs that wait, over all lanes; the last one carries :data:`NEEDLE`.
        dead: Dead letters, in 40 groups.
        engines: Engines that beat.
        others: Jobs that are delayed, that many more that are done, and a tenth that are active.
    """
    url = server.url
    server.call("HSET", KEYS.control, "paused", "1")
    for lane in LANES:
        server.call("XGROUP", "CREATE", KEYS.lane(lane), GROUP, "0", "MKSTREAM")
    fill(url, waiting_jobs(waiting))
    server.call(
        *("XREADGROUP", "GROUP", GROUP, "eng-0-ab", "COUNT", max(1, others // 10)),
        *("STREAMS", KEYS.lane("normal"), ">"),
    )
    fill(url, delayed_jobs(others))
    fill(url, done_jobs(others))
    fill(url, letters(dead))
    _count(server, dead=dead, done=others)
    for number in range(engines):
        server.call("HSET", ENGINES, f"eng-{number}", beat(number))


def waiting_jobs(count: int) -> Blocks:
    """Write jobs of three types with ids of their own, over all lanes."""
    pad = "x" * 150
    for begin in range(0, count, BLOCK):
        parts = []
        for number in range(begin, min(count, begin + BLOCK)):
            lane = "low" if number == count - 1 else PER_LANE[number % 100]
            kind = TYPES[2] if number % 5_000 == 0 else TYPES[number % 2]
            said = NEEDLE if number == count - 1 else "hello"
            data = f'{{"to":"user-{number}","say":"{said}","pad":"{pad}"}}'
            parts.append(
                command(
                    *("XADD", KEYS.lane(lane), "*", "type", kind, "data", data),
                    *("id", f"job-{number}"),
                )
            )
        yield b"".join(parts), len(parts)


def delayed_jobs(count: int) -> Blocks:
    """Write jobs that are due in an hour and later."""
    now_ms = int(time.time() * 1000)
    for begin in range(0, count, BLOCK):
        parts = []
        for number in range(begin, min(count, begin + BLOCK)):
            meta = encode_meta(Meta(id=f"later-{number}", enqueued_ms=now_ms, why="delay"))
            own = [b"type", b"noop", b"data", b'{"n":1}', b"id", b"later-%d" % number, META, meta]
            member = pack([b"normal", *own])
            parts.append(command("ZADD", KEYS.delayed, now_ms + 3_600_000 + number, member))
        yield b"".join(parts), len(parts)


def done_jobs(count: int) -> Blocks:
    """Write finished jobs, fifty in each entry as a busy engine does."""
    parts = []
    for begin in range(0, count, DONE_BATCH):
        ids = [b"done-%d" % number for number in range(begin, min(count, begin + DONE_BATCH))]
        fields = encode_done("noop", "normal", "eng-0", ids, array("I", [1_500] * len(ids)), None)
        parts.append(command("XADD", KEYS.done, "*", *fields))
    yield b"".join(parts), len(parts)


def beat(number: int) -> bytes:
    """Write a sign of life that lies ahead, so that its engine stays live."""
    now_ms = int(time.time() * 1000)
    load = QueueLoad(running=number % 64, buffered=0, concurrency=64, types=list(TYPES))
    return msgspec.json.encode(
        Beat(
            name=f"eng-{number}",
            host=f"10.4.2.{number}",
            pid=number + 1,
            version="1.4.0",
            state="running",
            http=f"10.4.2.{number}:8787",
            started_ms=now_ms,
            beat_ms=now_ms + 86_400_000,
            loop_lag_ms=2.0,
            rss_bytes=90_000_000,
            queues={QUEUE: load},
        )
    )


def _count(server: RedisTestServer, *, dead: int, done: int) -> None:
    """Write the counters that settlements would have left."""
    now_ms = int(time.time() * 1000)
    groups: list[str | int | bytes] = []
    for number in range(min(GROUPS, dead)):
        name = f"{number:012x}"
        sample = {
            "id": f"n-{now_ms}-{number}",
            "type": f"type-{number % 4}",
            "reason": "exhausted",
            "kind": "ConnectionError",
            "message": "the provider answered 503 to delivery 17",
        }
        groups += [f"{name}:n", len(range(number, dead, GROUPS)), f"{name}:first", now_ms]
        groups += [f"{name}:last", now_ms, f"{name}:sample", msgspec.json.encode(sample)]
    if groups:
        server.call("HSET", KEYS.dead_groups, *groups)
    server.call("HSET", KEYS.stats, "done:noop", done, "done_kept", done, "dead:noop", dead)
