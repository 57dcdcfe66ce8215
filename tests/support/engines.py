"""Engines in this process: over a store in memory, or over a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from engine import App, Exponential, Registry
from engine.clock import SystemClock
from engine.runtime.engine import Engine
from engine.settings import EngineSettings
from engine.store import connection
from engine.store.redis import RedisStore, StoreSettings
from engine.testing import ManualClock
from engine.wire.codec import DEAD
from engine.wire.done import DoneJob, decode_done
from engine.wire.keys import GROUP, QueueKeys
from schemas.job import DeadRecord

QUEUE = "work"
KEYS = QueueKeys(QUEUE)
LIMIT_S = 15.0
SMALL: dict[str, Any] = {
    "http": "",
    "concurrency": 20,
    "block_ms": 50,
    "lease_ms": 900,
    "renew_ms": 300,
    "reclaim_ms": 100,
    "cancel_grace_ms": 100,
    "grace_s": 5,
    "reconnect_ms_max": 100,
}
NO_WAIT = Exponential(attempts=3, base_s=0)
"""Three attempts without delays."""


class FixedClock(ManualClock):
    """A manual clock whose chance is said beforehand."""

    def __init__(self, draw: float = 0.5) -> None:
        super().__init__()
        self.chance = draw

    def draw(self) -> float:
        return self.chance


async def until(holds: Callable[[], Any], what: str = "the condition") -> None:
    """Wait until a condition holds that needs no server."""
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.005)


def record_of(fields: Sequence[bytes]) -> DeadRecord:
    """Read the record that opens a dead letter."""
    assert fields[0] == DEAD
    return msgspec.json.decode(fields[1], type=DeadRecord)


class Server:
    """
    One queue on a real server, seen with raw commands as ``redis-cli`` sends them.

    Args:
        url: The server.
        keys: The queue's keys.
    """

    def __init__(self, url: str, keys: QueueKeys = KEYS) -> None:
        self.url = url
        self.keys = keys
        self._client: Any = connection.client(url, name="test", timeout_s=30)
        # Replies as they are: parsing would fold fields that stand twice.
        self._client.response_callbacks.clear()

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *_: object) -> None:
        # An open connection would keep the loop from closing.
        await self._client.aclose()

    async def call(self, *command: Any) -> Any:
        """Run one command and return its bare reply."""
        return await self._client.execute_command(*command)

    async def add(self, *fields: Any, lane: str = "normal") -> str:
        """XADD to a lane; returns the entry id."""
        added: bytes = await self.call("XADD", self.keys.lane(lane), "*", *fields)
        return added.decode()

    async def add_many(self, entries: Sequence[Sequence[Any]], lane: str = "normal") -> list[str]:
        """XADD many entries in one write; returns their entry ids."""
        pipe = self._client.pipeline(transaction=False)
        pipe.response_callbacks = {}
        for fields in entries:
            pipe.execute_command("XADD", self.keys.lane(lane), "*", *fields)
        return [entry.decode() for entry in await pipe.execute()]

    async def done(self) -> dict[str, DoneJob]:
        """Finished jobs by id, each at most once."""
        jobs = [
            job
            for entry, fields in await self.call("XRANGE", self.keys.done, "-", "+")
            for job in decode_done(entry, fields)
        ]
        found = {job.id: job for job in jobs}
        assert len(found) == len(jobs), "an id is done more than once"
        return found

    async def letters(self) -> list[tuple[DeadRecord, list[bytes]]]:
        """Dead letters: record and the job's own fields."""
        entries = await self.call("XRANGE", self.keys.dead, "-", "+")
        return [(record_of(fields), fields[2:]) for _, fields in entries]

    async def dead(self) -> dict[str, DeadRecord]:
        """Records of dead jobs by id, each at most once."""
        records = [record for record, _ in await self.letters()]
        found = {record.id: record for record in records}
        assert len(found) == len(records), "an id is dead more than once"
        return found

    async def pending(self, lane: str = "normal") -> dict[str, tuple[str, int, int]]:
        """Leased entries: consumer, idle ms, deliveries."""
        rows = await self.call("XPENDING", self.keys.lane(lane), GROUP, "-", "+", 10_000)
        return {
            entry.decode(): (consumer.decode(), int(idle), int(count))
            for entry, consumer, idle, count in rows
        }

    async def hash(self, key: str) -> dict[str, str]:
        """Read a hash."""
        flat = [part.decode() for part in await self.call("HGETALL", key)]
        return dict(zip(flat[::2], flat[1::2], strict=True))

    async def events(self) -> list[dict[str, Any]]:
        """Read the events stream."""
        entries = await self.call("XRANGE", self.keys.events, "-", "+")
        return [msgspec.json.decode(fields[1]) for _, fields in entries]

    async def until(
        self, holds: Callable[[], Any], what: str = "the condition", *, limit_s: float = LIMIT_S
    ) -> Any:
        """Wait until an awaited condition is true, and return it."""
        deadline = time.monotonic() + limit_s
        while not (found := await holds()):
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            await asyncio.sleep(0.01)
        return found

    async def until_ended(self, count: int) -> None:
        """Wait until that many jobs are done or dead."""

        async def ended() -> bool:
            done = await self.call("XRANGE", self.keys.done, "-", "+")
            jobs = sum(int(fields[fields.index(b"n") + 1]) for _, fields in done)
            return bool(jobs + await self.call("XLEN", self.keys.dead) >= count)

        await self.until(ended, f"{count} ends")


class Running:
    """An engine that runs in this loop over a real server."""

    def __init__(self, engine: Engine, task: asyncio.Task[int]) -> None:
        self.engine = engine
        self.task = task

    async def stop(self) -> int:
        """Drain it and return its exit code."""
        self.engine.stop()
        return await self.task


@asynccontextmanager
async def serving(
    app: App | Registry, url: str, *, name: str = "e1", **settings: Any
) -> AsyncIterator[Running]:
    """Run an engine over a server; it must end in order."""
    app = app if isinstance(app, App) else App(app)
    clock = SystemClock()
    chosen = msgspec.convert({**SMALL, "redis_url": url, **settings}, EngineSettings)
    store = RedisStore.from_url(
        url,
        consumer=f"{name}-{time.monotonic_ns() % 1_000_000}",
        monotonic=clock.monotonic,
        settings=StoreSettings(
            timeout_s=5, done_jobs_max=chosen.done_jobs_max, events_max=chosen.events_max
        ),
    )
    started = asyncio.Event()
    engine = Engine(chosen, app, store, clock, name=name, on_started=started.set)
    task = asyncio.create_task(engine.run())
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()
    running = Running(engine, task)
    try:
        yield running
    finally:
        code = await running.stop()
    assert code == 0, f"the engine ended with code {code}"
