"""What the shell offers when Tab is pressed: names of queues, types and groups that are there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import click

from engine.admin import Admin
from engine.errors import EngineError
from engine.settings import load_engine

PATIENCE_S = 1.0
"""Time that a shell waits for names, at most."""


def queue_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Name the queues of running engines."""

    async def read(admin: Admin) -> list[str]:
        engines = await admin.engines()
        return sorted({queue for engine in engines for queue in engine.beat.queues})

    return _offer(ctx, incomplete, read)


def type_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Name the types of the queue that was named before, or of all running engines' queues."""

    async def read(admin: Admin) -> list[str]:
        wanted = _queue_of(ctx)
        engines = await admin.engines()
        loads = [item for engine in engines for item in engine.beat.queues.items()]
        meant = [load for queue, load in loads if wanted in {"", queue}]
        return sorted({name for load in meant for name in load.types})

    return _offer(ctx, incomplete, read)


def fingerprints(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Name the groups of dead letters of the queue that was named before."""

    async def read(admin: Admin) -> list[str]:
        queue = _queue_of(ctx)
        return [group.fingerprint for group in await admin.dead_groups(queue)] if queue else []

    return _offer(ctx, incomplete, read)


def _queue_of(ctx: click.Context) -> str:
    # While an option lacks its value, click leaves what stands before it unread.
    named = ctx.params.get("queue") or ctx.params.get("names") or ctx.args[:1] or ""
    return named if isinstance(named, str) else named[0]


def _offer(
    ctx: click.Context, incomplete: str, read: Callable[[Admin], Awaitable[list[str]]]
) -> list[str]:
    given = ctx.find_root().params
    said = {"redis_url": given["redis_url"]} if given.get("redis_url") else {}

    async def names() -> list[str]:
        loaded = load_engine(os.environ, file=given.get("config"), overrides=said)
        async with asyncio.timeout(PATIENCE_S):
            async with Admin(loaded.settings.redis_url, who="completion") as admin:
                return await read(admin)

    try:
        return [name for name in asyncio.run(names()) if name.startswith(incomplete)]
    except (EngineError, TimeoutError):
        # A shell that asks for names has no place for errors.
        return []
