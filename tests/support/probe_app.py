"""An app for tests of what a daemon shows: metrics, logs, and what its handlers leave behind."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec

from engine import App, Cancel, Exponential, Hold, Job, Registry, Retry, Snooze

QUEUE = "probe"


class Task(msgspec.Struct, forbid_unknown_fields=True):
    """What a job is to do; ``secret`` must never be seen outside the queue."""

    do: str = "return"
    secret: str = ""


def build(_settings: Any) -> App:
    """Build the app."""
    registry = Registry()
    retry = Exponential(attempts=2, base_s=0)

    @registry.job("probe", queue=QUEUE, timeout_s=0.3, retry=retry, events=True)
    async def probe(job: Job, task: Task) -> Any:
        await job.progress(50, "half")
        return await _do(job, task)

    @registry.job("quiet", queue=QUEUE)
    async def quiet(job: Job, task: Task) -> None:
        return None

    return App(registry)


async def _do(job: Job, task: Task) -> Any:
    match task.do:
        case "raise":
            raise ValueError("no such user")
        case "retry" if job.attempt == 1:
            raise Retry(after_ms=0)
        case "snooze" if _first(job):
            raise Snooze(10, reason="later")
        case "cancel":
            raise Cancel("not wanted")
        case "hold":
            raise Hold("no password")
        case "hang":
            await asyncio.Event().wait()
        case "child-exits":
            async with asyncio.TaskGroup() as group:
                group.create_task(_exit())
        case "orphan-exits":
            asyncio.get_running_loop().call_soon(_exit_now)
            _left.append(asyncio.create_task(_exit()))
    return {"secret": task.secret}


_snoozed: set[str] = set()
_left: list[asyncio.Task[None]] = []


def _first(job: Job) -> bool:
    if job.id in _snoozed:
        return False
    _snoozed.add(job.id)
    return True


async def _exit() -> None:
    _exit_now()


def _exit_now() -> None:
    sys.exit(3)
