"""What one process of a measurement is asked to do; it crosses to the process as JSON."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

WARM_JOBS = 20
"""Jobs that go before a measurement of latency, so that connections are open and code is warm."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """
    One process's part of a measurement.

    Attributes:
        system: The system's name.
        role: ``work`` jobs off, ``fill`` a backlog, ``enqueue`` for a time, or ``pace`` jobs.
        url: The server.
        server_pid: Its process.
        out: The file in which the result is left.
        handler: What a job does: ``noop``, ``sleep``, ``stamp``, ``fail_once`` or ``burn``.
        shape: What the backlog looks like: ``plain``, ``lanes``, ``keyed`` or ``keyed-near``.
        jobs: How many jobs there are, beside those that warm up.
        at_once: How many of them may run at the same time.
        bulk: Enqueue by the system's call for many.
        bare: Enqueue by bare commands, without the system's client.
        seconds: How long to enqueue.
        rate: Jobs per second.
        burn_loops: Turns of a loop that make up the handler's use of the processor.
    """

    system: str
    role: str
    url: str
    server_pid: int
    out: str
    handler: str = "noop"
    shape: str = "plain"
    jobs: int = 0
    at_once: int = 100
    bulk: bool = False
    bare: bool = False
    seconds: float = 0.0
    rate: float = 0.0
    burn_loops: int = 0

    @property
    def port(self) -> int:
        """The server's port, on loopback."""
        return int(self.url.rsplit(":", 1)[1].split("/")[0])

    @property
    def warm(self) -> Path:
        """The file that says that the jobs that warm up were worked off."""
        return Path(self.out).with_name("warm")

    @property
    def counts(self) -> Path:
        """The directory in which each worker process counts its jobs."""
        return Path(self.out).with_name("counts")

    def encode(self) -> str:
        """Write it as JSON."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def decode(text: str) -> Request:
        """Read it."""
        return Request(**json.loads(text))


def leave(path: str, result: object) -> None:
    """Leave a result where the measurement looks for it, whole or not at all."""
    partial = Path(f"{path}.partial")
    partial.write_text(json.dumps(result))
    partial.rename(path)
