"""
What order by key costs: plain jobs, many keys, and one long line, in one run on one server.

    python -m benchmarks.order [--plain 50000] [--keys 100000] [--per-key 3] [--line 100000]
                               [--engines 2] [--json FILE]

A workload of 0 jobs is left out. The engines run in this process, so that order is checked
exactly: a key's jobs one at a time, each after the end of the one before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import redis

from engine import App, Job, Registry
from engine.clock import SystemClock
from engine.runtime.engine import Engine
from engine.settings import EngineSettings
from engine.store.redis import RedisStore
from engine.store.scripts import script
from engine.wire.keys import QueueKeys
from tests.support.servers import RedisTestServer

QUEUE = "bench"
KEYS = QueueKeys(QUEUE)
SLOW_US = 500
SCRIPTS = ("admit", "settle", "release", "promote", "reclaim", "recover", "limit", "trim")


class Checker:
    """
    Handlers that do nothing but hold the order against the promise.

    Attributes:
        ended: Jobs that have ended.
        wrong: Jobs that started before the one before had ended, or a second time.
    """

    def __init__(self) -> None:
        self.ended = 0
        self.wrong = 0
        self._next: dict[int, int] = {}
        self.registry = Registry()
        self.registry.job("work", queue=QUEUE)(self.work)

    async def work(self, _job: Job, payload: dict[str, int]) -> None:
        """Take one job; a plain one has no place."""
        key = payload.get("k")
        if key is not None:
            self.wrong += self._next.get(key, 0) != payload["i"]
            # Others could come in between here, were there any.
            await asyncio.sleep(0)
            self._next[key] = payload["i"] + 1
        self.ended += 1


def fill(client: Any, keys: int, per_key: int, plain: int) -> None:
    """Add jobs: of each key in turn, or plain ones."""
    pipe = client.pipeline(transaction=False)
    lane = KEYS.lane("normal")
    for number in range(plain):
        pipe.xadd(lane, {"type": "work", "data": f'{{"n":{number}}}'})
        if number % 1000 == 999:
            pipe.execute()
    for number in range(keys * per_key):
        key, place = number % keys, number // keys
        data = f'{{"k":{key},"i":{place}}}'
        pipe.xadd(lane, {"type": "work", "data": data, "key": f"key-{key}"})
        if number % 1000 == 999:
            pipe.execute()
    pipe.execute()


async def drain(url: str, engines: int, count: int, limit_s: float) -> tuple[Checker, float]:
    """Let engines take all jobs; returns what was checked, and the seconds from start to end."""
    checker = Checker()
    settings = EngineSettings(redis_url=url, http="", concurrency=100)
    running = []
    for number in range(engines):
        store = RedisStore.from_url(url, consumer=f"e{number}")
        app = App(checker.registry)
        running.append(Engine(settings, app, store, SystemClock(), name=f"e{number}"))
    tasks = [asyncio.create_task(engine.run()) for engine in running]
    begin = time.monotonic()
    while checker.ended < count and time.monotonic() - begin < limit_s:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    seconds = time.monotonic() - begin
    for engine in running:
        engine.stop()
    await asyncio.gather(*tasks)
    return checker, seconds


def names() -> dict[str, str]:
    """Name the scripts by the hash that the server logs."""
    found = {script(name).sha.decode(): name for name in SCRIPTS}
    return found | {script("settle", gated=True).sha.decode(): "settle, gated"}


def slow_calls(client: Any) -> dict[str, Any]:
    """
    Say which calls took long, by script.

    Single commands of some µs that took ms tell how often the machine took the server off its core.
    """
    known = names()
    took: dict[str, list[float]] = {}
    for row in client.slowlog_get(1_000_000):
        words = row["command"].decode(errors="replace").split()
        name = known.get(words[1], "script") if words[0] == "EVALSHA" else "single commands"
        took.setdefault(name, []).append(row["duration"] / 1e3)
    return {
        name: {
            "over 0.5 ms": len(found),
            "over 1 ms": sum(ms > 1 for ms in found),
            "over 2 ms": sum(ms > 2 for ms in found),
            "over 5 ms": sum(ms > 5 for ms in found),
            "longest ms": max(found),
        }
        for name, found in took.items()
    }


def percentiles(client: Any) -> dict[str, float]:
    """Read the distribution of script calls, as powers of two of µs."""
    reply: Any = client.execute_command("LATENCY", "HISTOGRAM", "evalsha")
    told = _pairs(_pairs(reply)["evalsha"])
    buckets = {int(us): int(count) for us, count in _pairs(told["histogram_usec"]).items()}
    calls = max(buckets.values())
    found = {"calls": float(calls)}
    for share in (0.5, 0.99, 0.999, 1.0):
        found[f"p{100 * share:g} µs"] = next(
            us for us, count in buckets.items() if count >= share * calls
        )
    return found


def _pairs(reply: Any) -> dict[str, Any]:
    """Read names and values in turn, or a dictionary, as the protocol has it."""
    told = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {n.decode() if isinstance(n, bytes) else str(n): value for n, value in told}


def server_us(client: Any) -> float:
    """Read the CPU time that the server has used, in µs."""
    cpu = client.info("cpu")
    return 1e6 * float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])


def measure(name: str, *, keys: int, per_key: int, plain: int, engines: int) -> dict[str, Any]:
    """Run one workload on a server of its own."""
    count = keys * per_key + plain
    with tempfile.TemporaryDirectory() as directory:
        server = RedisTestServer(Path(directory))
        server.start()
        try:
            calm(server.pid)
            with redis.Redis.from_url(server.url) as client:
                fill(client, keys, per_key, plain)
                client.config_set("slowlog-log-slower-than", SLOW_US)
                client.config_set("slowlog-max-len", 1_000_000)
                client.slowlog_reset()
                client.config_resetstat()
                before = server_us(client)
                checker, seconds = asyncio.run(drain(server.url, engines, count, 900))
                used = server_us(client) - before
                return {
                    "workload": name,
                    "jobs": count,
                    "ended": checker.ended,
                    "out of order": checker.wrong,
                    "jobs/s": round(checker.ended / seconds),
                    "server µs/job": round(used / max(1, checker.ended), 1),
                    "scripts": percentiles(client),
                    "slow": slow_calls(client),
                }
        finally:
            server.stop()


def calm(pid: int) -> None:
    """Let neighbours disturb the server less, where the user may."""
    try:
        os.setpriority(os.PRIO_PROCESS, pid, -15)
    except PermissionError:
        return


def main() -> None:
    """Measure, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plain", type=int, default=50_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--per-key", type=int, default=3)
    parser.add_argument("--line", type=int, default=100_000)
    parser.add_argument("--engines", type=int, default=2)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    workloads = [
        ("plain", {"keys": 0, "per_key": 0, "plain": asked.plain}),
        ("keys", {"keys": asked.keys, "per_key": asked.per_key, "plain": 0}),
        ("line", {"keys": 1, "per_key": asked.line, "plain": 0}),
    ]
    found = []
    for name, told in workloads:
        if told["keys"] * told["per_key"] + told["plain"]:
            found.append(measure(name, engines=asked.engines, **told))
            print(json.dumps(found[-1], ensure_ascii=False, indent=None), flush=True)
    for each in found[1:]:
        jobs = each["jobs/s"] / found[0]["jobs/s"]
        us = each["server µs/job"] / found[0]["server µs/job"]
        print(f"{each['workload']}: {jobs:.2f} of plain in jobs/s, {us:.1f} × its server time")
    if asked.json:
        asked.json.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
