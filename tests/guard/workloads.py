"""The fixed workloads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from engine import Client, Exponential, Job, NewJob, Registry, SyncClient
from engine.testing import ManualClock
from schemas.rules import LANES
from tests.guard.probes import Probe
from tests.guard.rig import PATIENCE_S, QUEUE, Entry, Tally, pace_posts, running

TYPES = 7
KEY_JOBS = 10
WARM_S = 0.2
IDLE_TICK_S = 0.05
OPTIONS: dict[str, Any] = {"queues": {"noop": QUEUE}, "timeout_s": PATIENCE_S}


class Line(msgspec.Struct):
    """A part of a payload."""

    sku: str
    count: int
    price: float


class Order(msgspec.Struct):
    """A typed payload: 200 bytes with one line, 2 KB with forty."""

    number: int
    customer: str
    note: str
    lines: list[Line]


def bare(number: int) -> dict[str, Any]:
    """A payload of 200 bytes."""
    return {"number": 100_000 + number, "text": "x" * 173}


def order(number: int, lines: int) -> Order:
    """A typed payload."""
    line = Line("sku-00000000001", 3, 9.75)
    return Order(100_000 + number, "c" * 20, "n" * 40, [line] * lines)


def _encoded(payload: Any) -> str:
    return msgspec.json.encode(payload).decode()


@dataclass(frozen=True)
class Workload:
    """
    One fixed piece of work.

    Attributes:
        about: What it is.
        jobs: Jobs, or seconds at rest, that are measured.
        traced: The same while instructions are counted, which is slow.
        run: Does it: server, number, probe.
        unit: What the figures are for one of.
        is_producer: What it leaves behind is jobs that wait.
    """

    about: str
    jobs: int
    traced: int
    run: Callable[[str, int, Probe], Awaitable[None]]
    unit: str = "job"
    is_producer: bool = False


def _draining(
    build: Callable[[Tally], Registry], entry: Callable[[int], Entry], *, warm: int
) -> Callable[[str, int, Probe], Awaitable[None]]:
    """Build a workload: a backlog that one engine works off."""

    async def run(url: str, jobs: int, probe: Probe) -> None:
        async with running(url, build) as bench:
            # The engine learns how large jobs are and how fast they end, and warms its code up.
            bench.load(url, [entry(number) for number in range(warm)])
            await bench.work_off(warm)
            await bench.move(WARM_S)
            bench.load(url, [entry(number) for number in range(KEY_JOBS)])
            await bench.work_off(KEY_JOBS)
            bench.load(url, [entry(warm + number) for number in range(jobs)])
            bench.store.before_settling = lambda: probe.look(bench.in_hand())
            probe.begin()
            await bench.work_off(jobs)
            probe.end()

    return run


def _noop(tally: Tally) -> Registry:
    registry = Registry()

    @registry.job("noop", queue=QUEUE)
    async def noop(_job: Job, _payload: dict[str, Any]) -> None:
        tally.done += 1

    return registry


def _mixed(tally: Tally) -> Registry:
    registry = Registry()
    for kind in range(TYPES):

        @registry.job(f"type-{kind}", queue=QUEUE)
        async def take(_job: Job, _payload: Order) -> None:
            tally.done += 1

    return registry


def _mixed_entry(number: int) -> Entry:
    payload = _encoded(order(number, lines=40 if number % 5 == 0 else 1))
    return LANES[number % 4], {"type": f"type-{number % TYPES}", "data": payload}


def _failing(tally: Tally) -> Registry:
    registry = Registry()

    @registry.job("noop", queue=QUEUE, retry=Exponential(3, base_s=0))
    async def fail_once(job: Job, _payload: dict[str, Any]) -> None:
        if job.attempt == 1:
            raise ValueError("the first attempt fails")
        tally.done += 1

    return registry


def _entry(number: int) -> Entry:
    return "normal", {"type": "noop", "data": _encoded(bare(number))}


def _keyed_entry(number: int) -> Entry:
    lane, fields = _entry(number)
    return lane, {**fields, "key": f"key-{100_000 + number // KEY_JOBS}"}


async def _idle(url: str, seconds: int, probe: Probe) -> None:
    async with running(url, _noop) as bench:
        bench.load(url, [_entry(number) for number in range(200)])
        await bench.work_off(200)
        await bench.move(5)
        probe.begin()
        for _ in range(seconds):
            # One blocking read a second, as with the default of `block_ms`.
            bench.store.reads.release()
            for _ in range(round(1 / IDLE_TICK_S)):
                await bench.move(IDLE_TICK_S)
        probe.end()


async def _one_by_one(url: str, jobs: int, probe: Probe) -> None:
    async with Client(url, **OPTIONS, clock=ManualClock()) as client:
        payloads = [bare(number) for number in range(jobs)]
        await client.enqueue("noop", bare(0))
        probe.begin()
        for payload in payloads:
            await client.enqueue("noop", payload)
        probe.end()


async def _bulk(url: str, jobs: int, probe: Probe) -> None:
    async with Client(url, **OPTIONS, clock=ManualClock()) as client:
        pace_posts(client._producer._link)
        new = [NewJob("noop", bare(number)) for number in range(jobs)]
        await client.enqueue_many(new[:1_000])
        probe.begin()
        report = await client.enqueue_many(new)
        probe.end()
    assert report.accepted == jobs


async def _sync_one_by_one(url: str, jobs: int, probe: Probe) -> None:
    with SyncClient(url, **OPTIONS, clock=ManualClock()) as client:
        payloads = [bare(number) for number in range(jobs)]
        client.enqueue("noop", bare(0))
        probe.begin()
        for payload in payloads:
            client.enqueue("noop", payload)
        probe.end()


async def _sync_bulk(url: str, jobs: int, probe: Probe) -> None:
    with SyncClient(url, **OPTIONS, clock=ManualClock()) as client:
        new = [NewJob("noop", bare(number)) for number in range(jobs)]
        client.enqueue_many(new[:1_000])
        probe.begin()
        report = client.enqueue_many(new)
        probe.end()
    assert report.accepted == jobs


WORKLOADS = {
    "noop": Workload("plain jobs of one lane", 10_000, 500, _draining(_noop, _entry, warm=5_000)),
    "mixed": Workload(
        "four lanes, seven types, typed payloads of 200 B and 2 KB",
        5_000,
        500,
        _draining(_mixed, _mixed_entry, warm=3_000),
    ),
    "retry": Workload("each job fails once", 2_000, 300, _draining(_failing, _entry, warm=500)),
    "keyed": Workload("ten jobs a key", 2_000, 200, _draining(_noop, _keyed_entry, warm=500)),
    "one": Workload("enqueued one by one", 500, 100, _one_by_one, is_producer=True),
    "bulk": Workload("enqueued in bulk", 5_000, 500, _bulk, is_producer=True),
    "sync-one": Workload(
        "enqueued one by one without a loop", 500, 100, _sync_one_by_one, is_producer=True
    ),
    "sync-bulk": Workload(
        "enqueued in bulk without a loop", 5_000, 500, _sync_bulk, is_producer=True
    ),
    "idle": Workload("an engine at rest", 20, 4, _idle, unit="second"),
}
