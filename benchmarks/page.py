"""
How long the page's API takes over much work.

    python -m benchmarks.page [--waiting 1000000] [--dead 100000] [--engines 50] [--others 100000]
                              [--requests 200] [--json FILE]

A fresh server on the first core holds the jobs; one engine, as users run it, serves the page on the
second. Requests come one after the other over one connection. The overview is read once a second
however many look, so it is asked for once a second, or it would be a copy. On a machine that others
use, too, the engine's CPU time says more than the clock; ``load`` tells how many wanted to run.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.scaling.app import QUEUE
from benchmarks.scaling.filled import NEEDLE, fill_all
from benchmarks.scaling.rig import Engine, engine, percentile, server, table
from benchmarks.suite.results import Document, begun
from tests.support.servers import RedisTestServer

HERE = f"/api/queues/{QUEUE}"
JOBS = f"{HERE}/jobs?state="
TARGET_P95_MS = 100.0


class Api:
    """
    One connection to the page's API.

    Args:
        address: host:port.
    """

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=60)

    def ask(self, path: str) -> tuple[float, int, Any]:
        """Ask once; returns ms, status and what was told."""
        while True:
            before = time.perf_counter()
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
            body = answer.read()
            took_ms = 1e3 * (time.perf_counter() - before)
            if answer.status != 429:
                break
            # The bound on requests is none of what is measured.
            time.sleep(float(answer.headers.get("Retry-After") or 1))
        return took_ms, answer.status, json.loads(body) if body[:1] in b"[{" else None


Steps = Callable[[Api, int], Generator[str, Any, None]]
"""Gives addresses to ask for, and is sent what each was answered with."""


def same(path: str) -> Steps:
    """Ask for one address over and over."""

    def steps(_api: Api, count: int) -> Generator[str, Any, None]:
        for _ in range(count):
            yield path

    return steps


def slowly(path: str) -> Steps:
    """Ask for one address once a second: it is read no more often."""

    def steps(_api: Api, count: int) -> Generator[str, Any, None]:
        for _ in range(min(count, 60)):
            yield path
            time.sleep(1.02)

    return steps


def onward(path: str) -> Steps:
    """Ask for page after page; behind the last comes the first."""

    def steps(_api: Api, count: int) -> Generator[str, Any, None]:
        cursor = ""
        for _ in range(count):
            told = yield f"{path}&cursor={quote(cursor, safe='')}" if cursor else path
            cursor = (told or {}).get("cursor") or ""

    return steps


def cases() -> dict[str, Steps]:
    """Name what is measured."""
    found = {
        "overview": slowly("/api/overview"),
        "queue": same(HERE),
        "engines": same("/api/engines"),
        "engine": same("/api/engines/eng-7"),
        "series, 1 h": same(f"/api/series?queue={QUEUE}&range=1h"),
        "series, 24 h": same(f"/api/series?queue={QUEUE}&range=24h"),
        "series, 7 d, all queues": same("/api/series?queue=&range=7d"),
        "dead groups": same(f"/api/dead?queue={QUEUE}"),
        "dead group": same(f"/api/dead/{QUEUE}/{'0' * 11}7"),
        "audit": same("/api/audit"),
        "schedules": same("/api/schedules"),
        "search for an id": same("/api/search?text=later-50"),
    }
    for state in ("waiting", "active", "delayed", "done", "dead"):
        found[f"{state}, first page"] = same(f"{JOBS}{state}&limit=50")
        found[f"{state}, page after page"] = onward(f"{JOBS}{state}&limit=200")
        found[f"{state}, by type"] = onward(f"{JOBS}{state}&type=rare&limit=50")
        found[f"{state}, by text that is nowhere"] = onward(f"{JOBS}{state}&text=nowhere-at-all")
    found["waiting, by text in the last of all"] = onward(f"{JOBS}waiting&text={NEEDLE}")
    found["job, waiting"] = jobs_of("waiting")
    found["job, dead"] = jobs_of("dead")
    return found


def jobs_of(state: str) -> Steps:
    """Ask for the jobs of a state, one by one, as the links of its list name them."""

    def steps(api: Api, count: int) -> Generator[str, Any, None]:
        rows = (api.ask(f"{JOBS}{state}&limit=50")[2] or {}).get("jobs", [])
        for number in range(count if rows else 0):
            row = rows[number % len(rows)]
            hint = f"?at={quote(row['hint'], safe='')}"
            yield f"{HERE}/jobs/{quote(row['id'], safe='')}{hint}"

    return steps


def measure(running: Engine, count: int, only: str) -> list[dict[str, Any]]:
    """Measure every case that this version of the API has."""
    api = Api(running.address)
    rows = []
    for name, steps in cases().items():
        if only not in name:
            continue
        before_us = running.cpu_us()
        took, statuses = asked_for(api, steps(api, count))
        cpu_ms = (running.cpu_us() - before_us) / 1_000
        if statuses == {200}:
            rows.append(row(name, took, cpu_ms))
            print(f"{name}: p95 {rows[-1]['p95 ms']} ms", file=sys.stderr)
        else:
            print(f"{name}: answered {sorted(statuses)}", file=sys.stderr)
    return rows


def asked_for(api: Api, steps: Generator[str, Any, None]) -> tuple[list[float], set[int]]:
    """Ask for one address after the other; returns the ms of each, and the statuses seen."""
    took, statuses = [], set()
    path = next(steps, None)
    while path is not None:
        ms, status, told = api.ask(path)
        took.append(ms)
        statuses.add(status)
        try:
            path = steps.send(told)
        except StopIteration:
            path = None
    return took, statuses


def row(name: str, took: list[float], cpu_ms: float) -> dict[str, Any]:
    """Say how long something took, and what the engine worked for it."""
    return {
        "asked for": name,
        "requests": len(took),
        "p50 ms": round(percentile(took, 0.5), 1),
        "p95 ms": round(percentile(took, 0.95), 1),
        "max ms": round(max(took), 1),
        "engine CPU ms": round(cpu_ms / len(took), 1),
        "within 100 ms": "yes" if percentile(took, 0.95) < TARGET_P95_MS else "NO",
    }


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """Let the command line say how full the server is."""
    parser.add_argument("--waiting", type=int, default=1_000_000)
    parser.add_argument("--dead", type=int, default=100_000)
    parser.add_argument("--engines", type=int, default=50)
    parser.add_argument("--others", type=int, default=100_000, help="delayed, and done, jobs")


@contextmanager
def filled(asked: argparse.Namespace) -> Iterator[RedisTestServer]:
    """Run a server that holds what was asked for."""
    with server() as backend:
        fill_all(
            backend,
            waiting=asked.waiting,
            dead=asked.dead,
            engines=asked.engines,
            others=asked.others,
        )
        yield backend


def write_down(document: Document, path: Path | None, results: dict[str, Any]) -> None:
    """Write a file of results, if one was asked for."""
    if path is None:
        return
    told = {
        "date": document.date,
        "commands": document.commands,
        "machine": document.machine,
        "versions": document.versions,
        "settings": document.settings | {"load": f"{os.getloadavg()[1]:.1f}"},
        "results": results,
    }
    path.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n")


def main() -> None:
    """Fill, measure, print, write down."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    add_sizes(parser)
    parser.add_argument("--requests", type=int, default=200, help="of each")
    parser.add_argument("--only", default="", help="a part of what is asked for")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    settings = {name: str(value) for name, value in vars(asked).items() if name != "json"}
    document = begun(" ".join(["python -m benchmarks.page", *sys.argv[1:]]), settings)
    with filled(asked) as backend, engine(backend.url) as running:
        rows = measure(running, asked.requests, asked.only)
    if not rows:
        parser.error(f"nothing that is measured has {asked.only!r} in its name, and an answer")
    table(f"{asked.waiting:,} waiting, {asked.dead:,} dead, {asked.engines} engines", rows)
    write_down(document, asked.json, {"page": rows})


if __name__ == "__main__":
    main()
