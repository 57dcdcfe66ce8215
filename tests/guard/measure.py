"""Runs a workload under each probe and says what it takes per job."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import msgspec
import redis
import uvloop

from tests.guard.probes import Calls, Figures, Instructions, Probe, Server
from tests.guard.rig import KEYS
from tests.guard.workloads import WORKLOADS

MEASURES = {
    "commands_sent": "commands that came over a connection",
    "commands_run": "commands that the server ran, those of scripts included",
    "scripts": "EVALSHA calls",
    "socket_reads": "reads from sockets by the server",
    "socket_writes": "writes to sockets by the server",
    "bytes_in": "bytes that the server read",
    "bytes_out": "bytes that the server wrote",
    "calls": "calls of Python and C functions, those within installed packages left out",
    "instructions": "bytecode instructions, likewise",
    "held_blocks": "allocations that a job in hand holds",
    "held_objects": "objects that the garbage collector visits for a job in hand",
    "kept_blocks": "allocations that outlive the job",
    "queued_bytes": "memory of the server that a waiting job takes",
}


class Measured(msgspec.Struct, frozen=True):
    """
    What a workload takes.

    Attributes:
        figures: Per job, by measure.
        made_of: Commands and functions per job, by the measure that they explain.
    """

    figures: Figures
    made_of: dict[str, Figures]


def measure(name: str, url: str) -> Measured:
    """Run a workload once for each probe; empties the server."""
    work = WORKLOADS[name]
    server, calls, instructions = Server(url), Calls(url), Instructions()
    _run(work.run, url, work.jobs, server)
    figures, made_of = _of_server(server, work.jobs)
    if work.is_producer:
        figures["queued_bytes"] = _queued_bytes(url)
    _run(work.run, url, work.jobs, calls)
    made_of["commands_sent"] = _each(calls.sent, work.jobs)
    made_of["calls"] = _each(calls.functions, work.jobs)
    _run(work.run, url, work.traced, instructions)
    made_of["instructions"] = _each(instructions.functions, work.traced)
    for told in ("commands_sent", "calls", "instructions"):
        figures[told] = sum(made_of[told].values())
    return Measured({name: figures[name] for name in MEASURES if name in figures}, made_of)


def _run(run: Any, url: str, jobs: int, probe: Probe) -> None:
    with redis.Redis.from_url(url) as client:
        client.flushall()
        client.config_resetstat()

    async def main(work: Awaitable[None]) -> None:
        # In a task of its own, none of whose steps is anybody else's function.
        await asyncio.ensure_future(work)

    uvloop.run(main(run(url, jobs, probe)))


def _of_server(server: Server, jobs: int) -> tuple[Figures, dict[str, Figures]]:
    figures = _each(server.figures, jobs)
    figures["commands_run"] = sum(server.commands.values()) / jobs
    figures["scripts"] = server.commands.get("evalsha", 0) / jobs
    figures["kept_blocks"] = max(0, server.kept_blocks) / jobs
    if server.held is not None:
        figures["held_blocks"], figures["held_objects"] = server.held
    return figures, {"commands_run": _each(server.commands, jobs)}


def _queued_bytes(url: str) -> float:
    lane = KEYS.lane("normal")
    with redis.Redis.from_url(url) as client:
        return float(client.memory_usage(lane, samples=0)) / client.xlen(lane)


def _each(totals: Figures, jobs: int) -> Figures:
    return {name: count / jobs for name, count in totals.items()}
