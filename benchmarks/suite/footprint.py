"""What only our own engine is asked: memory at rest and at work, and more than one process."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.suite.bench import LIMIT_S, Bench, Figures, Scene, scene
from benchmarks.suite.catalog import Entry
from benchmarks.suite.processes import Child, MeasurementFailed
from benchmarks.suite.workloads import Workload
from benchmarks.systems.recorder import burn, own_cpu
from benchmarks.systems.request import Request
from engine.wire.keys import ENGINES

LOADED_JOBS = 500_000
QUEUED_JOBS = 50_000
REST_S = 3.0
"""Time in which a started engine comes to rest."""

BURN_S = 20e-6
MICRO = 1e6
MOST = 0.9
"""The share of the jobs that is counted: at the end, one process may have run out of them."""

CALIBRATION_LOOPS = 2_000_000
BURN_JOBS_PER_S = 25_000
"""What one process does of such jobs, roughly; it decides how many there are."""


def memory(bench: Bench, entry: Entry, workload: Workload) -> Figures:
    """Measure the engine at rest and at full load, and a waiting job beside its bare entry."""
    with scene(bench, entry, workload) as at:
        request = at.request("work", jobs=LOADED_JOBS)
        with at.worker(request) as worker:
            worker.wait_for(lambda: at.server.has(ENGINES), limit_s=LIMIT_S)
            time.sleep(REST_S)
            idle = worker.rss_mib()
            at.fill(LOADED_JOBS)
            worker.result(Path(request.out), limit_s=LIMIT_S)
            peak = worker.peak_rss_mib()
    queued, bare = (_queued(bench, entry, workload, bare=bare) for bare in (False, True))
    return {
        "jobs": LOADED_JOBS,
        "idle_rss_mib": idle,
        "loaded_rss_mib": peak,
        "grown_rss_mib": peak - idle,
        "queued_bytes": queued,
        "bare_bytes": bare,
        "queued_to_bare": queued / bare,
    }


def _queued(bench: Bench, entry: Entry, workload: Workload, *, bare: bool) -> float:
    with scene(bench, entry, workload) as at:
        empty = at.server.snapshot().memory
        at.produce(at.request("fill", jobs=QUEUED_JOBS, bare=bare))
        return (at.server.snapshot().memory - empty) / QUEUED_JOBS


def processes(bench: Bench, entry: Entry, workload: Workload) -> Figures:
    """Work off jobs that use the processor, by one process and by two."""
    loops = _loops()
    one, two = (_burned(bench, entry, workload, loops, processes=number) for number in (1, 2))
    both = two["worker_us"] + two["server_us"]
    taken = bench.cores.server | _cores(bench, processes=2)
    return {
        "jobs_per_s": two["jobs_per_s"],
        "one_per_s": one["jobs_per_s"],
        "speedup": two["jobs_per_s"] / one["jobs_per_s"],
        "worker_us": two["worker_us"],
        "one_worker_us": one["worker_us"],
        "server_us": two["server_us"],
        "server_ceiling_per_s": MICRO / two["server_us"],
        "cores": len(taken),
        # Without a core of its own, the server takes its share of theirs.
        "speedup_possible": min(2.0, len(taken) * MICRO / both / one["jobs_per_s"]),
    }


def _loops() -> int:
    """Count the turns of a loop that take as long as a handler shall."""
    before = own_cpu()
    burn(CALIBRATION_LOOPS)
    return max(1, int(BURN_S * CALIBRATION_LOOPS / (own_cpu() - before)))


def _cores(bench: Bench, processes: int) -> frozenset[int]:
    """Give each process a core, beside the server's where the machine has that many."""
    free = sorted(bench.cores.all - bench.cores.server)
    return frozenset(free[:processes]) if len(free) >= processes else bench.cores.all


def _burned(
    bench: Bench, entry: Entry, workload: Workload, loops: int, *, processes: int
) -> Figures:
    jobs = int(BURN_JOBS_PER_S * min(bench.seconds, workload.seconds_max) * processes)
    with scene(bench, entry, workload) as at:
        at.fill(jobs)
        request = at.request("work", jobs=jobs, burn_loops=loops)
        with at.worker(request, processes=processes, cores=_cores(bench, processes)) as worker:
            worker.wait_for(lambda: len(_counted(request)) == processes, limit_s=LIMIT_S)
            first = _mark(at, worker, request)
            worker.wait_for(lambda: sum(_counted(request)) >= jobs * MOST, limit_s=LIMIT_S)
            last = _mark(at, worker, request)
    done = {name: last[name] - first[name] for name in last}
    if done["jobs"] < jobs / 2:
        raise MeasurementFailed("half of the jobs were done before all processes were up")
    return {
        "jobs_per_s": done["jobs"] / done["at"],
        "worker_us": done["cpu"] * MICRO / done["jobs"],
        "server_us": done["server_cpu"] * MICRO / done["jobs"],
    }


def _counted(request: Request) -> list[int]:
    """Read what each process has counted; those that have not begun are left out."""
    counts = [
        int.from_bytes(path.read_bytes()[:8], sys.byteorder) for path in request.counts.glob("*")
    ]
    return [count for count in counts if count]


def _mark(at: Scene, worker: Child, request: Request) -> dict[str, float]:
    return {
        "at": time.monotonic(),
        "jobs": sum(_counted(request)),
        "cpu": worker.cpu(),
        "server_cpu": at.server.cpu(),
    }
