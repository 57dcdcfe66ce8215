"""
dramatiq: lists and a hash of messages moved by one script; at least once, in threads.

32 threads, or as many as jobs that sleep; 1,000 messages fetched ahead; an idle worker sleeps 5 ms
in place of a second. No results, no middleware for metrics.
"""

from __future__ import annotations

import logging
import os
import time
from typing import ClassVar

from benchmarks.systems.base import System
from benchmarks.systems.payloads import Payload
from benchmarks.systems.recorder import Recorder
from benchmarks.systems.request import Request

# Read when it is imported.
os.environ["dramatiq_queue_prefetch"] = "1000"  # noqa: SIM112 - so it is spelt

import dramatiq
from dramatiq.brokers.redis import RedisBroker

THREADS = 32
IDLE_MS = 5


class Dramatiq(System):
    is_async: ClassVar[bool] = False

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        logging.getLogger("dramatiq").setLevel(logging.CRITICAL)
        self._broker = RedisBroker(url=request.url)
        dramatiq.set_broker(self._broker)
        register = dramatiq.actor(actor_name="job", max_retries=3, min_backoff=1, max_backoff=1)
        self._job = register(self._run)

    def _run(self, payload: Payload) -> None:
        self._handler(payload)

    def put(self, payload: Payload) -> None:
        self._job.send(payload)

    def work(self, recorder: Recorder) -> None:
        self._handler = recorder.function()
        threads = self.request.at_once if self.request.handler == "sleep" else THREADS
        worker = dramatiq.Worker(self._broker, worker_threads=threads, worker_timeout=IDLE_MS)
        worker.start()
        while True:
            time.sleep(60)


SYSTEM = Dramatiq
