"""
taskiq with its broker over Redis streams: a group, at least once, claimed after ten minutes.

1,000 entries per read and 1,000 fetched ahead, as many jobs at a time as are asked for, orjson, no
results, the worker's own entry point. It never deletes what is done from the stream.
"""

from __future__ import annotations

import logging

from taskiq import SimpleRetryMiddleware
from taskiq.cli.worker.args import WorkerArgs
from taskiq.cli.worker.run import start_listen
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisStreamBroker

from benchmarks.systems.base import UvloopSystem
from benchmarks.systems.payloads import Payload
from benchmarks.systems.recorder import Recorder
from benchmarks.systems.request import Request

AHEAD = 1_000


class TaskiqStream(UvloopSystem):
    def __init__(self, request: Request) -> None:
        super().__init__(request)
        logging.getLogger("taskiq").setLevel(logging.CRITICAL)
        # Its workers read what was enqueued before them under this id alone.
        broker = RedisStreamBroker(request.url, consumer_id="0", xread_count=AHEAD)
        self._broker = broker.with_serializer(ORJSONSerializer())
        labels = {}
        if request.handler == "fail_once":
            self._broker.add_middlewares(SimpleRetryMiddleware(default_retry_count=3))
            labels["retry_on_error"] = True

        async def job(payload: Payload) -> None:
            await self._handler(payload)

        self._job = self._broker.register_task(job, task_name="job", **labels)

    async def open(self) -> None:
        await self._broker.startup()

    async def close(self) -> None:
        await self._broker.shutdown()

    async def put(self, payload: Payload) -> None:
        await self._job.kiq(payload)

    def work(self, recorder: Recorder) -> None:
        self._handler = recorder.coroutine()
        start_listen(
            WorkerArgs(
                broker=self._broker,
                modules=[],
                workers=1,
                configure_logging=False,
                max_async_tasks=self.request.at_once,
                max_prefetch=AHEAD,
                no_parse=True,
            )
        )


SYSTEM = TaskiqStream
