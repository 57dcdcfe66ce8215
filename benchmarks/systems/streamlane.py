"""
Streamlane, as users run it: ``python -m engine run`` with every guarantee on.

Fencing, leases, attempts, time limits, validation of payloads, retention of finished jobs at its
default, metrics and the page over HTTP are on. Only logs below ``error`` are left out, to keep the
terminal clean. A job that failed is tried again after the least delay that the engine allows: none.

Backlogs are appended by bare commands, which is the documented way in for any language; the client
writes the same entries.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from benchmarks.systems.base import UvloopSystem
from benchmarks.systems.payloads import KEY_JOBS, SIZES, SMALL_BYTES, Commands, Payload
from benchmarks.systems.produce import fill_bare, pace_bare
from benchmarks.systems.recorder import Recorder
from benchmarks.systems.request import Request
from engine import App, Client, Exponential, Job, NewJob, Registry
from engine.settings import EngineSettings
from engine.wire.keys import QueueKeys
from schemas.rules import LANES

QUEUE = "bench"
TYPE = "job"
KEYS_NEAR = 100
"""Keys that take turns where jobs of one key lie near each other."""

REQUEST = "BENCH_REQUEST"
"""The variable by which the engine's process is told what is measured."""


class Mixed(msgspec.Struct, frozen=True):
    """The payload of the seven types; large ones carry labels."""

    id: int
    sent_ns: int
    user: Annotated[str, msgspec.Meta(min_length=3, max_length=254)]
    body: str
    labels: list[str] = []


def environment(request: Request) -> Mapping[str, str]:
    """Say how an engine is configured; all else stays at its default."""
    return {
        REQUEST: request.encode(),
        "ENGINE_REDIS_URL": request.url,
        "ENGINE_HTTP": "127.0.0.1:0",
        "ENGINE_CONCURRENCY": str(request.at_once),
        "ENGINE_LOG_LEVEL": "error",
    }


def build(_settings: EngineSettings) -> App:
    """Build the app of an engine's process."""
    request = Request.decode(os.environ[REQUEST])
    recorder, registry = Recorder(request), Registry()
    handler = recorder.coroutine()

    if request.shape == "lanes":
        for number in range(len(SIZES)):
            _mixed(registry, recorder, f"{TYPE}-{number}")

    @registry.job(TYPE, queue=QUEUE, retry=Exponential(3, base_s=0))
    async def run(_job: Job, payload: dict[str, Any]) -> None:
        await handler(payload)

    return App(registry)


def _mixed(registry: Registry, recorder: Recorder, name: str) -> None:
    @registry.job(name, queue=QUEUE)
    async def run(_job: Job, _payload: Mixed) -> None:
        recorder.completed()


def bare(request: Request) -> None:
    """Append jobs as a producer in any language does."""
    lanes = QueueKeys(QUEUE).lanes
    if request.role == "pace":
        pace_bare(request, lanes["normal"], TYPE)
    elif request.shape == "lanes":
        types = [(f"{TYPE}-{number}", size) for number, size in enumerate(SIZES)]
        fill_bare(request, Commands([lanes[lane] for lane in LANES], types))
    else:
        many = -(-request.jobs // KEY_JOBS)
        keys = {"plain": 0, "keyed": many, "keyed-near": min(many, KEYS_NEAR)}[request.shape]
        fill_bare(request, Commands([lanes["normal"]], [(TYPE, SMALL_BYTES)], keys=keys))


class Streamlane(UvloopSystem):
    """The client; the worker is no adapter but the engine's own command."""

    async def open(self) -> None:
        self._client = Client(self.request.url, queues={TYPE: QUEUE})

    async def close(self) -> None:
        await self._client.close()

    async def put(self, payload: Payload) -> None:
        await self._client.enqueue(TYPE, payload)

    async def put_many(self, payloads: list[Payload]) -> None:
        await self._client.enqueue_many(NewJob(TYPE, payload) for payload in payloads)


SYSTEM = Streamlane
