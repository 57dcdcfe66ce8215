"""
What systemd is told of a daemon, over the datagram socket that it names in ``NOTIFY_SOCKET``.

Ready once the engine serves its queues, a line on how it is, that it stops, and the watchdog's food
for as long as the event loop turns. Without the variable nothing here runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Protocol

from engine.clock import Clock
from engine.logs import get_logger

log = get_logger("engine")

STATUS_S = 5.0
START_S = 30.0
BYTES_MAX = 4_096


class Health(Protocol):
    """Knows how an engine is."""

    def status(self) -> str: ...


class Served(Protocol):
    """The engine of which is told."""

    @property
    def stopping(self) -> bool: ...
    @property
    def state(self) -> str: ...
    @property
    def vitals(self) -> Health: ...


class ServiceManager:
    """
    The line to the service manager.

    Args:
        address: Its socket, as a path or an abstract name that begins with ``@``.
        watchdog_s: Silence after which it ends this process; 0 where it watches nothing.
    """

    def __init__(self, address: str, *, watchdog_s: float = 0.0) -> None:
        self.watchdog_s = watchdog_s
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._unsent: dict[str, str] = {}
        self._trouble = ""

    @property
    def pause_s(self) -> float:
        """How long to wait between two reports: at most half of what the watchdog bears."""
        return min(STATUS_S, self.watchdog_s / 2) if self.watchdog_s else STATUS_S

    def tell(self, **facts: str) -> None:
        """Send facts without waiting; what does not get through goes with the next ones."""
        self._unsent.update(facts)
        text = "\n".join(f"{name}={said}" for name, said in self._unsent.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                line.setblocking(False)
                line.sendto(text.encode()[:BYTES_MAX], self._address)
        except OSError as error:
            if str(error) != self._trouble:
                log.warning("service_manager_unreachable", error=str(error))
            self._trouble = str(error)
        else:
            self._unsent.clear()
            self._trouble = ""

    def feed(self, status: str) -> None:
        """Tell how the daemon is, and that it lives."""
        food = {"WATCHDOG": "1"} if self.watchdog_s else {}
        self.tell(STATUS=" ".join(status.split()), **food)

    def extend_start(self) -> None:
        """Ask for more time to start, as long as a server or a database is waited for."""
        self.tell(EXTEND_TIMEOUT_USEC=str(round(START_S * 1e6)))

    async def report(self, engine: Served) -> None:
        """Tell of an engine until cancelled; a loop that stands still tells nothing."""
        told_stopping = False
        while True:
            if engine.stopping and not told_stopping:
                self.tell(STOPPING="1")
                told_stopping = True
            elif engine.state == "starting":
                self.extend_start()
            self.feed(engine.vitals.status())
            await asyncio.sleep(self.pause_s)


def service_manager(environ: MutableMapping[str, str]) -> ServiceManager | None:
    """
    Find the service manager that started this process, and take its variables away.

    What this process starts must not speak in its name.
    """
    address = environ.pop("NOTIFY_SOCKET", "")
    usec, of = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not address:
        return None
    if address[0] not in "/@":
        log.warning("service_manager_unknown", address=address)
        return None
    watches = usec.isdigit() and of in {"", str(os.getpid())}
    return ServiceManager(address, watchdog_s=int(usec) / 1e6 if watches else 0.0)


class ChildLine:
    """
    Where one child of the supervisor reports, on a socket that is its alone.

    Args:
        path: The socket.
        watchdog_s: Silence after which the child counts as frozen; 0 for never.
    """

    def __init__(self, path: Path, *, watchdog_s: float) -> None:
        self.ready = False
        self.extends = False
        self._path = path
        self._watchdog_s = watchdog_s
        self._pid = 0
        self._fed_at = 0.0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))

    def environ(self) -> dict[str, str]:
        """What the child finds this line by."""
        watch = {"WATCHDOG_USEC": str(round(self._watchdog_s * 1e6))} if self._watchdog_s else {}
        return {"NOTIFY_SOCKET": str(self._path), **watch}

    def look(self, process: subprocess.Popen[bytes], now: float) -> None:
        """Hear what the child said, and end it if it said nothing for too long."""
        if process.pid != self._pid:
            self._pid, self.ready = process.pid, False
        self.extends = False
        for facts in self._heard():
            self._fed_at = now
            self.ready = self.ready or facts.get("READY") == "1"
            self.extends = self.extends or "EXTEND_TIMEOUT_USEC" in facts
        silent_s = now - self._fed_at
        if self.ready and self._watchdog_s and silent_s > self._watchdog_s:
            log.error("engine_frozen", pid=self._pid, silent_s=round(silent_s, 1))
            self.ready = False
            # As systemd does to a service; the supervisor starts another one.
            process.send_signal(signal.SIGABRT)

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def _heard(self) -> list[dict[str, str]]:
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                lines = self._socket.recv(BYTES_MAX).decode(errors="replace").splitlines()
                found.append(dict(line.partition("=")[::2] for line in lines))
        return found


class FamilyReport:
    """
    Tells of several engines as of one service: ready once each of them is.

    Args:
        manager: Whom to tell.
        count: Number of engines.
        clock: Time.
    """

    def __init__(self, manager: ServiceManager, count: int, clock: Clock) -> None:
        self._manager = manager
        self._clock = clock
        self._directory = tempfile.TemporaryDirectory(prefix="streamlane-")
        directory = Path(self._directory.name)
        watchdog_s = manager.watchdog_s
        self._lines = [
            ChildLine(directory / f"{n}.sock", watchdog_s=watchdog_s) for n in range(count)
        ]
        self._was_ready = False
        self._told_at = float("-inf")

    def environ(self, index: int) -> Mapping[str, str]:
        """Further variables of a child."""
        return self._lines[index].environ()

    def look(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        """Hear all children, and pass on what the service manager has to know."""
        now = self._clock.monotonic()
        for line, process in zip(self._lines, processes, strict=True):
            line.look(process, now)
        ready = sum(line.ready for line in self._lines)
        if not self._was_ready and ready == len(self._lines):
            self._was_ready = True
            self._manager.tell(READY="1")
        elif not self._was_ready and any(line.extends for line in self._lines):
            self._manager.extend_start()
        if now - self._told_at >= self._manager.pause_s:
            self._told_at = now
            self._manager.feed(f"{ready} of {len(self._lines)} engines serve")

    def stopping(self) -> None:
        """Tell that the engines are stopped."""
        self._manager.tell(STOPPING="1")

    def close(self) -> None:
        """Let go of the children's lines."""
        for line in self._lines:
            line.close()
        self._directory.cleanup()
