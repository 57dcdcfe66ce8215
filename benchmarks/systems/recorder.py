"""Counts jobs where they end, inside the handlers; reads the clocks at the first and the last."""

from __future__ import annotations

import asyncio
import itertools
import mmap
import os
import resource
import time
from array import array
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.systems.payloads import Payload
from benchmarks.systems.request import WARM_JOBS, Request, leave

SLEEP_S = 0.005
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Mark = dict[str, float]


class FirstAttempt(Exception):
    """The failure of a job that is to succeed when it is tried again."""


def cpu_of(pid: int) -> float:
    """Read the seconds of processor time that a process has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / TICKS_PER_S


def busy() -> float:
    """
    Read the seconds of processor time that everything on this machine has used.

    What the machine's host took away counts as well: it was not there for us either.
    """
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    user, nice, system, _idle, _waiting, *interrupts_and_stolen = (int(word) for word in words[1:9])
    return (user + nice + system + sum(interrupts_and_stolen)) / TICKS_PER_S


def own_cpu() -> float:
    """Read the seconds of processor time that this process and its ended children have used."""
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def burn(loops: int) -> None:
    """Use the processor."""
    for _ in range(loops):
        pass


class Recorder:
    """
    What the handlers of a worker call.

    The clock runs from the first completion to the last, in ``fail_once`` from the first attempt
    on. A completion costs one count; nothing else is kept but latencies, where they are asked for.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._count = itertools.count(1).__next__
        self._warmed = itertools.count(1).__next__
        self._last = request.jobs
        self._first: Mark | None = None
        self._tried: set[int] = set()
        self._latencies = array("q")
        self._shared = _counter(request) if request.handler == "burn" else None

    def completed(self) -> None:
        """Count one job; safe in threads, since the count is one step of the interpreter."""
        number = self._count()
        if number == 1 and self._first is None:
            self._first = self._mark()
        if number == self._last:
            self._leave()

    def _mark(self) -> Mark:
        return {
            "at": time.monotonic_ns() / 1e9,
            "cpu": own_cpu(),
            "server_cpu": cpu_of(self._request.server_pid),
            "busy": busy(),
        }

    def _leave(self) -> None:
        last, first = self._mark(), self._first
        assert first is not None
        result: dict[str, Any] = {name: last[name] - first[name] for name in last}
        result["failed"] = len(self._tried)
        result["latencies"] = self._latencies.tolist()
        leave(self._request.out, result)

    def noop(self, payload: Payload) -> None:
        payload["id"]
        self.completed()

    def sleep_blocking(self, _payload: Payload) -> None:
        time.sleep(SLEEP_S)
        self.completed()

    async def sleep(self, _payload: Payload) -> None:
        await asyncio.sleep(SLEEP_S)
        self.completed()

    def stamp(self, payload: Payload) -> None:
        late = time.monotonic_ns() - payload["sent_ns"]
        if payload["id"] < 0:
            if self._warmed() == WARM_JOBS:
                self._request.warm.touch()
            return
        self._latencies.append(late)
        self.completed()

    def fail_once(self, payload: Payload) -> None:
        number = payload["id"]
        if number not in self._tried:
            if self._first is None:
                self._first = self._mark()
            self._tried.add(number)
            raise FirstAttempt
        self.completed()

    def burn(self, _payload: Payload) -> None:
        burn(self._request.burn_loops)
        assert self._shared is not None
        # Counted for the parent, which adds up what several processes do.
        self._shared[0] += 1

    def function(self) -> Callable[[Payload], None]:
        """Return the handler as a plain function."""
        name = self._request.handler
        handler: Callable[[Payload], None] = getattr(
            self, "sleep_blocking" if name == "sleep" else name
        )
        return handler

    def coroutine(self) -> Callable[[Payload], Awaitable[None]]:
        """Return the handler as a coroutine function."""
        if self._request.handler == "sleep":
            return self.sleep
        run = self.function()

        async def handler(payload: Payload) -> None:
            run(payload)

        return handler


def _counter(request: Request) -> memoryview:
    """Share a number with the parent, in a file of this process's own."""
    request.counts.mkdir(exist_ok=True)
    with (request.counts / str(os.getpid())).open("w+b") as file:
        file.truncate(mmap.PAGESIZE)
        return memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")
