"""One session of measuring: all workloads, the systems by turns, whatever fails on the way."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.suite import footprint, measures, results
from benchmarks.suite.bench import Bench, Figures
from benchmarks.suite.catalog import Entry
from benchmarks.suite.environments import Say
from benchmarks.suite.processes import MeasurementFailed
from benchmarks.suite.results import Document
from benchmarks.suite.servers import fresh_server
from benchmarks.suite.targets import of
from benchmarks.suite.workloads import WORKLOADS, Workload
from engine.embedded import EmbeddedError

NOISE_CORES = 0.15
"""What others may use meanwhile before a figure is called into question."""

HEADLINES = {
    "drain": ("jobs_per_s", "jobs/s"),
    "enqueue": ("one_per_s", "awaited jobs/s"),
    "latency": ("p99_ms", "ms p99"),
    "memory": ("idle_rss_mib", "MiB idle"),
    "processes": ("speedup", "× one process"),
}


class Session:
    """
    Measures, and keeps the document up to date.

    Args:
        bench: How it measures.
        document: Where the figures go.
        path: Where the document is written after each figure; None for nowhere.
        say: Told how it goes.
    """

    def __init__(self, bench: Bench, document: Document, path: Path | None, say: Say) -> None:
        self._bench, self._document, self._path, self._say = bench, document, path, say
        self._jobs: dict[tuple[str, str], int] = {}
        self._missing: dict[str, str] = {}

    def run(self, entries: list[Entry], workloads: Iterable[Workload], runs: int) -> None:
        """Measure: all systems by turns, so that they share good and bad times."""
        with fresh_server(self._bench.cores.server, is_on_disk=False) as server:
            self._document.versions["server"] = server.version()
        ready = self.ready(entries)
        for workload in workloads:
            asked = [entry for entry in ready if workload.name in entry.workloads]
            for entry in entries:
                if entry.name in self._missing and workload.name in entry.workloads:
                    self._keep(entry, workload.name, {"error": self._missing[entry.name]})
            found = self._document.results.setdefault(workload.name, {})
            found.update({entry.name: [] for entry in asked})
            for number in range(runs):
                for entry in asked:
                    self._measure(entry, workload, f"{number + 1}/{runs}")

    def ready(self, entries: Iterable[Entry]) -> list[Entry]:
        """Install the systems, and return those that can be measured."""
        return [entry for entry in entries if self._is_ready(entry)]

    def _is_ready(self, entry: Entry) -> bool:
        try:
            self._document.systems[entry.name] = self._bench.environments.prepare(entry)
        except MeasurementFailed as error:
            self._missing[entry.name] = str(error)
            self._say(f"{entry.name}: left out: {error}")
            return False
        return True

    def _measure(self, entry: Entry, workload: Workload, number: str) -> None:
        found = self._document.results[workload.name]
        if isinstance(found[entry.name], dict):
            # It failed in an earlier round, and would again.
            return
        began = time.monotonic()
        try:
            figures = self._figures(entry, workload)
        except (MeasurementFailed, EmbeddedError) as error:
            self._keep(entry, workload.name, {"error": str(error)})
            self._say(f"{workload.name:13} {entry.name:14} {number}  failed: {error}")
            return
        found[entry.name].append(figures)
        self._written()
        name, unit = HEADLINES[workload.kind]
        took = time.monotonic() - began
        figure = f"{figures[name]:,.2f}" if figures[name] < 100 else f"{figures[name]:,.0f}"
        told = f"{workload.name:13} {entry.name:14} {number}  {figure} {unit}  [{took:.0f} s]"
        if workload.kind == "drain" and figures["others"] > NOISE_CORES:
            told += f"  others kept {figures['others']:.1f} cores busy: do not trust this figure"
        self._say(told)

    def _figures(self, entry: Entry, workload: Workload) -> Figures:
        bench = self._bench
        match workload.kind:
            case "drain":
                return measures.drained(bench, entry, workload, self._enough(entry, workload))
            case "enqueue":
                return measures.enqueued(bench, entry, workload)
            case "latency":
                return measures.answered(bench, entry, workload, rate=self._rate(entry, workload))
            case "memory":
                return footprint.memory(bench, entry, workload)
            case "processes":
                return footprint.processes(bench, entry, workload)

    def _enough(self, entry: Entry, workload: Workload) -> int:
        place = (entry.name, workload.name)
        if place not in self._jobs:
            self._jobs[place] = measures.enough_jobs(self._bench, entry, workload)
        return self._jobs[place]

    def _rate(self, entry: Entry, workload: Workload) -> float:
        """Take the rate that is asked for, or half of what the system reached in w1."""
        if workload.rate:
            return workload.rate
        reached = of(self._document.results, "w1", entry.name, "jobs_per_s")
        if reached is None:
            whole = WORKLOADS["w1"]
            jobs = self._enough(entry, whole)
            reached = measures.drained(self._bench, entry, whole, jobs)["jobs_per_s"]
        return float(reached) / 2

    def _keep(self, entry: Entry, workload: str, found: Any) -> None:
        self._document.results.setdefault(workload, {})[entry.name] = found
        self._written()

    def _written(self) -> None:
        if self._path is not None:
            results.write(self._path, self._document)
