"""The producers of the measurements, over any system's client or by bare commands."""

from __future__ import annotations

import asyncio
import inspect
import socket
import time
from typing import Any

from benchmarks.systems.base import System
from benchmarks.systems.payloads import SMALL_BYTES, Commands, command, pattern, payload, xadd
from benchmarks.systems.recorder import cpu_of, own_cpu
from benchmarks.systems.request import WARM_JOBS, Request, leave

STRETCH = 2_000
"""Bare commands of one write."""

IN_FLIGHT = 50
"""Jobs on their way at a time, where a backlog is filled without a call for many."""

BURST_S = 0.0005
"""Time between two writes of bare commands at a rate."""

WARM_LIMIT_S = 60.0


async def produce(system: System, request: Request) -> None:
    """Do what is asked, through the system's client."""
    await _settled(system.open())
    if request.role == "fill":
        await _fill(system, request.jobs)
        result: dict[str, Any] = {}
    elif request.role == "enqueue":
        result = await _enqueue(system, request)
    else:
        result = await _pace(system, request)
    await _settled(system.close())
    leave(request.out, result)


async def _settled(made: Any) -> None:
    if inspect.isawaitable(made):
        await made


async def _fill(system: System, jobs: int) -> None:
    for start in range(0, jobs, system.bulk_jobs):
        stretch = [payload(number) for number in range(start, min(jobs, start + system.bulk_jobs))]
        if system.has_bulk:
            await _settled(system.put_many(stretch))
        elif system.is_async:
            await _some_at_a_time(system, stretch)
        else:
            for each in stretch:
                system.put(each)


async def _some_at_a_time(system: System, stretch: list[dict[str, Any]]) -> None:
    waiting = iter(stretch)

    async def hand_over() -> None:
        for each in waiting:
            await system.put(each)

    await asyncio.gather(*(hand_over() for _ in range(IN_FLIGHT)))


async def _enqueue(system: System, request: Request) -> dict[str, float]:
    """Enqueue the same jobs over and over until the time is up; none where there is no call."""
    if request.bulk and not system.has_bulk:
        return {"jobs": 0}
    jobs = [payload(number) for number in range(10_000, 10_000 + system.bulk_jobs)]
    turn = jobs if request.bulk else jobs[:IN_FLIGHT]
    await _once(system, turn, bulk=request.bulk)
    cpu, server_cpu, began = own_cpu(), cpu_of(request.server_pid), time.monotonic()
    done = 0
    while (took := time.monotonic() - began) < request.seconds:
        await _once(system, turn, bulk=request.bulk)
        done += len(turn)
    return {
        "jobs": done,
        "at": took,
        "cpu": own_cpu() - cpu,
        "server_cpu": cpu_of(request.server_pid) - server_cpu,
    }


async def _once(system: System, jobs: list[dict[str, Any]], *, bulk: bool) -> None:
    if bulk:
        await _settled(system.put_many(jobs))
    elif system.is_async:
        for each in jobs:
            await system.put(each)
    else:
        for each in jobs:
            system.put(each)


async def _pace(system: System, request: Request) -> dict[str, float]:
    """Enqueue at a rate, without waiting for the job before, as independent users would."""
    for number in range(WARM_JOBS):
        await _settled(system.put(payload(-1 - number, time.monotonic_ns())))
    await _warm(request)
    late, began, running = 0.0, time.monotonic(), set[asyncio.Task[None]]()
    for number in range(request.jobs):
        due = began + number / request.rate
        if (left := due - time.monotonic()) > 0:
            await asyncio.sleep(left)
        late = max(late, time.monotonic() - due)
        job = payload(number, time.monotonic_ns())
        if not system.is_async:
            system.put(job)
            continue
        task = asyncio.ensure_future(system.put(job))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    return {"late_ms": late * 1e3}


async def _warm(request: Request) -> None:
    limit = time.monotonic() + WARM_LIMIT_S
    while not request.warm.exists():
        if time.monotonic() > limit:
            raise SystemExit("the worker did not take the first jobs")
        await asyncio.sleep(0.05)


def fill_bare(request: Request, commands: Commands) -> None:
    """Append a backlog by bare commands, as any language can."""
    with _mute(request) as connection:
        for start in range(0, request.jobs, STRETCH):
            connection.sendall(commands.of(range(start, min(request.jobs, start + STRETCH))))
        _listen(connection)
    leave(request.out, {})


def pace_bare(request: Request, stream: str, job_type: str) -> None:
    """Append bare entries at a rate, some with each write where there are many."""
    with _mute(request) as connection:
        now = time.monotonic_ns()
        open_ = _stamped(stream, job_type, digits=len(str(now)), number=b"-1")
        connection.sendall(b"".join(open_ % now for _ in range(WARM_JOBS)))
        asyncio.run(_warm(request))
        late = _bursts(connection, request, stream, job_type)
        _listen(connection)
    leave(request.out, {"late_ms": late * 1e3})


def _bursts(connection: socket.socket, request: Request, stream: str, job_type: str) -> float:
    late, began, sent = 0.0, time.monotonic(), 0
    least = BURST_S if request.rate * BURST_S > 1 else 0.0
    open_, digits = b"", 0
    while sent < request.jobs:
        now = time.monotonic()
        due = min(request.jobs, int((now - began) * request.rate) + 1)
        if due > sent:
            late = max(late, now - began - sent / request.rate)
            stamp = time.monotonic_ns()
            if len(str(stamp)) != digits:
                digits = len(str(stamp))
                open_ = _stamped(stream, job_type, digits=digits, number=b"0")
            connection.sendall((open_ % stamp) * (due - sent))
            sent = due
        time.sleep(max(least, began + sent / request.rate - time.monotonic()))
    return late


def _stamped(stream: str, job_type: str, *, digits: int, number: bytes) -> bytes:
    """Write an entry that leaves open when it was sent."""
    written = pattern(SMALL_BYTES, len(number), digits)
    fields = {"type": job_type.encode()} if job_type else {}
    made = xadd(stream, {**fields, "data": b"N" * SMALL_BYTES})
    return made.replace(b"N" * SMALL_BYTES, written.replace(b'"id":%d', b'"id":' + number))


def _mute(request: Request) -> socket.socket:
    """Connect without being sent replies; what arrived is counted by the measurement."""
    connection = socket.create_connection(("127.0.0.1", request.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(command(b"CLIENT", b"REPLY", b"OFF"))
    return connection


def _listen(connection: socket.socket) -> None:
    """Wait until everything that was sent is done."""
    connection.sendall(command(b"CLIENT", b"REPLY", b"ON"))
    told = connection.recv(64)
    if not told.startswith(b"+OK"):
        raise SystemExit(f"the server said {told!r}")
