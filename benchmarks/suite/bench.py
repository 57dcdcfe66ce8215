"""What every measurement is made of: a fresh server, processes on their cores, differences."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.suite.catalog import Entry
from benchmarks.suite.cores import Cores
from benchmarks.suite.environments import Environments
from benchmarks.suite.processes import ROOT, Child, MeasurementFailed, child
from benchmarks.suite.servers import MeasuredServer, Snapshot, fresh_server
from benchmarks.suite.workloads import Workload
from benchmarks.systems.request import Request

LIMIT_S = 240.0
"""The longest that a process may take to come to its result."""

OURS = "streamlane"
LEAST_CALLS = 0.0005

Figures = dict[str, Any]


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """
    How this run measures.

    Attributes:
        environments: Where the systems are installed.
        cores: Which processor runs what.
        seconds: How long a run lasts, unless its workload says less.
        is_on_disk: Whether every server keeps an append-only file.
    """

    environments: Environments
    cores: Cores
    seconds: float
    is_on_disk: bool = False


class Scene:
    """
    A fresh server with the processes that are started on it.

    Args:
        bench: How this run measures.
        entry: The system.
        workload: The workload.
        server: The server.
        directory: For results and output.
    """

    def __init__(
        self,
        bench: Bench,
        entry: Entry,
        workload: Workload,
        server: MeasuredServer,
        directory: Path,
    ) -> None:
        self.bench, self.entry, self.workload = bench, entry, workload
        self.server = server
        self._directory = directory

    def request(self, role: str, **more: Any) -> Request:
        """Write a request to one process."""
        return Request(
            system=self.entry.name,
            role=role,
            url=self.server.url,
            server_pid=self.server.pid,
            out=str(self._directory / f"{role}.json"),
            handler=self.workload.handler,
            shape=self.workload.shape,
            at_once=self.workload.at_once,
            **more,
        )

    def worker(
        self, request: Request, *, processes: int = 1, cores: frozenset[int] | None = None
    ) -> contextlib.AbstractContextManager[Child]:
        """Start a worker; ours is the engine as users run it."""
        if self.entry.name == OURS:
            command, variables = _engine(request, processes)
        else:
            command, variables = self.bench.environments.command(self.entry, request)
        return self._child(request, command, variables, cores)

    def produce(self, request: Request, *, cores: frozenset[int] | None = None) -> Figures:
        """Let a producer do its work, on the worker's core unless told otherwise."""
        Path(request.out).unlink(missing_ok=True)
        command, variables = self.bench.environments.command(self.entry, request)
        with self._child(request, command, variables, cores) as producer:
            return producer.result(Path(request.out), limit_s=LIMIT_S)

    def _child(
        self,
        request: Request,
        command: list[str],
        variables: dict[str, str],
        cores: frozenset[int] | None,
    ) -> contextlib.AbstractContextManager[Child]:
        return child(
            command,
            directory=self._directory,
            name=request.role,
            variables=variables,
            cores=self.bench.cores.worker if cores is None else cores,
        )

    def fill(self, jobs: int) -> None:
        """Leave a backlog before there is a worker."""
        before = self.server.snapshot().memory
        self.produce(self.request("fill", jobs=jobs, bare=not self.entry.is_peer))
        if jobs and self.server.snapshot().memory == before:
            raise MeasurementFailed("the backlog did not arrive")


@contextlib.contextmanager
def scene(bench: Bench, entry: Entry, workload: Workload) -> Iterator[Scene]:
    """Set up one measurement, and clear away behind it."""
    is_on_disk = bench.is_on_disk or workload.is_on_disk
    with (
        fresh_server(bench.cores.server, is_on_disk=is_on_disk) as server,
        tempfile.TemporaryDirectory(prefix="streamlane-bench-") as directory,
    ):
        yield Scene(bench, entry, workload, server, Path(directory))


def _engine(request: Request, processes: int) -> tuple[list[str], dict[str, str]]:
    from benchmarks.systems import streamlane

    command = [sys.executable, "-P", "-m", "engine", "run"]
    command += ["--app", "benchmarks.systems.streamlane:build", "--processes", str(processes)]
    return command, {"PYTHONPATH": str(ROOT), **streamlane.environment(request)}


def per_job(before: Snapshot, after: Snapshot, jobs: int) -> Figures:
    """Share what the server did among the jobs."""
    calls = {
        name: (count - before.calls.get(name, 0)) / jobs for name, count in after.calls.items()
    }
    most = sorted(calls.items(), key=lambda call: -call[1])
    return {
        "commands": sum(calls.values()),
        "by_command": {name: round(share, 4) for name, share in most if share >= LEAST_CALLS},
        "reads": (after.reads - before.reads) / jobs,
        "bytes_in": (after.bytes_in - before.bytes_in) / jobs,
        "bytes_out": (after.bytes_out - before.bytes_out) / jobs,
    }
