"""Many dead letters: what their analysis needs, and what other clients notice of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from benchmarks.scaling.app import QUEUE
from benchmarks.scaling.rig import BLOCK, KEYS, ROOT, Raw, command, fill, percentile, server
from engine.wire.codec import DEAD
from schemas.job import AttemptRecord, DeadRecord, ErrorRecord

GROUPS = 40
PROBE_S = 0.001


class Probe(threading.Thread):
    """
    Asks the server for nothing about once a ms, and notes how long its answers take.

    Args:
        url: The server.
    """

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self.over = threading.Event()
        self.took_ms: list[float] = []

    def run(self) -> None:
        raw, ask = Raw(self._url), command(b"XLEN", KEYS.lane("normal"))
        while not self.over.wait(PROBE_S):
            before = time.perf_counter()
            raw.send(ask)
            raw.replies(1)
            self.took_ms.append(1e3 * (time.perf_counter() - before))
        raw.close()


def letters(count: int) -> Iterator[tuple[bytes, int]]:
    """Write dead letters with a payload of 200 bytes and a story of three attempts."""
    now_ms = int(time.time() * 1000)
    data = msgspec.json.encode({"pad": "x" * 190})
    error = ErrorRecord(kind="ConnectionError", message="the provider answered 503 to delivery 17")
    story = tuple(
        AttemptRecord(number=n, at_ms=now_ms, run_ms=12, engine="e1", outcome="failed", error=error)
        for n in (1, 2, 3)
    )
    for begin in range(0, count, BLOCK):
        parts, end = [], min(count, begin + BLOCK)
        for number in range(begin, end):
            record = DeadRecord(
                id=f"n-{now_ms}-{number}",
                type=f"type-{number % 4}",
                lane="normal",
                entry=f"{now_ms}-{number}",
                reason="exhausted",
                error=error,
                attempts=3,
                enqueued_ms=now_ms,
                died_ms=now_ms,
                fingerprint=f"{number % GROUPS:012x}",
                history=story,
            )
            fields = (DEAD, msgspec.json.encode(record), b"type", b"noop", b"data", data)
            parts.append(command(b"XADD", KEYS.dead, b"*", *fields))
        yield b"".join(parts), len(parts)


def measure(count: int) -> list[dict[str, Any]]:
    """Analyse so many dead letters by command, while a client asks the server for nothing."""
    with server() as backend:
        fill(backend.url, letters(count))
        runs = {"no analysis": None, "all": ["--scan"], "one type": ["--type", "type-1"]}
        return [run(backend.url, what, count, words) for what, words in runs.items()]


def run(url: str, what: str, count: int, words: list[str] | None) -> dict[str, Any]:
    """Run the command once, or wait for as long as nothing takes."""
    probe = Probe(url)
    probe.start()
    began = time.monotonic()
    peak, groups, matched = 0, 0, 0
    if words is None:
        time.sleep(2.0)
    else:
        command_line = [sys.executable, "-m", "engine", "--redis-url", url, "dead", "analyse"]
        process = subprocess.Popen(
            [*command_line, QUEUE, *words, "--json"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            env={name: text for name, text in os.environ.items() if name[:7] != "ENGINE_"},
        )
        assert process.stdout is not None
        told = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, told
        (analysis,) = json.loads(told)
        peak, matched = usage.ru_maxrss * 1024, analysis["matched"]
        groups = len(analysis["groups"])
    seconds = time.monotonic() - began
    probe.over.set()
    probe.join()
    return {
        "analysis": what,
        "dead letters": count,
        "counted": matched,
        "groups": groups,
        "seconds": round(seconds, 1),
        "peak MB": round(peak / 1e6),
        "others wait p50 ms": round(percentile(probe.took_ms, 0.5), 2),
        "p99 ms": round(percentile(probe.took_ms, 0.99), 2),
        "max ms": round(max(probe.took_ms), 1),
    }
