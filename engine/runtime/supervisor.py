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
from collections.abc import Sequence

from engine.clock import Clock, SystemClock
from engine.logs import get_logger
from engine.settings import EngineSettings, http_address

log = get_logger("engine")

PAUSE_S_MAX = 10.0
SETTLED_S = 30.0


class Child:
    """
    One engine process.

    Args:
        command: What starts it.
        environ: Its environment.
    """

    def __init__(self, command: Sequence[str], environ: dict[str, str]) -> None:
        self._command = list(command)
        self._environ = environ
        self.process = self._start()
        self.began = 0.0
        self.failures = 0

    def restart(self) -> None:
        """Start it anew."""
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C reaches the supervisor alone, which passes it on once.
        return subprocess.Popen(  # noqa: S603 - our own command line
            self._command, env=self._environ, start_new_session=True
        )


def supervise(
    settings: EngineSettings,
    arguments: Sequence[str] | None = None,
    *,
    burst: bool = False,
    clock: Clock | None = None,
) -> int:
    """
    Run ``settings.processes`` engines until SIGTERM or Ctrl-C, and pass the signal on.

    Args:
        settings: Settings of the engines.
        arguments: The command line of each child; the present one if left out.
        burst: Children end by themselves and are not started again.
        clock: Time.

    Returns:
        The worst exit code of the children.
    """
    clock = clock or SystemClock()
    command = [sys.executable, "-m", "engine", *(sys.argv[1:] if arguments is None else arguments)]
    stop = threading.Event()
    # Before the first child: a signal that comes now must not leave it behind.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    children = [
        Child([*command, "--processes", "1"], environment(settings, index))
        for index in range(settings.processes)
    ]
    codes: list[int] = []
    while not stop.wait(0.2):
        codes = [code for child in children if (code := child.process.poll()) is not None]
        if burst and len(codes) == len(children):
            return max(map(abs, codes))
        if not burst:
            _revive(children, stop, clock)
    for child in children:
        if child.process.poll() is None:
            child.process.send_signal(signal.SIGTERM)
    return max(abs(child.process.wait()) for child in children)


def environment(settings: EngineSettings, index: int) -> dict[str, str]:
    """Build one child's environment: its own name and its own HTTP port."""
    environ = dict(os.environ)
    if settings.name:
        environ["ENGINE_NAME"] = f"{settings.name}-{index + 1}"
    if settings.http:
        host, port = http_address(settings.http)
        environ["ENGINE_HTTP"] = f"{host}:{port + index if port else 0}"
    return environ


def _revive(children: Sequence[Child], stop: threading.Event, clock: Clock) -> None:
    """Start children again that have ended unasked."""
    for child in children:
        code = child.process.poll()
        if code is None:
            continue
        lasted = clock.monotonic() - child.began
        child.failures = 0 if lasted > SETTLED_S else child.failures + 1
        pause_s = min(PAUSE_S_MAX, 0.5 * 2**child.failures) * (0.5 + clock.draw())
        log.warning("engine_ended", pid=child.process.pid, code=code, restart_s=round(pause_s, 1))
        if stop.wait(pause_s):
            return
        child.began = clock.monotonic()
        child.restart()
