"""
The whole API asked with whatever its description allows, and with what it does not.

Goal: no answer is an error of ours, and every answer is as the description says. The long run tries
many more examples, drawn anew each time; a failure prints how to repeat it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given
from prometheus_client import CollectorRegistry
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from engine.admin import Admin, new_schedule
from engine.clock import SystemClock
from engine.dashboard import HttpServer, HttpState
from engine.dashboard.limits import Rate, Rates
from schemas.job import Meta
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter, job_fields
from tests.support.servers import RedisTestServer

TOKEN = "the-token-of-those-who-fuzz-here"
SHOWN = {"Authorization": f"Bearer {TOKEN}"}
MANY = Rate(1_000_000, 1_000_000)
ENDLESS = "/api/live"
FEW = 3
LOTS = 150
KNOWN = {"queue": QUEUE, "id": "w-1", "name": "nightly"}
"""Names that are there, so that requests come further than to what is missing."""

CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


class Served:
    """A server in a loop of its own thread, since the fuzzer knows none."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.address = ""

    def __enter__(self) -> Served:
        self._thread.start()
        self.address = self._do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> str:
        self.admin = Admin(self._url, who="test", types={QUEUE: [TYPE]})
        made = new_schedule("nightly", type=TYPE, payload={"n": 1}, every_ms=3_600_000)
        await self.admin.schedule_add(QUEUE, "nightly", made)
        self.server = HttpServer(
            HttpState(
                address="127.0.0.1:0",
                token=TOKEN,
                admin=self.admin,
                metrics=CollectorRegistry(),
                ready=list,
                schemas={TYPE: {"type": "object"}},
                clock=SystemClock(),
                engine="eng-1",
                version="0.1.0",
                rates=Rates(reads=MANY, writes=MANY, failures=MANY, reports=MANY),
            )
        )
        return await self.server.start()

    async def _stop(self) -> None:
        await self.server.stop()
        self.admin.close()


@pytest.fixture(scope="module")
def served(shared_redis: RedisTestServer) -> Iterator[Served]:
    shared_redis.call("FLUSHALL")
    queue = QueueWriter(shared_redis.url)
    queue.open()
    for number in range(5):
        queue.enqueue(job_fields(id=f"w-{number}"))
        queue.bury(f"dead-{number}", job_fields(id=f"dead-{number}"))
    queue.delay(queue.now_ms() + 3_600_000, Meta(id="later", enqueued_ms=1))
    with Served(shared_redis.url) as made:
        yield made
    queue.close()


def fuzz(
    served: Served, mode: GenerationMode, settings: hypothesis.settings, *, strangers: bool = False
) -> list[str]:
    """
    Ask for every operation as a mode has it; returns which were asked.

    Args:
        served: The server.
        mode: What the description allows, or what it does not.
        settings: How often.
        strangers: Ask also for queues and jobs that are not there.
    """
    base = f"http://{served.address}"
    told = requests.get(f"{base}/openapi.json", headers=SHOWN, timeout=10).json()
    asked: list[str] = []
    for found in schemathesis.openapi.from_dict(told).get_all_operations():
        operation = found.ok()
        if operation.path == ENDLESS:
            continue
        known = {name: KNOWN[name] for name in KNOWN if f"{{{name}}}" in operation.path}
        _ask(operation.as_strategy(mode, path_parameters=known or None), base, settings)
        if strangers and known:
            _ask(operation.as_strategy(mode), base, settings)
        asked.append(operation.label)
    return asked


def _ask(strategy: Any, base: str, settings: hypothesis.settings) -> None:
    session = requests.Session()

    @settings
    @given(case=strategy)
    def answers_well(case: schemathesis.Case) -> None:
        case.call_and_validate(
            base_url=base, session=session, headers=SHOWN, checks=CHECKS, timeout=10
        )

    try:
        answers_well()
    except hypothesis.errors.Unsatisfiable:
        # Nothing of the operation can be said wrongly.
        assert session is not None
    finally:
        session.close()


def bounded(examples: int, *, derandomize: bool) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=examples,
        deadline=None,
        derandomize=derandomize,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_api_answers_as_it_is_described(mode: GenerationMode, served: Served) -> None:
    asked = fuzz(served, mode, bounded(FEW, derandomize=True))

    assert len(asked) == len(served.server.routes) - 1


@pytest.mark.full
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_api_answers_as_it_is_described_at_length(mode: GenerationMode, served: Served) -> None:
    fuzz(served, mode, bounded(LOTS, derandomize=False), strangers=True)
