"""How a handler is called: with middleware and services in place, in the loop or in a pool."""

from __future__ import annotations

import asyncio
import contextvars
import multiprocessing
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from engine.failpoint import failpoint, is_armed
from engine.registry import JobType, Middleware
from engine.runtime import child
from engine.runtime.carrying import carried
from engine.runtime.jobs import Call, LiveJob


class OverLimit(BaseException):
    """A process was killed at its job's time limit; no handler can raise or catch this."""


class LeaseTooOld(BaseException):
    """Nothing was called, since the lease had run out by then; the job did nothing wrong."""


class Runs(Protocol):
    """Runs plain functions outside the loop."""

    async def in_process(self, function: Any, payload: Any, limit_s: float) -> Any: ...
    async def in_thread(self, function: Any, payload: Any) -> Any: ...


class InProcess:
    """For tests: runs everything where it is called."""

    async def in_process(self, function: Any, payload: Any, limit_s: float) -> Any:
        """Call the function, without a limit."""
        del limit_s
        return await self.in_thread(function, payload)

    async def in_thread(self, function: Any, payload: Any) -> Any:
        """Call the function."""
        await asyncio.sleep(0)
        return function(payload)


class Pools:
    """
    Where handlers run that are plain functions.

    The process pool for CPU-heavy ones is started at its first use. A job that is cancelled, or
    runs into its limit, takes its process with it; pebble starts another in its place. A thread
    cannot be ended: it counts as stuck until its function returns, and never keeps the process.

    Args:
        processes: Size of the process pool; 0 for one per core.
        on_stuck: Called with +1 when a thread is given up, -1 when it ended after all.
    """

    def __init__(self, processes: int, *, on_stuck: Callable[[int], None]) -> None:
        self._size = processes or multiprocessing.cpu_count()
        self._on_stuck = on_stuck
        self._pool: Any = None

    async def in_process(self, function: Any, payload: Any, limit_s: float) -> Any:
        """
        Run ``function(payload)`` in a process.

        Raises:
            OverLimit: It ran longer than the limit, which counts from its start in the process.
        """
        if self._pool is None or not self._pool.active:
            from pebble import ProcessPool

            self._pool = ProcessPool(
                max_workers=self._size, context=multiprocessing.get_context("spawn")
            )
        future = self._pool.schedule(
            child.run, args=[function, payload, carried()], timeout=limit_s
        )
        try:
            pickled = await asyncio.wrap_future(future)
        except TimeoutError:
            # The pool's own; what the function raised comes within the bytes.
            raise OverLimit from None
        except asyncio.CancelledError:
            # wrap_future asks politely; a running process has to be stopped.
            future.cancel()
            raise
        return child.outcome(pickled)

    async def in_thread(self, function: Any, payload: Any) -> Any:
        """Run ``function(payload)`` in a thread of its own."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
        run = contextvars.copy_context().run

        def finish(result: Any, error: BaseException | None) -> None:
            if ended.cancelled():
                self._on_stuck(-1)
            else:
                ended.set_result((result, error))

        def thread() -> None:
            result, error = None, None
            try:
                result = run(function, payload)
            except BaseException as raised:  # noqa: BLE001 - told to whoever waits
                error = raised
            if not loop.is_closed():
                loop.call_soon_threadsafe(finish, result, error)

        threading.Thread(target=thread, name="handler", daemon=True).start()
        try:
            result, error = await ended
        except asyncio.CancelledError:
            self._on_stuck(1)
            raise
        if error is not None:
            raise error
        return result

    async def close(self) -> None:
        """Stop all processes."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.stop()
            await asyncio.to_thread(pool.join, 5)


def call_of(
    job_type: JobType,
    services: Any,
    middleware: Sequence[Middleware],
    pools: Runs,
    *,
    join: Call | None = None,
) -> Call:
    """
    Build the one function that runs a type's handler.

    Args:
        job_type: The type.
        services: What the handler is given as services.
        middleware: What goes around it, first one outermost.
        pools: Runs plain functions.
        join: Runs the job within a batch, for a type that takes batches.
    """
    function = job_type.function
    call: Call
    if join is not None:
        call = join
    elif job_type.pool == "process":

        async def call(_job: LiveJob, payload: Any) -> Any:
            return await pools.in_process(function, payload, job_type.timeout_s)

    elif job_type.pool == "thread":

        async def call(_job: LiveJob, payload: Any) -> Any:
            return await pools.in_thread(function, payload)

    elif job_type.arguments == 3:

        def call(job: LiveJob, payload: Any) -> Any:
            return function(job, payload, services)

    else:
        call = function
    for around in reversed(middleware):
        call = _wrapped(call, around)
    return _failing(call) if is_armed else call


def _wrapped(inner: Call, around: Middleware) -> Call:
    async def call(job: LiveJob, payload: Any) -> Any:
        return await around(job, payload, lambda: inner(job, payload))

    return call


def _failing(inner: Call) -> Call:
    """Put a failpoint between decoding and handling; only where tests want one, for its cost."""

    def call(job: LiveJob, payload: Any) -> Any:
        failpoint("K2")
        return inner(job, payload)

    return call
