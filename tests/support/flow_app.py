"""An app of two queues whose jobs wait for each other, for tests with real engines."""

from __future__ import annotations

import asyncio
from typing import Any

from engine import App, Exponential, Job, Registry

QUEUES = ("near", "far")


def build(_settings: Any) -> App:
    """Build the app."""
    registry = Registry()
    for queue in QUEUES:
        registry.job(f"{queue}-work", queue=queue, retry=Exponential(attempts=2, base_s=0.05))(work)
    return App(registry)


async def work(job: Job, payload: dict[str, Any]) -> Any:
    """Take as long as asked, fail if asked, and tell of the children."""
    await asyncio.sleep(payload.get("sleep_s", 0))
    if payload.get("fails"):
        raise RuntimeError("no such user 17")
    children = job.children
    told = {"total": children.total, "done": children.done, "ignored": children.ignored}
    return told | {"results": list(children.results)} if children.total else job.id
