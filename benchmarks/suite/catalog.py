"""The systems that can be measured, and what each is measured with."""

from __future__ import annotations

import msgspec

COMMON = ("w1", "w2", "w2-1000", "w3", "w4", "w5")
OURS = (
    *COMMON,
    "w1-lanes",
    "w1-keyed",
    "w1-keyed-near",
    "w1-aof",
    "w4-half",
    "memory",
    "processes",
)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """
    One system.

    Attributes:
        name: Its name, which is that of its module in :mod:`benchmarks.systems`.
        tells: What it is, and how it is set.
        packages: What pip or npm installs; the first is the system itself. Without packages, it
            runs in this repository's own environment.
        runtime: ``python`` or ``node``.
        workloads: What it can be asked.
        pilot_jobs: Jobs of the run that tells how many a measurement takes.
        slack_jobs: Jobs beyond those that are counted, where some get lost on the way.
        is_peer: Whether it is a job system of others.
    """

    name: str
    tells: str
    packages: tuple[str, ...] = ()
    runtime: str = "python"
    workloads: tuple[str, ...] = COMMON
    pilot_jobs: int = 2_000
    slack_jobs: int = 0
    is_peer: bool = True


def _entries() -> tuple[Entry, ...]:
    return (
        Entry(
            name="raw",
            tells="no job system: reads, calls, acknowledges",
            workloads=("w1", "w1-lanes", "w1-aof", "w3", "w4", "w4-half", "w5"),
            pilot_jobs=100_000,
            is_peer=False,
        ),
        Entry(
            name="raw_task",
            tells="the same with an asyncio task per job: the practical limit",
            workloads=("w1", "w1-lanes", "w1-aof", "w2", "w2-1000", "w4", "w4-half"),
            pilot_jobs=100_000,
            is_peer=False,
        ),
        Entry(
            name="streamlane",
            tells="every guarantee on, HTTP side on",
            workloads=OURS,
            pilot_jobs=60_000,
            is_peer=False,
        ),
        Entry(
            name="bullmq_node",
            tells="BullMQ on Node: 100 at a time, ended jobs removed",
            packages=("bullmq@6", "ioredis"),
            runtime="node",
            pilot_jobs=20_000,
        ),
        Entry(
            name="dramatiq",
            tells="32 threads, or as many as sleep; 1,000 fetched ahead",
            packages=("dramatiq[redis]", "hiredis"),
        ),
        Entry(
            name="taskiq_stream",
            tells="taskiq over streams: 100 at a time, 1,000 fetched ahead, orjson",
            packages=("taskiq", "taskiq-redis", "hiredis", "uvloop", "orjson"),
        ),
        Entry(
            name="arq",
            tells="100 at a time, looks for jobs every ms",
            packages=("arq", "hiredis", "uvloop"),
            pilot_jobs=1_000,
        ),
        Entry(
            name="saq",
            tells="30 at a time, or as many as sleep; no timers, no results",
            packages=("saq[redis,hiredis]", "uvloop", "typing_extensions"),
            slack_jobs=40,
        ),
        Entry(
            name="streaq",
            tells="100 at a time and ahead, no results",
            packages=("streaq", "hiredis", "uvloop"),
        ),
        Entry(
            name="celery",
            tells="solo pool, or greenlets that sleep; acknowledged when taken",
            packages=("celery[redis]", "hiredis", "gevent"),
        ),
    )


ENTRIES = {entry.name: entry for entry in _entries()}
