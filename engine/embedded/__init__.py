"""
Valkey and PostgreSQL for trying out, started and stopped with the program that asks for them.

They come with the extra ``embedded``; production brings its own servers.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.embedded.ports import Ports
from engine.embedded.postgres_server import SERVER_NAMES as POSTGRES_NAMES
from engine.embedded.postgres_server import PostgresServer, postgres_programs
from engine.embedded.process import EmbeddedError, unused_port
from engine.embedded.redis_server import DURABLE_CONFIG, RedisServer, valkey_binary
from engine.embedded.redis_server import SERVER_NAMES as REDIS_NAMES

REDIS_PORT = 6390
POSTGRES_PORT = 6391

__all__ = [
    "EmbeddedError",
    "EmbeddedServers",
    "Ports",
    "PostgresServer",
    "RedisServer",
    "postgres_programs",
    "unused_port",
    "valkey_binary",
]


class EmbeddedServers:
    """
    Both servers over one directory, which survives any end of this process.

    Use it as a context manager, in the main thread and before the event loop starts: it blocks
    while servers start and stop. Whatever a killed process left running on the directory is
    stopped first.

    Args:
        directory: Where everything is kept; made when missing.
        redis_port: Loopback port of Valkey; a free one is taken when it is in use.
        postgres_port: Loopback port of PostgreSQL, likewise.

    Attributes:
        ports: Claims ports, for what is to listen beside them too.

    Raises:
        EmbeddedError: On entry, when the extra is not installed, another process holds the
            directory, or a server does not start.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        redis_port: int = REDIS_PORT,
        postgres_port: int = POSTGRES_PORT,
    ) -> None:
        self.directory = Path(directory).resolve()
        self.ports = Ports()
        self._wished = (redis_port, postgres_port)
        self._lock: int | None = None
        self._redis: RedisServer | None = None
        self._postgres: PostgresServer | None = None

    @property
    def redis_url(self) -> str:
        """Where the queues live."""
        assert self._redis is not None, "the servers were not started"
        return self._redis.url

    @property
    def postgres_url(self) -> str:
        """Where the data lives."""
        assert self._postgres is not None, "the servers were not started"
        return self._postgres.url

    def start(self) -> None:
        """Take the directory and bring both servers up."""
        programs, binary = postgres_programs(), valkey_binary()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = _take(self.directory)
        try:
            self._start(binary, programs)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop both servers and give the directory free; does nothing the second time."""
        # Both at once: neither waits for the other's last write.
        for server in self._running():
            server.ask_to_stop()
        for server in self._running():
            server.stop()
        self.ports.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _running(self) -> list[RedisServer | PostgresServer]:
        servers = (self._redis, self._postgres)
        return [server for server in servers if server is not None and server.is_running()]

    def _start(self, binary: Path, programs: Path) -> None:
        from engine.embedded.leftovers import stop_leftovers

        valkey, postgres = self.directory / "valkey", self.directory / "postgres"
        # Before the ports are looked at, which they may hold.
        stop_leftovers(valkey, REDIS_NAMES)
        stop_leftovers(postgres, POSTGRES_NAMES)
        redis_port = self.ports.near(self._wished[0], what="redis")
        postgres_port = self.ports.near(self._wished[1], what="postgres")
        self._redis = RedisServer(binary, valkey, port=redis_port, config=DURABLE_CONFIG)
        self._redis.start(wait=False)
        self._postgres = PostgresServer(programs, postgres, port=postgres_port)
        self._postgres.start(wait=False)
        self._redis.wait_ready()
        self._postgres.wait_ready()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _take(directory: Path) -> int:
    """Lock the directory until the descriptor is closed or this process ends, however it ends."""
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(lock, 32).decode() or "unknown"
        os.close(lock)
        raise EmbeddedError(
            f"{directory} is in use by process {holder}: stop that one, or use another directory"
        ) from error
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return lock
