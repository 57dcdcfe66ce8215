"""
Several engine processes, one per core.

Each child is an engine of its own, with its own name, connections and HTTP port: the first serves
the configured port, the others the ones after it (or any free one where the port is 0), and
``/sd`` of each lists them all. A child that ends unasked is started again after a growing pause.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

from engine.clock import Clock, SystemClock
from engine.logs import get_logger
from engine.runtime.service_manager import FamilyReport, service_manager
from engine.settings import EngineSettings, http_address

log = get_logger("engine")

PAUSE_S_MAX = 10.0
SETTLED_S = 30.0
LOOK_S = 0.2


class Child:
    """
    One engine process.

    Args:
        command: What starts it.
        environ: Its environment.
        clock: Time.
    """

    def __init__(self, command: Sequence[str], environ: dict[str, str], clock: Clock) -> None:
        self._command = list(command)
        self._environ = environ
        self._clock = clock
        self._failures = 0
        self._due: float | None = None
        self._began = clock.monotonic()
        self.process = self._start()

    def revive(self) -> None:
        """Start it again once it has ended and its pause is over; never waits."""
        code = self.process.poll()
        if code is None:
            return
        now = self._clock.monotonic()
        if self._due is None:
            self._failures = 0 if now - self._began > SETTLED_S else self._failures + 1
            pause_s = self._pause()
            self._due = now + pause_s
            log.warning(
                "engine_ended", pid=self.process.pid, code=code, restart_s=round(pause_s, 1)
            )
        elif now >= self._due:
            self._restart(now)

    def _restart(self, now: float) -> None:
        try:
            self.process = self._start()
        except OSError as error:
            # No memory or no process to be had: the other children go on.
            self._failures += 1
            self._due = now + self._pause()
            log.error("engine_not_started", error=error)
        else:
            self._began, self._due = now, None

    def _pause(self) -> float:
        doublings = min(10, max(0, self._failures - 1))
        return float(min(PAUSE_S_MAX, 0.5 * 2**doublings) * (0.5 + self._clock.draw()))

    def _start(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C reaches the supervisor alone, which passes it on once.
        return subprocess.Popen(  # noqa: S603 - our own command line
            self._command, env=self._environ, start_new_session=True
        )


def supervise(
    settings: EngineSettings,
    arguments: Sequence[str],
    *,
    environ: Mapping[str, str] | None = None,
    burst: bool = False,
    clock: Clock | None = None,
) -> int:
    """
    Run ``settings.processes`` engines until SIGTERM or Ctrl-C, and pass the signal on.

    Args:
        settings: Settings of the engines.
        arguments: The command line of each child, which everybody on the machine can read.
        environ: Further variables of each child, for what has to stay secret.
        burst: Children end by themselves and are not started again.
        clock: Time.

    Returns:
        The worst exit code of the children.
    """
    clock = clock or SystemClock()
    manager = service_manager(os.environ)
    report = FamilyReport(manager, settings.processes, clock) if manager is not None else None
    command = [sys.executable, "-m", "engine", *arguments, "--processes", "1"]
    stop = threading.Event()
    # Before the first child: a signal that comes now must not leave it behind.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    children = [
        Child(
            command,
            {
                **environment(settings, index),
                **(environ or {}),
                **(report.environ(index) if report is not None else {}),
            },
            clock,
        )
        for index in range(settings.processes)
    ]

    def look() -> None:
        if report is not None:
            report.look([child.process for child in children])

    try:
        return _until_stopped(children, stop, report, look, burst=burst)
    finally:
        if report is not None:
            report.close()


def _until_stopped(
    children: Sequence[Child],
    stop: threading.Event,
    report: FamilyReport | None,
    look: Callable[[], None],
    *,
    burst: bool,
) -> int:
    """Keep the children running, and return the worst of their exit codes."""
    while not stop.wait(LOOK_S):
        look()
        codes = [code for child in children if (code := child.process.poll()) is not None]
        if burst and len(codes) == len(children):
            return max(map(abs, codes))
        for child in children if not burst else ():
            child.revive()
    if report is not None:
        report.stopping()
    for child in children:
        if child.process.poll() is None:
            child.process.send_signal(signal.SIGTERM)
    return max(abs(_ended(child.process, look)) for child in children)


def _ended(process: subprocess.Popen[bytes], look: Callable[[], None]) -> int:
    """Wait for the end of a child without falling silent."""
    while True:
        try:
            return process.wait(LOOK_S)
        except subprocess.TimeoutExpired:
            look()


def environment(settings: EngineSettings, index: int) -> dict[str, str]:
    """Build one child's environment: its own name, its own HTTP port, and whom to outlive not."""
    # An engine stops once this process is no longer its parent, so SIGKILL leaves none behind.
    environ = {**os.environ, "ENGINE_PARENT": str(os.getpid())}
    if settings.name:
        environ["ENGINE_NAME"] = f"{settings.name}-{index + 1}"
    if settings.http:
        host, port = http_address(settings.http)
        environ["ENGINE_HTTP"] = f"{host}:{port + index if port else 0}"
    return environ
