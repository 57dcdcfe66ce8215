"""
A whole engine in memory: for tests of handlers together with retries, delays, limits and hooks.

    async with EngineHarness(registry) as engine:
        job_id = engine.add("send-message", {"content": "hi"})
        await engine.until_ended(job_id)
        assert engine.done()[job_id].result == b'{"messageId":1}'

It is the engine of production, on a store in memory. Nothing sleeps: on the manual clock, retries
and delays come when the test says :meth:`EngineHarness.advance` or :meth:`EngineHarness.drain`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import msgspec

from engine.clock import SystemClock
from engine.registry import App, Registry
from engine.runtime.engine import Engine
from engine.settings import EngineSettings
from engine.testing.clock import ManualClock, settle_loop
from engine.testing.memory_store import MemoryStore
from engine.testing.model import ServerModel
from engine.testing.signals import Signals
from engine.wire.codec import DEAD
from engine.wire.done import DoneJob, decode_done
from schemas.job import DeadRecord

encode = msgspec.json.encode

LIMIT_S = 10.0
"""Real seconds after which a wait fails; only a broken test meets it."""

DEFAULTS: Mapping[str, Any] = {
    "http": "",
    "grace_s": 5.0,
    # A manual clock may jump by hours, while leases are renewed in real time.
    "lease_ms": 30 * 86_400_000,
    "renew_ms": 10 * 86_400_000,
}


class EngineHarness:
    """
    One engine over a store in memory.

    Several harnesses over one ``model`` are several engines on one server.

    Args:
        app: The app, or a registry alone.
        clock: A :class:`ManualClock` if left out; a :class:`~engine.clock.SystemClock` for tests
            of leases, which want small ``lease_ms`` and ``renew_ms``.
        model: The server, shared by engines on one clock.
        name: The engine's name.
        settings: Settings of the engine, by name.
    """

    def __init__(
        self,
        app: App | Registry,
        *,
        clock: ManualClock | SystemClock | None = None,
        model: ServerModel | None = None,
        name: str = "engine-1",
        **settings: Any,
    ) -> None:
        self.app = app if isinstance(app, App) else App(app)
        self.clock: ManualClock | SystemClock = clock or ManualClock()
        self.model = model or ServerModel(self.clock.now_ms)
        self.store = MemoryStore(self.model, self.clock, consumer=name)
        self.signals = Signals(self.model)
        self.settings = msgspec.convert({**DEFAULTS, **settings}, EngineSettings)
        self.engine = Engine(self.settings, self.app, self.store, self.clock, name=name)
        self._running: asyncio.Task[int] | None = None

    async def __aenter__(self) -> EngineHarness:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        code = await self.stop()
        if error is None:
            assert code == 0, f"the engine ended with code {code}"

    async def start(self, *, burst: bool = False) -> None:
        """Start the engine, and return once it serves its queues or has ended."""
        self._running = asyncio.create_task(self.engine.run(burst=burst))
        await self.until(
            lambda: self.engine.state != "starting" or bool(self._running and self._running.done()),
            what="the engine's start",
        )
        if self._running.done():
            # It may have failed, which the test should see.
            self._running.result()

    async def stop(self) -> int:
        """Drain the engine, if it still runs, and return its exit code."""
        self.engine.stop()
        try:
            return await self.ended()
        finally:
            self.signals.detach()
            if self._running is not None:
                # Nothing of a broken test stays behind in its loop.
                self._running.cancel()

    async def ended(self) -> int:
        """Wait until the engine ends by itself, moving the clock on; returns its exit code."""
        assert self._running is not None, "the engine was not started"
        await self._wait(self._running.done, what="the engine's end", step_s=0.05)
        return self._running.result()

    def add(
        self,
        job_type: str,
        data: Any = None,
        *,
        lane: str = "normal",
        **fields: str | int,
    ) -> str:
        """
        Enqueue one job, as a producer's XADD does.

        Args:
            job_type: A registered type.
            data: The payload: a mapping or a struct; bytes are taken as they are.
            lane: The lane.
            fields: Further fields of the wire, such as ``delay`` or ``attempts``.

        Returns:
            The job's id.
        """
        encoded = data if isinstance(data, bytes) else encode(data or {})
        flat = [b"type", job_type.encode(), b"data", encoded]
        for name, value in fields.items():
            flat += (name.encode(), str(value).encode())
        entry = self.add_entry(flat, queue=self.app.registry.types[job_type].queue, lane=lane)
        return str(fields.get("id", f"{lane[0]}-{entry.decode()}"))

    def add_entry(
        self, fields: Sequence[bytes], *, queue: str | None = None, lane: str = "normal"
    ) -> bytes:
        """Add a stream entry with these fields, however wrong they are; returns its entry id."""
        return self.model.queue(queue or self._only_queue()).add(lane, fields)

    def done(self, queue: str | None = None) -> dict[str, DoneJob]:
        """Finished jobs by id."""
        entries = self.model.queue(queue or self._only_queue()).done.entries
        jobs = [job for entry, fields in entries.items() for job in decode_done(entry, fields)]
        found = {job.id: job for job in jobs}
        assert len(found) == len(jobs), "an id is done more than once"
        return found

    def dead(self, queue: str | None = None) -> dict[str, DeadRecord]:
        """Dead jobs by id."""
        records = [
            msgspec.json.decode(fields[fields.index(DEAD) + 1], type=DeadRecord)
            for fields in self.model.queue(queue or self._only_queue()).dead.entries.values()
        ]
        found = {record.id: record for record in records}
        assert len(found) == len(records), "an id is dead more than once"
        return found

    def delayed(self, queue: str | None = None) -> list[int]:
        """Due times in Unix ms of what waits for its time, earliest first."""
        return sorted(self.model.queue(queue or self._only_queue()).delayed.values())

    async def until(self, holds: Callable[[], object], *, what: str = "the condition") -> None:
        """
        Wait until a condition holds, without moving a manual clock.

        Raises:
            AssertionError: It does not within :data:`LIMIT_S` real seconds.
        """
        await self._wait(holds, what=what, step_s=0.0)

    async def until_ended(self, *ids: str, queue: str | None = None) -> None:
        """Wait until these jobs are done or dead, without moving a manual clock."""
        wanted = set(ids)
        await self.until(
            lambda: wanted <= self.done(queue).keys() | self.dead(queue).keys(),
            what=f"the end of {', '.join(ids)}",
        )

    async def advance(self, seconds: float) -> None:
        """Move the manual clock, and let everything that becomes due happen at its time."""
        assert isinstance(self.clock, ManualClock), "only a manual clock is moved by hand"
        await self.clock.advance(seconds)

    async def drain(self) -> None:
        """
        Let time pass until no job of any queue waits, runs or is delayed.

        Raises:
            AssertionError: Jobs are left after :data:`LIMIT_S` real seconds.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LIMIT_S
        while self._unfinished():
            assert loop.time() < deadline, f"jobs are left: {self._unfinished()}"
            await self._let_pass()
        await settle_loop()

    async def _let_pass(self) -> None:
        due = min((ms for queue in self.engine.runners for ms in self.delayed(queue)), default=None)
        idle = not any(runner.upkeep.inflight() for runner in self.engine.runners.values())
        if isinstance(self.clock, ManualClock):
            ahead_s = ((due or 0) - self.clock.now_ms()) / 1e3
            if due is not None and idle and ahead_s > 1.0:
                # Nothing happens before, so nobody has to live through it.
                self.clock.move(ahead_s)
            await self.clock.advance(0.05)
        await asyncio.sleep(0)

    def _unfinished(self) -> dict[str, int]:
        counts = {}
        for queue in self.engine.runners:
            model = self.model.queue(queue)
            counts[queue] = (
                len(model.delayed)
                + len(model.flow_states)
                + sum(len(stream.entries) for stream in model.streams.values())
                + sum(map(len, model.parked.values()))
            )
        return {queue: count for queue, count in counts.items() if count}

    async def _wait(self, holds: Callable[[], object], *, what: str, step_s: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LIMIT_S
        while not holds():
            assert loop.time() < deadline, f"waited in vain for {what}"
            if step_s and isinstance(self.clock, ManualClock):
                await self.clock.advance(step_s)
            else:
                await settle_loop()
            # Pools, threads and sockets need real time.
            await asyncio.sleep(0.001)

    def _only_queue(self) -> str:
        queues = self.app.registry.queues()
        assert len(queues) == 1, f"say which queue: {', '.join(queues)}"
        return queues[0]
