"""What one engine process needs, what two of them reach, and what a durable server costs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from benchmarks.scaling.rig import Engine, Watched, engine, fill, job, over, rates, same, server

REST_S = 3.0
WARM_JOBS = 20_000


def memory(jobs: int) -> list[dict[str, Any]]:
    """Measure an engine at rest and at full load, and what a waiting job takes."""
    with server() as backend:
        with backend.client() as client:
            empty: Any = client.info("memory")
            fill(backend.url, same(job(), jobs))
            full: Any = client.info("memory")
            client.flushall()
        with engine(backend.url) as running:
            time.sleep(REST_S)
            idle = running.rss()
            fill(backend.url, same(job(), jobs))
            Watched(backend, running).until_done(jobs)
            peak = _peak(running)
    entry = len(b"typenoopdata") + 200
    return [
        {
            "idle MB": round(idle / 1e6, 1),
            "peak MB": round(peak / 1e6, 1),
            "grown MB": round((peak - idle) / 1e6, 1),
            "queued B/job": round((full["used_memory"] - empty["used_memory"]) / jobs),
            "field B/job": entry,
            "jobs": jobs,
        }
    ]


def _peak(running: Engine) -> int:
    """Read the most that one engine ever had resident."""
    told = Path(f"/proc/{running.processes()[0].pid}/status").read_text()
    return next(1024 * int(line.split()[1]) for line in told.splitlines() if "VmHWM" in line)


def cores(handler_us: list[int], secs: float) -> list[dict[str, Any]]:
    """
    Work off handlers of so many µs of CPU by one process and by two.

    One process has a core of its own. Two share what there is with the server where the machine has
    two cores alone; what they could reach at most then follows from CPU per job.
    """
    found = []
    for us in handler_us:
        one, two = (_spinning(us, secs, processes=number) for number in (1, 2))
        count = min(3, os.cpu_count() or 1)
        possible = count * 1e6 / (two["engine µs/job"] + two["server µs/job"])
        found.append(
            {
                "handler µs": us,
                "one process jobs/s": one["jobs/s"],
                "two jobs/s": two["jobs/s"],
                "ratio": round(two["jobs/s"] / one["jobs/s"], 2),
                "possible": round(min(2.0, possible / one["jobs/s"]), 2),
                "engine µs/job": two["engine µs/job"],
                "server µs/job": two["server µs/job"],
                "server's ceiling jobs/s": round(1e6 / two["server µs/job"]),
            }
        )
    return found


def _spinning(us: int, secs: float, *, processes: int) -> dict[str, float]:
    all_cores = set(range(os.cpu_count() or 1))
    free = all_cores - {0} if len(all_cores) > processes else all_cores
    with server() as backend:
        fill(backend.url, same(job("spin", us=us), round(2e6 * processes * (secs + 3) / (us + 10))))
        words = ["--processes", str(processes)]
        with engine(backend.url, arguments=words, cores={1} if processes == 1 else free) as running:
            watched = Watched(backend, running)
            while len(running.processes()) < processes or watched.engines() < processes:
                time.sleep(0.05)
            before, after = over(watched, secs, "spin")
            return rates(before, after)


def aof(secs: float) -> list[dict[str, Any]]:
    """Work off no-op jobs without an append-only file, and with one that is synced every second."""
    found: list[dict[str, Any]] = []
    for durable in (False, True):
        with server(aof=durable) as backend:
            fill(backend.url, same(job(), round(90_000 * (secs + 2))))
            with engine(backend.url) as running:
                watched = Watched(backend, running)
                watched.until_done(WARM_JOBS)
                size = watched.aof_bytes()
                before, after = over(watched, secs)
                written = (watched.aof_bytes() - size) / max(1, after.done - before.done)
        told = {"append-only file": "everysec" if durable else "none", **rates(before, after)}
        found.append(told | {"written B/job": round(written)})
        found[-1]["ratio"] = round(told["jobs/s"] / found[0]["jobs/s"], 2)
    return found
