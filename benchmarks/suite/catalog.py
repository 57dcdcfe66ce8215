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
    )


ENTRIES = {entry.name: entry for entry in _entries()}
