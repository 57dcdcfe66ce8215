"""Reads what the ledger app wrote and what the server recorded, and holds one against the other."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import redis

from engine.wire.done import decode_done
from engine.wire.keys import GROUP, QueueKeys
from schemas.job import DeadRecord
from tests.support.ledger_app import QUEUE, Line
from tests.support.servers import RedisTestServer

KEYS = QueueKeys(QUEUE)


class End(NamedTuple):
    """One recorded end."""

    outcome: str
    reason: str = ""
    attempts: int = 0
    lost: int = 0


class Ledger:
    """
    What happened to the jobs of one queue.

    Args:
        path: The file that the app writes.
        server: Where the queue lives.
        queue: Its name.
    """

    def __init__(self, path: Path, server: RedisTestServer, queue: str = QUEUE) -> None:
        self.path = path
        self.server = server
        self.keys = QueueKeys(queue)

    def lines(self, job_id: str = "", event: str = "") -> list[Line]:
        """What the app wrote, of one job and of one kind where they are named."""
        if not self.path.exists():
            return []
        found = [msgspec.json.decode(raw, type=Line) for raw in self.path.read_bytes().split()]
        return [line for line in found if job_id in {"", line.id} and event in {"", line.event}]

    def ends(self) -> dict[str, list[End]]:
        """Every end that the server recorded."""
        found: dict[str, list[End]] = defaultdict(list)
        with self.raw() as client:
            for entry, fields in client.execute_command("XRANGE", self.keys.done, "-", "+"):
                for job in decode_done(entry, fields):
                    found[job.id].append(End("done"))
            for _, fields in client.execute_command("XRANGE", self.keys.dead, "-", "+"):
                told = msgspec.json.decode(fields[1], type=DeadRecord)
                found[told.id].append(End("dead", told.reason, told.attempts, told.lost))
        return found

    def left(self) -> dict[str, int]:
        """What has not ended yet: entries of lanes, pending or not, and delayed jobs."""
        with self.raw() as client:
            counts = {key: client.execute_command("XLEN", key) for key in self.keys.lanes.values()}
            counts[self.keys.delayed] = client.execute_command("ZCARD", self.keys.delayed)
            for key in self.keys.lanes.values():
                pending = client.execute_command("XPENDING", key, GROUP)
                counts[f"pending in {key}"] = pending[0]
        return {key: count for key, count in counts.items() if count}

    def is_empty(self) -> bool:
        """Tell whether everything has ended."""
        left = self.left()
        assert not left, left
        return True

    def check(self, accepted: Mapping[str, int], *, starts_over: int | None = 0) -> None:
        """
        Hold the promise against what happened.

        Args:
            accepted: Job ids with the number of sends whose outcome the producer never learned:
                as often may the job be there once more.
            starts_over: How many deliveries may have started without ending in one of the
                recorded ways (engines that died); None for any number.
        """
        ends, left = self.ends(), self.left()
        assert not left, left
        missing = [job_id for job_id in accepted if not ends.get(job_id)]
        assert not missing, (
            f"{len(missing)} of {len(accepted)} accepted jobs are lost: {missing[:5]}"
        )
        for job_id, unknown in accepted.items():
            assert len(ends[job_id]) <= 1 + unknown, f"{job_id} ended twice: {ends[job_id]}"
        if starts_over is not None:
            self._check_starts(accepted, ends, starts_over)

    def _check_starts(
        self, accepted: Mapping[str, int], ends: Mapping[str, list[End]], starts_over: int
    ) -> None:
        starts = Counter((line.id, line.attempt) for line in self.lines(event="start"))
        over = {
            key: count
            for key, count in starts.items()
            if key[0] in accepted and count > len(ends[key[0]])
        }
        assert sum(over.values()) - len(over) <= starts_over, f"started again: {over}"

    def raw(self) -> Any:
        """Return a client that leaves replies as they are."""
        client = self.server.client(protocol=2)
        client.response_callbacks.clear()
        return client


class Load:
    """
    A producer that never stops: each job has an id, and a send whose reply is lost is repeated.

    A job counts as accepted once one of its XADDs was replied to.
    """

    MIX = (
        "quick",
        "quick",
        "quick",
        "quick",
        "quick",
        "quick",
        "flaky",
        "quick",
        "quick",
        "failing",
    )

    def __init__(
        self, server: RedisTestServer, *, pause_s: float = 0.002, prefix: str = "j"
    ) -> None:
        self._server = server
        self._pause_s = pause_s
        self._prefix = prefix
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.accepted: dict[str, int] = {}
        self.refused: Counter[str] = Counter()

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Send nothing more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        client: Any = self._server.client(socket_timeout=2)
        number, unknown = 0, 0
        with client:
            while not self._stop.wait(self._pause_s):
                job_id = f"{self._prefix}{number}"
                try:
                    client.xadd(KEYS.lane("normal"), self._fields(number, job_id))
                except redis.ResponseError as error:
                    self.refused[str(error).split(" ", 1)[0]] += 1
                    continue
                except (redis.ConnectionError, redis.TimeoutError) as error:
                    self.refused[type(error).__name__] += 1
                    unknown += "refused" not in str(error)
                    continue
                self.accepted[job_id] = unknown
                number, unknown = number + 1, 0

    def _fields(self, number: int, job_id: str) -> dict[str, str]:
        job_type = self.MIX[number % len(self.MIX)]
        return {"type": job_type, "data": '{"fails":1}', "id": job_id}


def send(server: RedisTestServer, job_type: str, job_id: str, **task: Any) -> str:
    """Add one job and return its id."""
    data = msgspec.json.encode(task)
    server.call("XADD", KEYS.lane("normal"), "*", "type", job_type, "data", data, "id", job_id)
    return job_id


def gate(directory: Path, name: str = "gate") -> Path:
    """Name a file that gated jobs wait for."""
    return directory / f"{name}-{os.getpid()}-{time.monotonic_ns()}"
