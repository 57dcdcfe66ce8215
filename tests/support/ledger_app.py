"""
An app whose jobs write down when they start and end, in a file beside every server.

Each line is one ``os.write`` to a file opened for appending, so lines of several processes never
mix, and what was written survives the process. ``LEDGER_FILE`` names the file.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec

from engine import App, Exponential, Job, Registry
from engine.failpoint import failpoint

QUEUE = "ledger"
RETRY = Exponential(attempts=3, base_s=0.05, cap_s=0.2)


class Task(msgspec.Struct, rename="camel", frozen=True):
    """
    What a job is to do.

    Attributes:
        run_ms: How long it takes.
        gate: It runs until this file exists.
        fails: It fails in so many first attempts.
    """

    run_ms: float = 0
    gate: str = ""
    fails: int = 0


class Line(msgspec.Struct, frozen=True):
    """One line of the ledger."""

    event: str
    id: str
    type: str
    attempt: int
    deliveries: int
    pid: int
    at_s: float


def build(_settings: Any) -> App:
    """Build the app."""
    ledger = os.open(os.environ["LEDGER_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(event: str, job: Job) -> None:
        at_s = time.monotonic()
        line = Line(event, job.id, job.type, job.attempt, job.deliveries, os.getpid(), at_s)
        os.write(ledger, msgspec.json.encode(line) + b"\n")

    async def around(job: Job, _payload: Any, run: Any) -> Any:
        write("start", job)
        try:
            result = await run()
        except BaseException as error:
            write("cancelled" if isinstance(error, asyncio.CancelledError) else "raised", job)
            raise
        write("end", job)
        failpoint("K4")
        return result

    registry = Registry()
    registry.around(around)
    _add_types(registry)
    return App(registry)


def _add_types(registry: Registry) -> None:
    @registry.job("quick", queue=QUEUE, timeout_s=30, retry=RETRY)
    async def quick(job: Job, _task: Task) -> dict[str, int]:
        failpoint("K3")
        return {"attempt": job.attempt}

    @registry.job("slow", queue=QUEUE, timeout_s=60, retry=RETRY)
    async def slow(_job: Job, task: Task) -> None:
        failpoint("K3")
        await asyncio.sleep(task.run_ms / 1e3)
        await until(task.gate)

    @registry.job("failing", queue=QUEUE, timeout_s=30, retry=RETRY)
    async def failing(job: Job, _task: Task) -> None:
        raise RuntimeError(f"{job.id} always fails")

    @registry.job("flaky", queue=QUEUE, timeout_s=30, retry=RETRY)
    async def flaky(job: Job, task: Task) -> None:
        if job.attempt <= task.fails:
            raise RuntimeError(f"{job.id} fails at first")

    @registry.job("crashing", queue=QUEUE, timeout_s=30, retry=RETRY)
    async def crashing(_job: Job, _task: Task) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @registry.batch("bulk", queue=QUEUE, size=10, wait_ms=300, timeout_s=30, retry=RETRY)
    async def bulk(jobs: list[Job], tasks: list[Task]) -> list[Any]:
        failpoint("K3")
        await asyncio.gather(*(until(task.gate) for task in tasks))
        return [
            RuntimeError(f"{job.id} fails at first") if job.attempt <= task.fails else len(jobs)
            for job, task in zip(jobs, tasks, strict=True)
        ]

    @registry.job("blocking", queue=QUEUE, timeout_s=30, retry=RETRY)
    async def blocking(_job: Job, task: Task) -> None:
        time.sleep(task.run_ms / 1e3)  # noqa: ASYNC251 - blocks the loop on purpose
        while not is_open(task.gate):
            time.sleep(0.01)  # noqa: ASYNC251 - likewise

    @registry.job("stubborn", queue=QUEUE, timeout_s=60, retry=RETRY)
    async def stubborn(_job: Job, task: Task) -> None:
        while not is_open(task.gate):
            try:
                await until(task.gate)
            except asyncio.CancelledError:
                continue


async def until(gate: str) -> None:
    """Return once the file exists."""
    while not is_open(gate):  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)


def is_open(gate: str) -> bool:
    """Tell whether a job need not wait any more."""
    return not gate or Path(gate).exists()
