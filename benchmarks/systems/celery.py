"""
Celery on Redis: lists, acknowledged when taken, as it does unless told otherwise.

One job at a time in the pool ``solo``, and greenlets where the handler sleeps. No results, events,
heartbeats, gossip or remote control; JSON.
"""

from __future__ import annotations

from typing import Any, ClassVar

from benchmarks.systems.base import System
from benchmarks.systems.payloads import Payload
from benchmarks.systems.recorder import FirstAttempt, Recorder
from benchmarks.systems.request import Request

SOLO_PREFETCH = 128
GREENLET_PREFETCH = 8
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "CRITICAL")


class Celery(System):
    is_async: ClassVar[bool] = False

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._sleeps = request.handler == "sleep"
        if self._sleeps and request.role == "work":
            from gevent import monkey

            # Before the import below, which takes hold of what is to be replaced.
            monkey.patch_all()
        import celery

        self._app = celery.Celery("bench", broker=request.url, set_as_current=True)
        self._app.conf.update(
            task_ignore_result=True,
            task_serializer="json",
            accept_content=["json"],
            worker_send_task_events=False,
            worker_enable_remote_control=False,
            worker_hijack_root_logger=False,
            worker_prefetch_multiplier=GREENLET_PREFETCH if self._sleeps else SOLO_PREFETCH,
            broker_connection_retry_on_startup=True,
        )
        register = self._app.task(name="job", bind=True, ignore_result=True, max_retries=3)

        def job(task: Any, payload: Payload) -> None:
            try:
                self._handler(payload)
            except FirstAttempt as error:
                raise task.retry(exc=error, countdown=0) from None

        self._job = register(job)

    def put(self, payload: Payload) -> None:
        self._job.apply_async((payload,))

    def work(self, recorder: Recorder) -> None:
        self._handler = recorder.function()
        pool = ("gevent", str(self.request.at_once)) if self._sleeps else ("solo", "1")
        self._app.worker_main(["worker", "-P", pool[0], "-c", pool[1], *QUIET])


SYSTEM = Celery
