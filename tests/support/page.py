"""A running HTTP side over made-up queues and engines, and a client for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp

from engine.dashboard import HttpServer, HttpState
from schemas.access import PageSession
from schemas.engines import InFlight
from schemas.numbers import Glance, Rates, SparkLine
from schemas.schedule import ScheduleView
from schemas.stats import (
    Audited,
    Beat,
    EngineStats,
    LaneStats,
    QueueLoad,
    QueueStats,
    Server,
)

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>\u202e\x00\x1b[2J&'`"


def queue(name: str = "message-delivery", **changes: Any) -> QueueStats:
    lanes = {
        lane: LaneStats(waiting=waiting, active=0, oldest_ms=0)
        for lane, waiting in (("critical", 0), ("high", 1), ("normal", 20), ("low", 300))
    }
    values: dict[str, Any] = {
        "queue": name,
        "paused": False,
        "paused_by": None,
        "concurrency": None,
        "lanes": lanes,
        "waiting": 321,
        "active": 7,
        "delayed": 12_512,
        "overdue": 0,
        "held": [],
        "dead": 0,
        "done_kept": 0,
        "oldest_ms": 400,
        "totals": {},
        "recent": {"done": 3_000},
        "engines": ["eng-1"],
    }
    return QueueStats(**{**values, **changes})


def engine(name: str = "eng-1", *, host: str = "host", live: bool = True) -> EngineStats:
    beat = Beat(
        name=name,
        host=host,
        pid=1,
        version="0.1.0",
        state="running",
        http="127.0.0.1:8787",
        started_ms=1,
        beat_ms=1,
        loop_lag_ms=2,
        rss_bytes=1 << 26,
        queues={"q": QueueLoad(running=3, buffered=0, concurrency=100, types=["t"])},
    )
    return EngineStats(beat=beat, silent_ms=500, live=live)


def server(**changes: Any) -> Server:
    values: dict[str, Any] = {
        "version": "valkey 9.1.2",
        "time_ms": 1,
        "memory_bytes": 1,
        "memory_bytes_max": 0,
        "eviction": "noeviction",
        "aof": True,
        "role": "master",
    }
    return Server(**{**values, **changes})


def pace(**changes: Any) -> Glance:
    rate = Rates(**{"done_s": 10.0, "in_s": 10.0, "growth_s": 0.0, "failing": 0.0} | changes)
    nothing: list[int | None] = [None] * 60
    spark = SparkLine(
        from_ms=0, step_ms=60_000, done=nothing, came=nothing, retried=nothing, dead=nothing
    )
    return Glance(rate=rate, spark=spark, empty_in_ms=None, empty="never")


async def until(is_so: Callable[[], bool]) -> None:
    """Let the loop turn until something is so; the test's time limit ends it."""
    while not is_so():  # noqa: ASYNC110 - what is waited for has no signal
        await asyncio.sleep(0)


class FakeAdmin:
    """What the page asks for, with a switch for the server's absence."""

    def __init__(self) -> None:
        self.queues_found = [queue()]
        self.engines_found = [engine()]
        self.audited: list[Audited] = []
        self.problems: list[ScheduleView] = []
        self.trouble: Exception | None = None
        self.write_trouble: Exception | None = None
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.sessions: dict[str, PageSession] = {}
        self.kept: list[str] = []

    async def server(self) -> Server:
        self.asked += 1
        await self.gate.wait()
        if self.trouble:
            raise self.trouble
        return server()

    async def queues(
        self,
        names: Sequence[str] = (),
        *,
        engines: list[EngineStats] | None = None,
    ) -> list[QueueStats]:
        return self.queues_found

    async def engines(self) -> list[EngineStats]:
        if self.trouble:
            raise self.trouble
        return self.engines_found

    async def begin_session(self, digest: str, session: PageSession, *, idle_ms: int) -> None:
        self._check()
        self.sessions[digest] = session

    async def session(self, digest: str) -> PageSession | None:
        self._check()
        self.asked += 1
        return self.sessions.get(digest)

    async def keep_session(self, digest: str, *, idle_ms: int) -> None:
        self._check()
        if self.write_trouble:
            raise self.write_trouble
        self.kept.append(digest)

    async def end_session(self, digest: str) -> None:
        self._check()
        self.sessions.pop(digest, None)

    def _check(self) -> None:
        if self.trouble:
            raise self.trouble

    async def engine(self, name: str) -> EngineStats:
        return next(each for each in self.engines_found if each.beat.name == name)

    async def in_flight(self, engine: EngineStats) -> InFlight:
        return InFlight(total=0, jobs=[])

    async def schedule_problems(
        self, queues: Sequence[QueueStats], engines: Sequence[EngineStats], now_ms: int
    ) -> list[ScheduleView]:
        return self.problems

    async def glance(self, queues: Sequence[QueueStats]) -> dict[str, Glance]:
        return {each.queue: pace() for each in queues}

    async def audit(self, count: int = 50) -> list[Audited]:
        return self.audited[:count]


class Visited:
    """A running server and a client for it."""

    def __init__(self, state: HttpState, reads: FakeAdmin, reasons: list[str]) -> None:
        self.state = state
        self.reads = reads
        self.reasons = reasons
        self.server = HttpServer(state)
        self.session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        self.address = ""

    async def start(self) -> None:
        self.address = await self.server.start()

    async def stop(self) -> None:
        await self.session.close()
        await self.server.stop()

    async def ask(self, path: str, method: str = "GET", **options: Any) -> tuple[Any, str]:
        url = f"http://{self.address}{path}"
        async with self.session.request(method, url, **options) as answer:
            return answer, await answer.text()

    async def raw(self, sent: bytes) -> bytes:
        host, _, port = self.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        try:
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()


Open = Callable[..., Awaitable[Visited]]
