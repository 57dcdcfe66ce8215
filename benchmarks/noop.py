"""
What a job costs that asks for nothing: one backlog of bare jobs, one engine, one fresh server.

    python -m benchmarks.noop [--jobs 60000]

Prints one line of JSON: µs of processor time per job of engine and server, jobs/s, and commands.
Run it by turns in two checkouts (``PYTHONPATH=/path/to/checkout``) to see what a change costs; on a
busy machine only the ratio of neighbouring runs means anything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import redis

from engine import App, Job, Registry
from engine.clock import SystemClock
from engine.runtime.engine import Engine
from engine.settings import EngineSettings
from engine.store.redis import RedisStore
from engine.wire.keys import QueueKeys
from tests.support.servers import RedisTestServer

QUEUE = "bench"
KEYS = QueueKeys(QUEUE)


async def drain(url: str, client: Any, jobs: int, server: psutil.Process) -> dict[str, float]:
    """Let one engine work the backlog off, and say what it cost."""
    registry, left, over = Registry(), jobs, asyncio.Event()

    @registry.job("noop", queue=QUEUE)
    async def noop(_job: Job, _payload: dict[str, Any]) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            over.set()

    store = RedisStore.from_url(url, consumer="bench")
    settings = EngineSettings(redis_url=url, http="")
    engine = Engine(settings, App(registry), store, SystemClock(), name="bench")
    before, began, served = time.process_time(), time.perf_counter(), server.cpu_times()
    running = asyncio.create_task(engine.run())
    await over.wait()
    while client.xlen(KEYS.lane("normal")):  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.01)
    after, ended, total = time.process_time(), time.perf_counter(), server.cpu_times()
    stats = client.info("commandstats")
    engine.stop()
    await running
    calls = sum(
        stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "xreadgroup")
    )
    server_s = total.user + total.system - served.user - served.system
    return {
        "engine_us": round((after - before) * 1e6 / jobs, 2),
        "server_us": round(server_s * 1e6 / jobs, 2),
        "jobs_per_s": round(jobs / (ended - began)),
        "reads_and_settlements_per_job": round(calls / jobs, 4),
    }


def main() -> None:
    """Run one backlog."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--jobs", type=int, default=60_000)
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory() as directory:
        server = RedisTestServer(Path(directory))
        server.start()
        try:
            client: Any = redis.Redis.from_url(server.url)
            pipe = client.pipeline(transaction=False)
            for number in range(jobs):
                pipe.xadd(KEYS.lane("normal"), {"type": "noop", "data": '{"a":1}'})
                if number % 1000 == 999:
                    pipe.execute()
            pipe.execute()
            client.config_resetstat()
            process = psutil.Process(client.info("server")["process_id"])
            print(json.dumps(asyncio.run(drain(server.url, client, jobs, process))))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
