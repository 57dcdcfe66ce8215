"""Many delayed jobs that fall due at one instant, and fresh ones that come meanwhile."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.scaling.rig import (
    BLOCK,
    KEYS,
    Raw,
    Watched,
    command,
    engine,
    fill,
    job,
    percentile,
    rates,
    server,
)
from engine.store.scripts import script
from engine.wire.codec import META
from engine.wire.packing import pack
from schemas.job import Meta

SETTLE_S = 6.0
FILLED_PER_S = 100_000
"""How long the engine may take to start before the storm, and the filling of the delayed set."""


class Fresh(threading.Thread):
    """
    Adds jobs at a steady rate, each with the moment of its XADD.

    Args:
        url: The server.
        lane: The lane's key.
        per_s: Jobs per second.
    """

    def __init__(self, url: str, lane: str, per_s: int) -> None:
        super().__init__(daemon=True)
        self._url, self._lane, self._per_s = url, lane, per_s
        self.over = threading.Event()

    def run(self) -> None:
        raw, due = Raw(self._url), time.monotonic()
        while not self.over.wait(max(0.0, due - time.monotonic())):
            raw.send(job("fresh", self._lane, at=time.monotonic_ns()))
            raw.replies(1)
            due += 1 / self._per_s
        raw.close()


def delayed(count: int, due_ms: int) -> Iterator[tuple[bytes, int]]:
    """Write jobs as a settlement puts them into the delayed set, all due at one instant."""
    data = msgspec.json.encode({"pad": "x" * 190})
    lane = KEYS.lane("normal").rpartition(":")[2].encode()
    for begin in range(0, count, BLOCK):
        parts: list[bytes | int] = []
        end = min(count, begin + BLOCK)
        for number in range(begin, end):
            meta = Meta(
                id=f"n-{due_ms - 60_000}-{number}", enqueued_ms=due_ms - 60_000, why="delay"
            )
            fields = [b"type", b"noop", b"data", data, META, msgspec.json.encode(meta)]
            parts += [due_ms, pack([lane, *fields])]
        yield command(b"ZADD", KEYS.delayed, *parts), 1


def measure(count: int, *, per_s: int, lane: str) -> dict[str, Any]:
    """Let so many jobs fall due at once, with fresh ones in a lane beside them."""
    with server() as backend, tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "seen.json"
        due_ms = round(time.time() * 1000 + 1000 * (SETTLE_S + count / FILLED_PER_S))
        fill(backend.url, delayed(count, due_ms))
        with engine(backend.url, app="probe", out=out) as running:
            watched = Watched(backend, running)
            fresh = Fresh(backend.url, KEYS.lane(lane), per_s)
            fresh.start()
            watched.until_done(per_s, "fresh")
            watched.client.config_set("slowlog-max-len", 1_000_000)
            watched.client.config_set("slowlog-log-slower-than", 500)
            watched.client.config_resetstat()
            ahead_s = due_ms / 1000 - time.time()
            assert ahead_s > 0, "filling took too long"
            time.sleep(ahead_s)
            began, before = time.monotonic_ns(), watched.read()
            promoted = until_promoted(watched)
            watched.until_done(count, limit_s=120)
            after = watched.read()
            ended = time.monotonic_ns()
            fresh.over.set()
            fresh.join()
            slow = slowest(watched)
        seen = json.loads(out.read_text())
    starts = [us for at, us in seen["starts"] if began <= at <= ended]
    lags = [us for at, us in seen["lags"] if began <= at <= ended]
    return {
        "due at once": count,
        "fresh in": lane,
        "promoted s": round(promoted - began / 1e9, 1),
        "done s": round((ended - began) / 1e9, 1),
        **rates(before, after),
        "loop lag p99 ms": round(percentile(lags, 0.99) / 1e3, 1),
        "fresh p50 ms": round(percentile(starts, 0.5) / 1e3, 1),
        "fresh p99 ms": round(percentile(starts, 0.99) / 1e3, 1),
        "fresh max ms": round(max(starts, default=0) / 1e3, 1),
        **slow,
    }


def until_promoted(watched: Watched) -> float:
    """Wait until the delayed set is empty; returns the moment."""
    while watched.client.zcard(KEYS.delayed):
        time.sleep(0.01)
    return time.monotonic()


def slowest(watched: Watched) -> dict[str, float]:
    """How long calls of scripts took: all of them, and the longest of the promoter."""
    promote = script("promote").sha
    rows: Any = watched.client.slowlog_get(1_000_000)
    told = [(str(row["command"]), row["duration"] / 1e3) for row in rows]
    steps = [ms for text, ms in told if promote.decode() in text]
    others = [ms for text, ms in told if promote.decode() not in text]
    return {
        "promote p50 ms": round(percentile(steps, 0.5), 1),
        "promote max ms": round(max(steps, default=0.0), 1),
        "other calls max ms": round(max(others, default=0.0), 1),
    }
