"""
streaq: streams and a consumer group; at least once, claimed back when idle for long.

As many jobs at a time, and fetched ahead, as are asked for; no results, uvloop, its own serializer.
"""

from __future__ import annotations

import logging

from streaq import StreaqRetry, Worker

from benchmarks.systems.base import UvloopSystem
from benchmarks.systems.payloads import Payload
from benchmarks.systems.recorder import FirstAttempt, Recorder
from benchmarks.systems.request import Request


class Streaq(UvloopSystem):
    def __init__(self, request: Request) -> None:
        super().__init__(request)
        logging.getLogger("streaq").setLevel(logging.CRITICAL)
        self._worker = Worker(
            redis_url=request.url,
            concurrency=request.at_once,
            prefetch=request.at_once,
            handle_signals=False,
            anyio_kwargs={"use_uvloop": True},
        )
        register = self._worker.task(ttl=0, silent=True, max_tries=3, name="job")

        async def job(payload: Payload) -> None:
            try:
                await self._handler(payload)
            except FirstAttempt:
                raise StreaqRetry("again", delay=0) from None

        self._job = register(job)

    async def open(self) -> None:
        await self._worker.__aenter__()

    async def close(self) -> None:
        await self._worker.__aexit__(None, None, None)

    async def put(self, payload: Payload) -> None:
        await self._job.enqueue(payload)

    async def put_many(self, payloads: list[Payload]) -> None:
        await self._worker.enqueue_many([self._job.enqueue(payload) for payload in payloads])

    def work(self, recorder: Recorder) -> None:
        self._handler = recorder.coroutine()
        self._worker.run_sync()


SYSTEM = Streaq
