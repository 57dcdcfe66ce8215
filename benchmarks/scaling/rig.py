"""A server on one core and engines on the other, filled and read from outside."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil

from benchmarks.scaling.app import OUT, QUEUE
from engine.embedded import unused_port
from engine.wire.keys import ENGINES, QueueKeys
from tests.support.servers import RedisTestServer

KEYS = QueueKeys(QUEUE)
LANE = KEYS.lane("normal")
ROOT = Path(__file__).parents[2]
BLOCK = 1_000
"""Commands of one write while a key is filled; two writes are under way."""

PAYLOAD_BYTES = 200
_REPLY = re.compile(rb"[$:]")
"""What begins an id, a number or a string, and stands nowhere else in an answer to XADD or ZADD."""


class Raw:
    """
    A connection that writes prepared commands and counts replies.

    Args:
        url: The server.
    """

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("redis://").split("/")[0].split(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ahead = 0

    def send(self, commands: bytes) -> None:
        """Write commands without waiting."""
        self._socket.sendall(commands)

    def replies(self, count: int) -> None:
        """Read so many replies of one line or one string each."""
        while self._ahead < count:
            read = self._socket.recv(1 << 20)
            if not read or b"\r\n-" in read:
                raise ConnectionError(f"the server answered {read[:200]!r}")
            self._ahead += len(_REPLY.findall(read))
        self._ahead -= count

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def command(*parts: bytes | str | int) -> bytes:
    """Write one command as the protocol has it."""
    words = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


def job(job_type: str = "noop", lane: str = LANE, **payload: Any) -> bytes:
    """Write the XADD of a bare job with a payload of 200 bytes."""
    told = msgspec.json.encode({**payload, "pad": ""})
    pad = b"x" * max(0, PAYLOAD_BYTES - len(told))
    data = told.replace(b'"pad":""', b'"pad":"' + pad + b'"')
    return command(b"XADD", lane, b"*", b"type", job_type, b"data", data)


def fill(url: str, blocks: Iterator[tuple[bytes, int]]) -> None:
    """Send blocks of commands, each with how many they are."""
    raw, under_way = Raw(url), 0
    try:
        for block, count in blocks:
            raw.send(block)
            if under_way:
                raw.replies(under_way)
            under_way = count
        raw.replies(under_way)
    finally:
        raw.close()


def same(one: bytes, count: int) -> Iterator[tuple[bytes, int]]:
    """Repeat one command."""
    block = one * BLOCK
    for _ in range(count // BLOCK):
        yield block, BLOCK
    if rest := count % BLOCK:
        yield one * rest, rest


def pin(pid: int, core: int) -> None:
    """Keep a process and its threads on a core, where there are two."""
    if (os.cpu_count() or 1) > 1:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})


@contextmanager
def server(*, aof: bool = False) -> Iterator[RedisTestServer]:
    """Run a fresh server on the first core."""
    with tempfile.TemporaryDirectory() as directory:
        config = {"auto-aof-rewrite-percentage": "0"} if aof else {}
        found = RedisTestServer(Path(directory), aof=aof, config=config)
        found.start()
        pin(found.pid, 0)
        try:
            yield found
        finally:
            found.kill9()


class Engine:
    """
    One ``python -m engine run`` on the second core.

    Args:
        url: The server.
        app: ``plain`` or ``probe``.
        arguments: Further words of its command line.
        cores: Where its processes may run.
        out: Where a probe writes what it saw.
    """

    def __init__(
        self,
        url: str,
        *,
        app: str = "plain",
        arguments: Sequence[str] = (),
        cores: set[int] | None = None,
        out: Path | None = None,
    ) -> None:
        self._cores = {1} if cores is None else cores
        environ = {name: text for name, text in os.environ.items() if name[:7] != "ENGINE_"}
        self.address = f"127.0.0.1:{unused_port()}"
        environ |= {
            "ENGINE_REDIS_URL": url,
            "ENGINE_HTTP": self.address,
            "ENGINE_LOG_LEVEL": "error",
            "ENGINE_APP": f"benchmarks.scaling.app:{app}",
            **({OUT: str(out)} if out else {}),
        }
        self.process = psutil.Popen(
            [sys.executable, "-m", "engine", "run", *arguments],
            env=environ,
            cwd=ROOT,
            preexec_fn=self._pin,
        )

    def until_ready(self, limit_s: float = 30.0) -> None:
        """Wait until it serves."""
        end = time.monotonic() + limit_s
        while True:
            try:
                with urllib.request.urlopen(f"http://{self.address}/ready", timeout=5):
                    return
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def _pin(self) -> None:
        if (os.cpu_count() or 1) > 1:
            os.sched_setaffinity(0, self._cores)

    def processes(self) -> list[psutil.Process]:
        """The engines: this process, or under a supervisor its children."""
        return self.process.children() or [self.process]

    def cpu_us(self) -> float:
        """CPU time that the engines have used."""
        return sum(cpu_us(each) for each in self.processes())

    def rss(self) -> int:
        """Resident bytes of one engine."""
        return int(max(each.memory_info().rss for each in self.processes()))

    def stop(self) -> None:
        """Stop it in order."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
            for each in self.process.children():
                each.kill()
            self.process.kill()
            self.process.wait(5)


@contextmanager
def engine(url: str, **options: Any) -> Iterator[Engine]:
    """Run an engine."""
    running = Engine(url, **options)
    try:
        running.until_ready()
        yield running
    finally:
        running.stop()


def cpu_us(process: psutil.Process) -> float:
    """CPU time that a process has used."""
    times = process.cpu_times()
    return 1e6 * float(times.user + times.system)


class Reading(msgspec.Struct, frozen=True):
    """
    What was read at one moment.

    Attributes:
        at: Seconds.
        done: Jobs done so far.
        engine_us: CPU time of the engines.
        server_us: CPU time of the server.
        used_s: Time that the machine's processors worked.
        stolen_s: Time in which they wanted to, and their host gave them to others.
    """

    at: float
    done: int
    engine_us: float
    server_us: float
    used_s: float
    stolen_s: float


class Watched:
    """
    A server and the engines on it, read from outside.

    Args:
        found: The server.
        running: The engines.
    """

    def __init__(self, found: RedisTestServer, running: Engine) -> None:
        self.client = found.client(decode_responses=True)
        self._server = psutil.Process(found.pid)
        self._engine = running

    def done(self, job_type: str = "noop") -> int:
        """Jobs done so far."""
        return int(self.client.hget(KEYS.stats, f"done:{job_type}") or 0)

    def engines(self) -> int:
        """How many engines have told of themselves."""
        return int(self.client.hlen(ENGINES))

    def aof_bytes(self) -> int:
        """Length of the append-only file, with what is still to be written."""
        told: Any = self.client.info("persistence")
        return int(told.get("aof_current_size", 0)) + int(told.get("aof_buffer_length", 0))

    def read(self, job_type: str = "noop") -> Reading:
        """Read everything."""
        done = self.done(job_type)
        used = psutil.cpu_times()
        return Reading(
            *(time.monotonic(), done, self._engine.cpu_us(), cpu_us(self._server)),
            used_s=used.user + used.system,
            stolen_s=getattr(used, "steal", 0.0),
        )

    def until_done(self, count: int, job_type: str = "noop", limit_s: float = 60.0) -> None:
        """Wait for so many jobs."""
        end = time.monotonic() + limit_s
        while self.done(job_type) < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.done(job_type)} of {count} jobs in {limit_s} s")
            time.sleep(0.02)


def over(watched: Watched, secs: float, job_type: str = "noop") -> tuple[Reading, Reading]:
    """Read before and after some seconds."""
    before = watched.read(job_type)
    time.sleep(secs)
    return before, watched.read(job_type)


def rates(before: Reading, after: Reading) -> dict[str, float]:
    """Say what happened between two readings."""
    jobs = max(1, after.done - before.done)
    stolen = after.stolen_s - before.stolen_s
    return {
        "jobs/s": round(jobs / (after.at - before.at)),
        "engine µs/job": round((after.engine_us - before.engine_us) / jobs, 2),
        "server µs/job": round((after.server_us - before.server_us) / jobs, 2),
        "stolen %": round(100 * stolen / max(stolen + after.used_s - before.used_s, 1e-9)),
    }


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which so large a share lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def table(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print rows that have the same columns."""
    print(f"\n{title}\n")
    names = list(rows[0])
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        cells = [f"{row[n]:,}" if isinstance(row[n], int | float) else str(row[n]) for n in names]
        print("| " + " | ".join(cells) + " |", flush=True)
