"""
Child servers: started in a session of their own, ended by their own pid.

A child does not receive the terminal's Ctrl-C, so that the daemon drains before its servers stop.
On Linux the kernel ends it when the thread that started it is gone, as after a kill; elsewhere the
next start finds it by its working directory and stops it.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from engine.clock import SystemClock
from engine.embedded import launch
from engine.errors import EngineError

LOOPBACK = "127.0.0.1"
START_S = 60.0
STOP_S = 30.0
LOG_TAIL_BYTES = 2_000
LOG_BYTES_MAX = 8 * 1024 * 1024

# Both servers end on it in an orderly way; PostgreSQL would wait for its clients on SIGTERM.
STOP_SIGNAL = signal.SIGINT

# Below the range from which systems draw ports for outgoing connections: a client that keeps
# reconnecting to a server that is down could otherwise be given that very port and meet itself.
FIRST_PORT = 20_000
PORTS = 10_000

_monotonic = SystemClock().monotonic
_next_port = itertools.count(os.getpid() * 37)


class EmbeddedError(EngineError):
    """An embedded server cannot be found, started or stopped."""


class User(NamedTuple):
    """The user as which a server runs when we are root."""

    uid: int
    gid: int


def package_directory(package: str, *, what: str) -> Path:
    """
    Find an installed package without importing it; its servers are all we want of it.

    Raises:
        EmbeddedError: The extra ``embedded`` is not installed.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise EmbeddedError(
            f"the embedded {what} is not installed: pip install 'streamlane[embedded]'"
        )
    return Path(found.submodule_search_locations[0])


def port_is_free(port: int) -> bool:
    """Say whether a server could listen on a loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def unused_port() -> int:
    """Find a loopback port on which nothing listens, outside the range of outgoing connections."""
    for _ in range(PORTS):
        port = FIRST_PORT + next(_next_port) % PORTS
        if port_is_free(port):
            return port
    raise EmbeddedError(f"no free port between {FIRST_PORT} and {FIRST_PORT + PORTS - 1}")


def wait_until(is_true: Callable[[], bool], *, limit_s: float) -> bool:
    """Ask every few milliseconds until the answer is yes; False once the limit has passed."""
    limit = _monotonic() + limit_s
    while not is_true():
        if _monotonic() >= limit:
            return False
        time.sleep(0.005)
    return True


def spawn(
    arguments: Sequence[str | Path],
    *,
    directory: Path,
    log: Path,
    death_signal: signal.Signals,
    run_as: User | None = None,
) -> subprocess.Popen[bytes]:
    """
    Start a server in a session of its own, its output appended to a log file.

    Args:
        arguments: The program and its arguments.
        directory: Its working directory, by which a later start finds it.
        log: Started afresh once it is over 8 MiB.
        death_signal: What it receives when the calling thread ends before it (Linux).
        run_as: User to change to; only root can.
    """
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.unlink()
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - programs of our own wheels, no shell
            command(arguments, death_signal=death_signal, run_as=run_as),
            cwd=directory,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def command(
    arguments: Sequence[str | Path], *, death_signal: signal.Signals, run_as: User | None
) -> list[str]:
    """Build the command that starts a program by way of :mod:`engine.embedded.launch`."""
    uid, gid = run_as or (-1, -1)
    first = [os.getpid(), int(death_signal), uid, gid]
    python = [sys.executable, "-I", "-S", launch.__file__]
    return [*python, *map(str, first), *map(str, arguments)]


def environment() -> dict[str, str]:
    """Return our environment with plain sorting and messages, whatever the machine's language."""
    return {**os.environ, "LC_ALL": "C"}


def ask_to_stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a child to write what it holds and end."""
    if process.poll() is None:
        process.send_signal(STOP_SIGNAL)
        # A paused child could not act on it.
        process.send_signal(signal.SIGCONT)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a child and reap it: first by a signal it can act on, then by SIGKILL."""
    ask_to_stop(process)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def log_tail(log: Path) -> str:
    """Return the last lines of a server's log, for a message that says why it did not start."""
    if not log.exists():
        return ""
    return log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
