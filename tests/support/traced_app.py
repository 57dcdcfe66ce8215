"""An app whose jobs enqueue others, for tests that follow a trace through them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from engine import App, Client, Exponential, Job, Registry

QUEUE = "traced"
RETRY = Exponential(attempts=2, base_s=0.02)


def build(_settings: Any) -> App:
    """Build the app."""
    registry = Registry()

    @registry.job("order", queue=QUEUE, retry=RETRY)
    async def order(job: Job, payload: dict[str, Any], client: Client) -> None:
        if job.attempt == 1:
            raise RuntimeError("not at first")
        await client.enqueue("mail", {"to": "Ada"}, id="mail-1")

    @registry.job("mail", queue=QUEUE, retry=RETRY)
    async def mail(job: Job, payload: dict[str, Any]) -> None: ...

    @registry.job("pack", queue=QUEUE, retry=RETRY)
    async def pack(job: Job, payload: dict[str, Any]) -> None: ...

    @asynccontextmanager
    async def client() -> AsyncIterator[Client]:
        async with Client(os.environ["ENGINE_REDIS_URL"], registry=registry) as made:
            yield made

    return App(registry, lifespan=client)
