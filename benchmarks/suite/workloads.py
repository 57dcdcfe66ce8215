"""What is measured."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["drain", "enqueue", "latency", "memory", "processes"]


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """
    One workload.

    Attributes:
        name: What it is asked for by.
        tells: What it does.
        kind: How it is measured.
        handler: What a job does.
        shape: What the backlog looks like.
        at_once: Jobs that may run at the same time.
        seconds_max: The longest that a run has to last.
        pilot_jobs_max: Most jobs of the run that tells how many a measurement takes.
        is_on_disk: Whether the server keeps an append-only file, ``everysec``.
        rate: Jobs per second; 0 for half of what the system can do.
    """

    name: str
    tells: str
    kind: Kind = "drain"
    handler: str = "noop"
    shape: str = "plain"
    at_once: int = 100
    seconds_max: float = 60.0
    pilot_jobs_max: int = 100_000
    is_on_disk: bool = False
    rate: float = 0.0


def _workloads() -> tuple[Workload, ...]:
    return (
        Workload(name="w1", tells="the handler does nothing: the cost of the system itself"),
        Workload(
            name="w1-lanes",
            tells="four lanes, seven job types with typed payloads of 200 B and 2 KB",
            shape="lanes",
        ),
        Workload(
            name="w1-keyed", tells="every job has a key, ten jobs a key, all keys in turn",
            shape="keyed", pilot_jobs_max=10_000,
        ),
        Workload(
            name="w1-keyed-near",
            tells="the same, 100 keys at a time: jobs of one key meet in the engine",
            shape="keyed-near", pilot_jobs_max=10_000,
        ),
        Workload(
            name="w1-aof", tells="w1 with the append-only file, everysec", is_on_disk=True,
        ),
        Workload(
            name="w2", tells="the handler sleeps 5 ms, 100 at a time: 20,000/s is ideal",
            handler="sleep", seconds_max=4.0, pilot_jobs_max=5_000,
        ),
        Workload(
            name="w2-1000", tells="the same with 1,000 at a time: 200,000/s is ideal",
            handler="sleep", at_once=1_000, seconds_max=4.0, pilot_jobs_max=20_000,
        ),
        Workload(
            name="w3", tells="one producer: each job awaited, and the call for many",
            kind="enqueue", seconds_max=2.5,
        ),
        Workload(
            name="w4", tells="500 jobs/s at an idle worker: from the call to the handler's start",
            kind="latency", handler="stamp", rate=500.0, seconds_max=10.0,
        ),
        Workload(
            name="w4-half", tells="the same by bare XADD at half of what w1 reached",
            kind="latency", handler="stamp", seconds_max=10.0,
        ),
        Workload(
            name="w5", tells="every job fails once and succeeds after the least delay there is",
            handler="fail_once", seconds_max=4.0, pilot_jobs_max=10_000,
        ),
        Workload(
            name="memory", tells="idle, at full load, and per waiting job", kind="memory",
        ),
        Workload(
            name="processes", tells="handlers of 20 µs of processor time: one process and two",
            kind="processes", handler="burn", seconds_max=4.0,
        ),
    )  # fmt: skip


WORKLOADS = {workload.name: workload for workload in _workloads()}
