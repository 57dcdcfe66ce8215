"""The server of one measurement, and what it says about itself."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import redis

from benchmarks.suite.cores import on
from benchmarks.systems.recorder import cpu_of
from engine.embedded import RedisServer, valkey_binary
from engine.embedded.redis_server import DURABLE_CONFIG

OWN_COMMANDS = frozenset({"info", "ping", "client|reply", "client|setinfo"})
"""What the measurement itself asks."""


class Snapshot(msgspec.Struct, frozen=True):
    """
    What the server has done so far.

    Attributes:
        calls: Commands by name, those that scripts call included.
        reads: Socket reads that brought something.
        bytes_in: Bytes received.
        bytes_out: Bytes sent.
        memory: Bytes in use.
    """

    calls: dict[str, int]
    reads: int
    bytes_in: int
    bytes_out: int
    memory: int


class MeasuredServer:
    """
    One Valkey, fresh and without data.

    Args:
        server: The running server.
    """

    def __init__(self, server: RedisServer) -> None:
        self._client: Any = redis.Redis.from_url(server.url)
        self.url = server.url
        self.pid = server.pid

    def cpu(self) -> float:
        """Read the seconds of processor time that it has used."""
        return cpu_of(self.pid)

    def snapshot(self) -> Snapshot:
        """Ask what it has done."""
        stats, calls = self._client.info("stats"), self._client.info("commandstats")
        return Snapshot(
            calls={
                name.removeprefix("cmdstat_"): row["calls"]
                for name, row in calls.items()
                if name.removeprefix("cmdstat_") not in OWN_COMMANDS
            },
            reads=stats["total_reads_processed"],
            bytes_in=stats["total_net_input_bytes"],
            bytes_out=stats["total_net_output_bytes"],
            memory=self._client.info("memory")["used_memory"],
        )

    def has(self, key: str) -> bool:
        """Say whether a key is there."""
        return bool(self._client.exists(key))

    def version(self) -> str:
        """Name it."""
        info = self._client.info("server")
        return f"Valkey {info['valkey_version']}"

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


@contextlib.contextmanager
def fresh_server(chosen: frozenset[int], *, is_on_disk: bool) -> Iterator[MeasuredServer]:
    """Start a server of its own for one measurement, and end it with its data."""
    with tempfile.TemporaryDirectory(prefix="streamlane-bench-") as directory:
        config = {"loglevel": "warning", **(DURABLE_CONFIG if is_on_disk else {})}
        server = RedisServer(valkey_binary(), Path(directory), config=config)
        with on(chosen):
            server.start()
        measured = MeasuredServer(server)
        try:
            yield measured
        finally:
            measured.close()
            # What it holds is of no use, so it need not write it.
            if server.process is not None:
                server.process.kill()
            server.stop()
