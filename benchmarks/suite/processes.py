"""The processes of a measurement: started on their core, awaited, ended with their children."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.suite.cores import on

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.02
LOG_TAIL = 800
MIB = 1_048_576


class MeasurementFailed(Exception):
    """A measurement came to no figure; the message says why, for the table."""


class Child:
    """
    One process, in a session of its own.

    Args:
        process: The process.
        log: Where its output goes.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    def result(self, out: Path, *, limit_s: float) -> dict[str, Any]:
        """Wait for the file in which the process leaves what it measured."""
        self.wait_for(out.exists, limit_s=limit_s)
        found: dict[str, Any] = json.loads(out.read_text())
        return found

    def wait_for(self, is_so: Callable[[], bool], *, limit_s: float) -> None:
        """
        Wait until something is so, as long as the process lives.

        Raises:
            MeasurementFailed: It ended, or the time is up.
        """
        limit = time.monotonic() + limit_s
        while not is_so():
            ended = self.process.poll()
            if ended is not None and not is_so():
                raise MeasurementFailed(f"the process ended with {ended}: {self._said()}")
            if time.monotonic() > limit:
                raise MeasurementFailed(f"no result in {limit_s:g} s: {self._said()}")
            time.sleep(POLL_S)

    def cpu(self) -> float:
        """Sum up the processor time of the process and its children."""
        used = [each.cpu_times() for each in self._family()]
        return sum(times.user + times.system for times in used)

    def rss_mib(self) -> float:
        """Read the memory that it holds now, with its children."""
        return sum(each.memory_info().rss for each in self._family()) / MIB

    def peak_rss_mib(self) -> float:
        """Read the most that it ever held, with its children."""
        return sum(_peak(each.pid) for each in self._family()) / MIB

    def _family(self) -> list[psutil.Process]:
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def _said(self) -> str:
        said = self._log.read_bytes()[-LOG_TAIL:].decode(errors="replace").split("\n")
        # Of a traceback, the last line says what went wrong.
        return next((line for line in reversed(said) if line.strip()), "it said nothing")

    def end(self) -> None:
        """End it and what it started; a worker in the middle of its work need not settle it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _peak(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1_024
    return 0


@contextlib.contextmanager
def child(
    command: Sequence[str],
    *,
    directory: Path,
    name: str,
    variables: Mapping[str, str],
    cores: frozenset[int],
) -> Iterator[Child]:
    """Start a process on some cores, and end it at the end."""
    log = directory / f"{name}.log"
    environ = {
        key: value for key, value in os.environ.items() if not key.startswith(("ENGINE_", "PYTHON"))
    }
    with log.open("wb") as output, on(cores):
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={**environ, "PYTHONDONTWRITEBYTECODE": "1", **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = Child(process, log)
    try:
        yield started
    finally:
        started.end()
