"""How a handler is called: with middleware and services in place, in the loop or in a pool."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Sequence
from typing import Any

from engine.registry import JobType, Middleware
from engine.runtime.jobs import Call, LiveJob


class Pools:
    """
    The process pool for CPU-heavy handlers, started at its first use.

    A job that is cancelled, or runs into its limit, takes its process with it; pebble starts
    another in its place.

    Args:
        processes: Its size; 0 for one per core.
    """

    def __init__(self, processes: int) -> None:
        self._size = processes or multiprocessing.cpu_count()
        self._pool: Any = None

    async def run(self, function: Any, payload: Any) -> Any:
        """Run ``function(payload)`` in a process."""
        if self._pool is None:
            from pebble import ProcessPool

            self._pool = ProcessPool(
                max_workers=self._size, context=multiprocessing.get_context("spawn")
            )
        future = self._pool.schedule(function, args=[payload])
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            # wrap_future asks politely; a running process has to be stopped.
            future.cancel()
            raise

    async def close(self) -> None:
        """Stop all processes."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.stop()
            await asyncio.to_thread(pool.join, 5)


def call_of(
    job_type: JobType, services: Any, middleware: Sequence[Middleware], pools: Pools
) -> Call:
    """Build the one function that runs a type's handler."""
    function = job_type.function
    call: Call
    if job_type.pool == "process":

        async def call(_job: LiveJob, payload: Any) -> Any:
            return await pools.run(function, payload)

    elif job_type.pool == "thread":

        async def call(_job: LiveJob, payload: Any) -> Any:
            return await asyncio.to_thread(function, payload)

    elif job_type.arguments == 3:

        def call(job: LiveJob, payload: Any) -> Any:
            return function(job, payload, services)

    else:
        call = function
    for around in reversed(middleware):
        call = _wrapped(call, around)
    return call


def _wrapped(inner: Call, around: Middleware) -> Call:
    async def call(job: LiveJob, payload: Any) -> Any:
        return await around(job, payload, lambda: inner(job, payload))

    return call
