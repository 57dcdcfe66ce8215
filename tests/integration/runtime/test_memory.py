"""The daemon's memory: small when idle, flat under load."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from engine.wire.keys import QueueKeys
from tests.support.daemon import Start
from tests.support.engines import Server
from tests.support.probe_app import QUEUE
from tests.support.waiting import eventually

APP = "tests.support.probe_app:build"
MB = 1_000_000
CHUNK = 10_000


def test_a_daemon_imports_nothing_that_only_others_use() -> None:
    # Without the extra `otel`: where that is installed, redis-py imports it, and psutil with it.
    told = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "import engine.cli.serve, engine.runtime, engine.cli.side; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, check=True, timeout=60
    )

    tops = {name.partition(".")[0] for name in done.stdout.split()}
    assert not tops & {"rich", "pygments", "structlog", "pebble", "asyncpg", "psutil", "processors"}
    assert not {"engine.embedded", "engine.testing"} & set(done.stdout.split())


@pytest.mark.parametrize(
    "jobs", [200_000, pytest.param(1_000_000, marks=[pytest.mark.full, pytest.mark.timeout(600)])]
)
async def test_memory_is_small_when_idle_and_flat_under_load(
    start_daemon: Start, redis_url: str, jobs: int
) -> None:
    environ = {"ENGINE_DONE_JOBS_MAX": "10000"}
    daemon = start_daemon(redis_url, app=APP, environ=environ)
    await eventually(daemon.is_ready, "the engine is ready")
    process = psutil.Process(daemon.pid)
    # 58 MB where it was measured; other interpreters need a little more.
    assert process.memory_info().rss < 65 * MB

    keys = QueueKeys(QUEUE)
    job = ("type", "quiet", "data", "{}")
    sizes = []
    async with Server(redis_url, keys) as server:

        async def caught_up() -> bool:
            return bool(await server.call("XLEN", keys.lane("normal")) < 2 * CHUNK)

        for sent in range(0, jobs, CHUNK):
            await server.add_many([job] * CHUNK)
            await server.until(caught_up, "the engine to catch up")
            if sent >= 50_000:
                sizes.append(process.memory_info().rss)

        async def all_done() -> bool:
            counted = await server.call("HGET", keys.stats, "done:quiet")
            return int(counted or 0) == jobs

        await server.until(all_done, "the end of all jobs")
        assert await server.call("XLEN", keys.lane("normal")) == 0
    # Once it is warm, the rest of the jobs leaves nothing behind.
    assert max(sizes[len(sizes) // 2 :]) - max(sizes[: len(sizes) // 2]) < 8 * MB
    assert process.memory_info().rss < 150 * MB
