"""
arq: a sorted set and a key per job; at least once.

100 jobs at a time; it looks for jobs every millisecond in place of every 500, since it starts no
more than that many at each look. No results are kept, and its log is off.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import uvloop
from arq import Retry, func
from arq.connections import RedisSettings, create_pool
from arq.worker import Worker

from benchmarks.systems.base import UvloopSystem
from benchmarks.systems.payloads import Payload
from benchmarks.systems.recorder import FirstAttempt, Recorder
from benchmarks.systems.request import Request

LOOK_S = 0.001
CONNECTIONS_PER_JOB = 2


class Arq(UvloopSystem):
    def __init__(self, request: Request) -> None:
        super().__init__(request)
        logging.getLogger("arq").setLevel(logging.CRITICAL)
        self._settings = RedisSettings(
            port=request.port, max_connections=CONNECTIONS_PER_JOB * request.at_once
        )

    async def open(self) -> None:
        self._pool = await create_pool(self._settings)

    async def close(self) -> None:
        await self._pool.aclose()

    async def put(self, payload: Payload) -> None:
        await self._pool.enqueue_job("job", payload)

    def work(self, recorder: Recorder) -> None:
        handler = recorder.coroutine()

        async def job(_context: dict[Any, Any], payload: Payload) -> None:
            try:
                await handler(payload)
            except FirstAttempt:
                raise Retry(defer=0) from None

        asyncio.set_event_loop(uvloop.new_event_loop())
        worker = Worker(
            [func(job, name="job", keep_result=0, max_tries=3)],
            redis_settings=self._settings,
            max_jobs=self.request.at_once,
            poll_delay=LOOK_S,
            keep_result=0,
            log_results=False,
        )
        worker.run()


SYSTEM = Arq
