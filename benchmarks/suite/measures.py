"""How each kind of workload is measured: one run, one set of figures."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.suite.bench import LIMIT_S, Bench, Figures, per_job, scene
from benchmarks.suite.catalog import Entry
from benchmarks.suite.statistics import percentile
from benchmarks.suite.workloads import Workload

SETTLE_S = 0.5
"""Time in which a worker settles what its handlers have ended."""

JOBS_MAX = 8_000_000
MICRO = 1e6


def drained(bench: Bench, entry: Entry, workload: Workload, jobs: int) -> Figures:
    """Work one backlog off."""
    with scene(bench, entry, workload) as at:
        empty = at.server.snapshot().memory
        at.fill(jobs + entry.slack_jobs)
        before = at.server.snapshot()
        request = at.request("work", jobs=jobs)
        with at.worker(request) as worker:
            found = worker.result(Path(request.out), limit_s=LIMIT_S)
            time.sleep(SETTLE_S)
            after = at.server.snapshot()
            peak = worker.peak_rss_mib()
        # The first job's end starts the clock, where it is not the first attempt that does.
        counted = jobs if workload.handler == "fail_once" else max(1, jobs - 1)
        return {
            "jobs": jobs,
            "seconds": found["at"],
            "jobs_per_s": counted / found["at"],
            "worker_us": found["cpu"] * MICRO / counted,
            "server_us": found["server_cpu"] * MICRO / counted,
            **per_job(before, after, jobs),
            "peak_rss_mib": peak,
            "queued_bytes": (before.memory - empty) / (jobs + entry.slack_jobs),
            "left_bytes": (after.memory - empty) / jobs,
            "others": others(found),
        }


def others(found: Figures) -> float:
    """Say how many cores something else kept busy meanwhile; the clock ticks coarsely."""
    rest = found["busy"] - found["cpu"] - found["server_cpu"]
    return float(max(0.0, rest / found["at"]))


def enough_jobs(bench: Bench, entry: Entry, workload: Workload) -> int:
    """Find out by a short run how many jobs a measurement takes."""
    pilot = min(entry.pilot_jobs, workload.pilot_jobs_max)
    rate = drained(bench, entry, workload, pilot)["jobs_per_s"]
    wanted = int(rate * min(bench.seconds, workload.seconds_max))
    return max(pilot, min(JOBS_MAX, wanted - wanted % 1_000))


def enqueued(bench: Bench, entry: Entry, workload: Workload) -> Figures:
    """Enqueue for some seconds, one awaited at a time and in bulk."""
    figures: Figures = {}
    for name, bulk in (("one", False), ("bulk", True)):
        with scene(bench, entry, workload) as at:
            before = at.server.snapshot()
            seconds = min(bench.seconds, workload.seconds_max)
            found = at.produce(at.request("enqueue", bulk=bulk, seconds=seconds))
            jobs = found["jobs"]
            if not jobs:
                continue
            shared = per_job(before, at.server.snapshot(), jobs)
        figures |= {
            f"{name}_per_s": jobs / found["at"],
            f"{name}_client_us": found["cpu"] * MICRO / jobs,
            f"{name}_server_us": found["server_cpu"] * MICRO / jobs,
            f"{name}_commands": shared["commands"],
        }
    return figures


def answered(bench: Bench, entry: Entry, workload: Workload, *, rate: float) -> Figures:
    """Enqueue at a rate to an idle worker; half of what it can do is sent by bare commands."""
    seconds = min(bench.seconds, workload.seconds_max)
    jobs = max(100, int(rate * seconds))
    with scene(bench, entry, workload) as at:
        request = at.request("work", jobs=jobs)
        with at.worker(request) as worker:
            paced = at.produce(
                at.request("pace", jobs=jobs, rate=rate, bare=not workload.rate),
                cores=bench.cores.server,
            )
            found = worker.result(Path(request.out), limit_s=LIMIT_S)
            peak = worker.peak_rss_mib()
        late = sorted(nanoseconds / 1e6 for nanoseconds in found["latencies"])
        return {
            "jobs": jobs,
            "rate": rate,
            "p50_ms": percentile(late, 0.5),
            "p99_ms": percentile(late, 0.99),
            "p999_ms": percentile(late, 0.999),
            "max_ms": late[-1],
            "producer_late_ms": paced["late_ms"],
            "others": others(found),
            "worker_us": found["cpu"] * MICRO / jobs,
            "server_us": found["server_cpu"] * MICRO / jobs,
            "peak_rss_mib": peak,
        }
