"""An app that uses whatever the engine offers, for tests of what its login must be allowed."""

from __future__ import annotations

import asyncio
from typing import Any

from engine import App, Exponential, Job, Registry

QUEUE = "orders"
OTHER = "bills"


def build(_settings: Any) -> App:
    """Build the app."""
    registry = Registry()
    retry = Exponential(attempts=2, base_s=0.02, cap_s=0.05)

    @registry.job("order", queue=QUEUE, retry=retry, events=True, timeout_s=20)
    async def order(job: Job, payload: dict[str, Any]) -> dict[str, Any]:
        await job.progress(50, "half")
        await asyncio.sleep(payload.get("sleep_s", 0))
        if payload.get("fails", 0) >= job.attempt:
            raise RuntimeError("no such user 17")
        return {"attempt": job.attempt}

    @registry.job("parcel", queue=QUEUE, retry=retry, limits=["carrier"])
    async def parcel(_job: Job, _payload: dict[str, Any]) -> None:
        """End at once."""

    @registry.job("bill", queue=OTHER, retry=retry)
    async def bill(job: Job, payload: dict[str, Any]) -> dict[str, Any]:
        if payload.get("fails"):
            raise RuntimeError("no such account")
        return {"of": job.id}

    @registry.batch("stamp", queue=OTHER, size=5, wait_ms=20, retry=retry)
    async def stamp(jobs: list[Job], _payloads: list[dict[str, Any]]) -> list[Any]:
        return [len(jobs) for _ in jobs]

    registry.limit(QUEUE, "carrier", concurrency=1, rate=100)
    registry.schedule("ticking", "order", every_s=1)
    return App(registry)
