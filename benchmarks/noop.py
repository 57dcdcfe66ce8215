"""
What a job costs that asks for nothing: one backlog of bare jobs, one engine, one fresh server.

    python -m benchmarks.noop [--jobs 60000] [--commands]

Prints one line of JSON: µs of processor time per job of engine (the median over stretches of 10,000
jobs) and server, jobs/s, and commands. With ``--commands`` it also prints where the server's time
went. Run it by turns in two checkouts (``PYTHONPATH=/path/to/checkout``) to see what a change
costs; on a busy machine only the ratio of neighbouring runs means anything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from itertools import pairwise
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
STRETCH = 10_000
PAYLOAD = json.dumps({"text": "x" * 189})
KEYS = QueueKeys(QUEUE)


async def drain(url: str, client: Any, jobs: int, server: psutil.Process) -> dict[str, float]:
    """Let one engine work the backlog off, and say what it cost."""
    registry, left, over = Registry(), jobs, asyncio.Event()
    stretches: list[float] = []

    @registry.job("noop", queue=QUEUE)
    async def noop(_job: Job, _payload: dict[str, Any]) -> None:
        nonlocal left
        if left % STRETCH == 0:
            stretches.append(time.process_time())
        left -= 1
        if left == 0:
            over.set()

    store = RedisStore.from_url(url, consumer="bench")
    settings = EngineSettings(redis_url=url, http="")
    engine = Engine(settings, App(registry), store, SystemClock(), name="bench")
    began, served = time.perf_counter(), server.cpu_times()
    running = asyncio.create_task(engine.run())
    await over.wait()
    while client.xlen(KEYS.lane("normal")):  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.01)
    stretches.append(time.process_time())
    ended, total = time.perf_counter(), server.cpu_times()
    stats = client.info("commandstats")
    engine.stop()
    await running
    calls = sum(
        stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "xreadgroup")
    )
    times = [after - before for before, after in pairwise(stretches)]
    server_s = total.user + total.system - served.user - served.system
    return {
        "engine_us": round(statistics.median(times) * 1e6 / STRETCH, 2),
        "server_us": round(server_s * 1e6 / jobs, 2),
        "jobs_per_s": round(jobs / (ended - began)),
        "reads_and_settlements_per_job": round(calls / jobs, 4),
    }


def print_commands(stats: dict[str, dict[str, float]], jobs: int) -> None:
    """Print where the server's time went; that of scripts holds that of what they call."""
    rows = sorted(stats.items(), key=lambda row: -row[1]["usec"])
    print(f"{'command':<16}{'calls/job':>10}{'µs/job':>8}")
    for name, row in rows[:12]:
        short = name.removeprefix("cmdstat_")
        print(f"{short:<16}{row['calls'] / jobs:>10.4f}{row['usec'] / jobs:>8.2f}")


def main() -> None:
    """Run one backlog."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--jobs", type=int, default=60_000, help="a multiple of 10,000")
    parser.add_argument("--commands", action="store_true", help="server time by command")
    options = parser.parse_args()
    jobs = options.jobs
    if jobs < STRETCH or jobs % STRETCH:
        parser.error(f"--jobs: {jobs} is no multiple of {STRETCH}")
    with tempfile.TemporaryDirectory() as directory:
        server = RedisTestServer(Path(directory))
        server.start()
        try:
            client: Any = redis.Redis.from_url(server.url)
            pipe = client.pipeline(transaction=False)
            for number in range(jobs):
                pipe.xadd(KEYS.lane("normal"), {"type": "noop", "data": PAYLOAD})
                if number % 1000 == 999:
                    pipe.execute()
            pipe.execute()
            client.config_resetstat()
            process = psutil.Process(client.info("server")["process_id"])
            print(json.dumps(asyncio.run(drain(server.url, client, jobs, process))))
            if options.commands:
                print_commands(client.info("commandstats"), jobs)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
