"""
saq: lists and a key per job; at least once, by a sweeper that puts stuck jobs back.

30 jobs at a time, or as many as sleep; the key is deleted with the job's end, and no timer runs per
job, as it documents. At its start the sweeper may drop a job that was taken a moment before, so
some more are enqueued than are counted.
"""

from __future__ import annotations

import logging
from typing import Any

import uvloop
from saq import Queue, Worker

from benchmarks.systems.base import UvloopSystem
from benchmarks.systems.payloads import Payload
from benchmarks.systems.recorder import Recorder
from benchmarks.systems.request import Request

AT_ONCE = 30
OPERATIONS = 100


class Saq(UvloopSystem):
    def __init__(self, request: Request) -> None:
        super().__init__(request)
        logging.getLogger("saq").setLevel(logging.CRITICAL)
        self._options: dict[str, Any] = {"ttl": -1, "timeout": 0}
        if request.handler == "fail_once":
            self._options["retries"] = 3

    async def open(self) -> None:
        self._queue = Queue.from_url(self.request.url, max_concurrent_ops=OPERATIONS)

    async def close(self) -> None:
        await self._queue.disconnect()

    async def put(self, payload: Payload) -> None:
        await self._queue.enqueue("job", payload=payload, **self._options)

    def work(self, recorder: Recorder) -> None:
        uvloop.run(self._work(recorder))

    async def _work(self, recorder: Recorder) -> None:
        await self.open()
        handler = recorder.coroutine()

        async def job(_context: Any, *, payload: Payload) -> None:
            await handler(payload)

        at_once = self.request.at_once if self.request.handler == "sleep" else AT_ONCE
        await Worker(self._queue, [("job", job)], concurrency=at_once).start()


SYSTEM = Saq
