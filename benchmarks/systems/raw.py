"""
No job system: the least that a Python program can do with a stream.

A protocol over the parser of hiredis reads 256 entries at a time, calls a plain function for each,
and acknowledges and deletes them with one write. The next read is under way before the entries at
hand are looked at. A job that fails is appended again. There are no leases, attempts, time limits,
records or metrics, so nothing that keeps promises can be expected to reach it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis
import msgspec
import uvloop

from benchmarks.systems.base import UvloopSystem
from benchmarks.systems.payloads import SIZES, SMALL_BYTES, Commands, Payload, command
from benchmarks.systems.produce import fill_bare, pace_bare
from benchmarks.systems.recorder import FirstAttempt, Recorder
from benchmarks.systems.request import Request

STREAM, GROUP = "raw", b"g"
KEY = STREAM.encode()
READ_JOBS = 256
READ = command(
    *(b"XREADGROUP", b"GROUP", GROUP, b"c", b"COUNT", b"%d" % READ_JOBS),
    *(b"BLOCK", b"5000", b"STREAMS", KEY, b">"),
)
ADD = command(b"XADD", KEY, b"*", b"data", b"")[: -len(b"$0\r\n\r\n")]

Entry = tuple[bytes, list[bytes]]


class Connection(asyncio.Protocol):
    """Commands out, replies in, each to the callback that waits for it."""

    transport: asyncio.WriteTransport

    def __init__(self) -> None:
        self._parser = hiredis.Reader()
        self._waiting: deque[Callable[[Any], None]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Of uvloop's own kind, so nothing can be checked.
        self.transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        while (reply := self._parser.gets()) is not False:
            self._waiting.popleft()(reply)

    def send(self, data: bytes, *callbacks: Callable[[Any], None]) -> None:
        """Write commands, with one callback for each."""
        self._waiting.extend(callbacks)
        self.transport.write(data)

    def call(self, data: bytes, commands: int = 1) -> asyncio.Future[Any]:
        """Write commands and return the reply of the last."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.send(data, *[ignore] * (commands - 1), reply.set_result)
        return reply


def ignore(_reply: object) -> None:
    """Take a reply that nobody waits for."""


async def connect(request: Request) -> Connection:
    """Open one connection."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, "127.0.0.1", request.port)
    return connection


def settled(ids: list[bytes]) -> bytes:
    """Write the commands that end jobs."""
    return command(b"XACK", KEY, GROUP, *ids) + command(b"XDEL", KEY, *ids)


def bare(request: Request) -> None:
    """Append jobs without a client; lanes and types are one stream here, sizes stay mixed."""
    if request.role == "pace":
        pace_bare(request, STREAM, "")
        return
    sizes = SIZES if request.shape == "lanes" else (SMALL_BYTES,)
    fill_bare(request, Commands([STREAM], [("", size) for size in sizes]))


class Raw(UvloopSystem):
    """A plain call per job."""

    bulk_jobs = 1_000

    async def open(self) -> None:
        self._connection = await connect(self.request)
        self._encode = msgspec.json.Encoder().encode

    async def close(self) -> None:
        self._connection.transport.close()

    async def put(self, payload: Payload) -> None:
        data = self._encode(payload)
        await self._connection.call(ADD + b"$%d\r\n%b\r\n" % (len(data), data))

    async def put_many(self, payloads: list[Payload]) -> None:
        encode = self._encode
        written = [encode(payload) for payload in payloads]
        text = b"".join([ADD + b"$%d\r\n%b\r\n" % (len(data), data) for data in written])
        await self._connection.call(text, len(written))

    def work(self, recorder: Recorder) -> None:
        uvloop.run(self._work(recorder))

    async def _work(self, recorder: Recorder) -> None:
        reads, writes = await connect(self.request), await connect(self.request)
        await writes.call(command(b"XGROUP", b"CREATE", KEY, GROUP, b"0", b"MKSTREAM"))
        self._serve(recorder, reads, writes)
        await asyncio.Event().wait()

    def _serve(self, recorder: Recorder, reads: Connection, writes: Connection) -> None:
        handler, decode = recorder.function(), msgspec.json.Decoder().decode

        def on_entries(reply: Any) -> None:
            reads.send(READ, on_entries)
            if not reply:
                return
            ids: list[bytes] = []
            again: list[bytes] = []
            for entry_id, fields in reply[0][1]:
                try:
                    handler(decode(fields[1]))
                except FirstAttempt:
                    again.append(ADD + b"$%d\r\n%b\r\n" % (len(fields[1]), fields[1]))
                ids.append(entry_id)
            again.append(settled(ids))
            writes.send(b"".join(again), *[ignore] * (len(again) + 1))

        reads.send(READ, on_entries)


SYSTEM = Raw
