"""The engine's own pulse: loop lag, beats, the server's state, readiness."""

from __future__ import annotations

import os
import resource
import socket
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from engine.core.leases import ReclaimGate
from engine.errors import StoreError
from engine.runtime.outage import Outage
from engine.runtime.queue import QueueRunner
from engine.runtime.server_time import ServerTime
from engine.settings import EngineSettings
from engine.store.base import ServerState, Store
from engine.telemetry import Meters
from engine.version import __version__
from schemas.stats import Beat

TICK_S = 0.05
BEAT_S = 2.0
OBSERVE_S = 2.0
LOOK_S = 0.2
LOOK_S_MAX = 0.5
LAG_WINDOW = round(5.0 / TICK_S)
MEMORY_SHARE_MAX = 0.9


class Patient(Protocol):
    """What is watched."""

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> EngineSettings: ...
    @property
    def meters(self) -> Meters: ...
    @property
    def runners(self) -> Mapping[str, QueueRunner]: ...
    @property
    def state(self) -> str: ...
    async def app_reason(self) -> str: ...


class Vitals:
    """
    Watches one engine.

    Args:
        engine: The engine.
        store: Where beats go.
        clock: Time, told of the server's.
        gate: Told of the server's restarts and clock.
        outage: Told of failures.
    """

    def __init__(
        self, engine: Patient, store: Store, clock: ServerTime, gate: ReclaimGate, outage: Outage
    ) -> None:
        self._engine = engine
        self._store = store
        self._clock = clock
        self._gate = gate
        self._outage = outage
        self._server: ServerState | None = None
        self._lags: deque[float] = deque([0.0], LAG_WINDOW)
        self._started = clock.monotonic()
        self._looked = float("-inf")
        self._run_id = ""
        self._app_reason = ""
        self.http = ""
        self.ticked = clock.monotonic()

    async def tick(self) -> None:
        """Show that the loop runs, measure how late, and enforce time limits."""
        while True:
            before = self._clock.monotonic()
            await self._clock.sleep(TICK_S)
            now = self.ticked = self._clock.monotonic()
            self._lags.append(max(0.0, now - before - TICK_S))
            self._engine.meters.loop_lag_s = max(self._lags)
            for queue, runner in self._engine.runners.items():
                runner.workers.scan(now)
                self._engine.meters.queues[queue].inflight = runner.upkeep.inflight()

    async def beat(self) -> None:
        """Tell the others that this engine lives."""
        while True:
            try:
                await self._store.beat(self._engine.name, msgspec.json.encode(self.as_beat()))
            except StoreError as error:
                self._outage.note(error, "beat")
            else:
                self._outage.over("beat")
                self._engine.meters.beat_s = self._clock.now_ms() / 1e3
            await self._clock.sleep(BEAT_S)

    async def observe(self) -> None:
        """Watch the server for restarts, clock steps and a full memory."""
        while True:
            self._app_reason = await self._engine.app_reason()
            await self._clock.sleep(OBSERVE_S)
            try:
                await self.look_at_server()
            except StoreError as error:
                self._gate.close(self._clock.monotonic() * 1e3)
                self._outage.note(error, "look")
            else:
                self._outage.over("look")

    async def look_lately(self) -> None:
        """Take note of the server's state unless that was done within the last instant."""
        if self._clock.monotonic() - self._looked >= LOOK_S:
            await self.look_at_server()

    async def look_at_server(self) -> None:
        """Take note of the server's state."""
        self._looked = self._clock.monotonic()
        self._server = await self._store.server()
        self._engine.meters.memory_bytes = self._server.memory_bytes
        self._engine.meters.memory_bytes_max = self._server.memory_bytes_max
        known = self._is_known(self._server)
        if known and self._clock.monotonic() - self._looked > LOOK_S_MAX:
            # On a slow way, or behind a busy loop, the server's time says little about now.
            return
        self._clock.follow(self._server.time_ms)
        self._gate.observe(
            run_id=self._server.run_id,
            server_ms=self._server.time_ms,
            uptime_ms=self._server.uptime_ms,
            monotonic_ms=self._clock.monotonic() * 1e3,
        )

    def _is_known(self, server: ServerState) -> bool:
        """Tell whether this is the server process that was looked at before."""
        known, self._run_id = self._run_id, server.run_id
        return known == server.run_id

    def reasons(self) -> list[str]:
        """Say what keeps the engine from being ready."""
        found = []
        if self._engine.state != "running":
            found.append(f"the engine is {self._engine.state}")
        if self._outage.reason:
            found.append(f"redis: {self._outage.reason}")
        if self._app_reason:
            found.append(self._app_reason)
        server = self._server
        if server is not None and not server.writable:
            found.append("redis: the server is a read-only replica")
        if server is not None and server.memory_bytes_max:
            share = server.memory_bytes / server.memory_bytes_max
            if share > MEMORY_SHARE_MAX:
                found.append(f"redis: {share:.0%} of maxmemory is used")
        return found

    def status(self) -> str:
        """Say in one line how the engine is, for whoever asks the service manager."""
        held = sum(meter.inflight for meter in self._engine.meters.queues.values())
        work = f"{held} jobs of {len(self._engine.runners)} queues at work"
        return "; ".join([*self.reasons(), work])

    def as_beat(self) -> Beat:
        """This engine's sign of life."""
        engine, now_ms = self._engine, self._clock.now_ms()
        return Beat(
            name=engine.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            state=engine.state,
            http=self.http,
            started_ms=now_ms - round((self._clock.monotonic() - self._started) * 1e3),
            beat_ms=now_ms,
            loop_lag_ms=round(engine.meters.loop_lag_s * 1e3, 1),
            rss_bytes=rss_bytes(),
            queues={queue: runner.load() for queue, runner in engine.runners.items()},
            weights=engine.settings.weights,
        )


def rss_bytes() -> int:
    """Resident memory of this process, in bytes."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        # macOS has no /proc and tells the peak, in bytes.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
