"""Real engines, as processes of their own: started, asked, frozen, killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from engine.embedded import unused_port

ROOT = Path(__file__).parents[2]
APP = "tests.support.ledger_app:build"

SHORT_LEASES = {
    "ENGINE_LEASE_MS": "1500",
    "ENGINE_RENEW_MS": "500",
    "ENGINE_RECLAIM_MS": "200",
}
BASE = {
    "ENGINE_LOG_FORMAT": "json",
    "ENGINE_BLOCK_MS": "200",
    "ENGINE_SOCKET_TIMEOUT_MS": "1000",
    "ENGINE_CONNECT_TIMEOUT_MS": "1000",
    "ENGINE_RECONNECT_MS_MAX": "300",
    "ENGINE_GRACE_S": "5",
}


class Readiness(NamedTuple):
    """An answer of ``/ready``."""

    status: int
    body: dict[str, Any]

    @property
    def is_ready(self) -> bool:
        return self.status == 200

    @property
    def text(self) -> str:
        return json.dumps(self.body)


class Daemon:
    """
    One ``python -m engine run``.

    Args:
        directory: Where it writes its log and the ledger.
        redis_url: The server, or a proxy in front of it.
        app: The handlers.
        arguments: Further words of its command line.
        environ: Further variables, which win.
    """

    def __init__(
        self,
        directory: Path,
        redis_url: str,
        *,
        app: str = APP,
        arguments: tuple[str, ...] = (),
        environ: dict[str, str] | None = None,
    ) -> None:
        self.port = unused_port()
        self.log = directory / f"engine-{self.port}.log"
        self._command = [sys.executable, "-m", "engine", "run", "--app", app, *arguments]
        self._environ = {
            **{name: text for name, text in os.environ.items() if not name.startswith("ENGINE_")},
            "LEDGER_FILE": str(directory / "ledger"),
            "ENGINE_REDIS_URL": redis_url,
            "ENGINE_HTTP": f"127.0.0.1:{self.port}",
            **BASE,
            **(environ or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, **environ: str) -> Daemon:
        """Start it; variables count for this start alone."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env={**self._environ, **environ},
                stdout=log,
                stderr=log,
            )
        return self

    def readiness(self, *, index: int = 0) -> Readiness:
        """Ask ``/ready``; a server that is not there yet counts as status 0."""
        return self._get("/ready", index)

    def is_ready(self) -> bool:
        """Tell whether ``/ready`` says so."""
        found = self.readiness()
        assert found.is_ready, found
        return True

    def is_unready(self, reason: str = "") -> bool:
        """Tell whether ``/ready`` names such a reason."""
        found = self.readiness()
        assert found.status == 503, found
        assert re.search(reason, found.text), found
        return True

    def metric(self, name: str, **labels: str) -> float:
        """Sum the samples of a name that carry these labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def errors(self) -> dict[str, float]:
        """Read ``engine_redis_errors_total`` by kind."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        return {
            sample.labels["kind"]: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "engine_redis_errors_total" and sample.value
        }

    def log_lines(self) -> list[str]:
        """What it wrote to its log."""
        return self.log.read_text().splitlines()

    def terminate(self) -> None:
        """Ask it to drain."""
        self.signal(signal.SIGTERM)

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, limit_s: float = 30.0) -> int:
        """Wait for its end and return its exit code."""
        assert self.process is not None
        return self.process.wait(limit_s)

    def has_ended(self) -> bool:
        """Tell whether the process is gone."""
        assert self.process is not None
        return self.process.poll() is not None

    def stop(self) -> int:
        """Drain it and return its exit code."""
        self.terminate()
        return self.wait()

    def kill9(self) -> None:
        """End it without a warning, and reap it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def clean_up(self) -> None:
        """End it whatever it does."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.kill9()

    def _get(self, path: str, index: int) -> Readiness:
        assert self.process is not None
        code = self.process.poll()
        if code is not None:
            raise RuntimeError(f"the engine ended with {code}:\n{self.log.read_text()[-3000:]}")
        url = f"http://127.0.0.1:{self.port + index}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return Readiness(answer.status, json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                return Readiness(error.code, json.load(error))
        except OSError:
            return Readiness(0, {})


Start = Callable[..., Daemon]
"""The fixture ``start_daemon``: arguments of :class:`Daemon` except the directory."""


@contextlib.contextmanager
def daemons(directory: Path) -> Iterator[Start]:
    """Give a function that starts engines, and end them all afterwards."""
    started: list[Daemon] = []

    def start(redis_url: str, **options: Any) -> Daemon:
        daemon = Daemon(directory, redis_url, **options)
        started.append(daemon)
        return daemon.start()

    try:
        yield start
    finally:
        for daemon in started:
            daemon.clean_up()
