"""What a system has to know in order to be measured: enqueue, and work jobs off."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar

from benchmarks.systems.payloads import Payload
from benchmarks.systems.recorder import Recorder
from benchmarks.systems.request import Request


class System:
    """
    One job system, inside its own process.

    Args:
        request: What is asked of this process.

    Attributes:
        is_async: Whether the calls of its client are coroutines.
        bulk_jobs: How many jobs the call for many is given.
    """

    is_async: ClassVar[bool] = True
    bulk_jobs: ClassVar[int] = 500

    def __init__(self, request: Request) -> None:
        self.request = request

    @property
    def has_bulk(self) -> bool:
        """Whether it has a call that enqueues many jobs."""
        return type(self).put_many is not System.put_many

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run a producer's coroutine."""
        asyncio.run(main)

    def open(self) -> Any:
        """Connect a producer."""

    def close(self) -> Any:
        """Disconnect it."""

    def put(self, payload: Payload) -> Any:
        """Enqueue one job."""
        raise NotImplementedError

    def put_many(self, payloads: list[Payload]) -> Any:
        """Enqueue many by the system's own call."""
        raise NotImplementedError

    def work(self, recorder: Recorder) -> None:
        """Work jobs off for as long as the process lives."""
        raise NotImplementedError


class UvloopSystem(System):
    """A system whose producer runs on uvloop."""

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        import uvloop

        uvloop.run(main)
