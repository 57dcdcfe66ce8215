"""What the page shows, read at most once a second however many look at it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from engine.admin.health import engine_findings, queue_findings, server_findings
from engine.clock import Clock
from engine.errors import EngineError
from engine.logs import get_logger
from schemas.stats import EngineStats, Finding, QueueStats, Server, View

log = get_logger("http")

FRESH_S = 1.0
READ_S_MAX = 10.0


class Reads(Protocol):
    """What the page asks for; :class:`engine.admin.Admin` satisfies it."""

    async def queues(self, names: Sequence[str] = ()) -> list[QueueStats]:
        """Count what queues hold."""

    async def engines(self) -> list[EngineStats]:
        """List the engines heard of within the last minute."""

    async def server(self) -> Server:
        """Ask the server how it is."""


class Overview(View, frozen=True, kw_only=True):
    """
    Everything at a glance.

    Attributes:
        at_ms: When it was read, in Unix ms.
        findings: What is wrong, the worst first.
        queues: The queues, the worst first.
        engines: The engines, the worst first.
        server: The Redis or Valkey server.
    """

    at_ms: int
    findings: list[Finding]
    queues: list[QueueStats]
    engines: list[EngineStats]
    server: Server


class Seen(View, frozen=True, kw_only=True):
    """
    The latest overview, and how good it is.

    Attributes:
        overview: The last one that could be read; None if there never was one.
        age_ms: How old it is.
        trouble: Why there is no newer one, or an empty string.
    """

    overview: Overview | None
    age_ms: int
    trouble: str


class Overviews:
    """
    Reads overviews, one at a time, and keeps the last one.

    Args:
        reads: Where they come from.
        clock: Tells how old one is.
        backlog_age_ms_max: Age of the oldest waiting job that is still well.
    """

    def __init__(self, reads: Reads, clock: Clock, *, backlog_age_ms_max: int) -> None:
        self._reads = reads
        self._clock = clock
        self._backlog_age_ms_max = backlog_age_ms_max
        self._reading: asyncio.Task[None] | None = None
        self._last: Overview | None = None
        self._last_s = 0.0
        self._tried_s = float("-inf")
        self._trouble = ""

    async def latest(self) -> Seen:
        """Return an overview that is at most a second old, or the last one with the trouble."""
        if self._clock.monotonic() - self._tried_s >= FRESH_S and self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())
        if self._reading is not None:
            # A visitor who goes away does not take the answer from the others.
            await asyncio.shield(self._reading)
        age_s = self._clock.monotonic() - self._last_s if self._last else 0
        return Seen(overview=self._last, age_ms=round(age_s * 1_000), trouble=self._trouble)

    async def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(READ_S_MAX):
                self._last = await self._gather()
            self._last_s = self._clock.monotonic()
            self._trouble = ""
        except (EngineError, TimeoutError) as error:
            self._trouble = str(error) or "the server did not answer in time"
        except Exception as error:
            # The page says so, and the engine goes on.
            self._trouble = "the overview could not be read; the log says why"
            log.error("overview_failed", exc_info=error)
        finally:
            self._tried_s = self._clock.monotonic()
            self._reading = None

    async def _gather(self) -> Overview:
        server = await self._reads.server()
        engines = await self._reads.engines()
        queues = await self._reads.queues()
        findings = server_findings(server)
        for engine in engines:
            findings += engine_findings(engine)
        for queue in queues:
            findings += queue_findings(
                queue, must=True, backlog_age_ms_max=self._backlog_age_ms_max
            )
        return Overview(
            at_ms=self._clock.now_ms(),
            findings=sorted(findings, key=lambda finding: finding.severity != "error"),
            queues=sorted(queues, key=lambda queue: _badness(queue.queue, findings)),
            engines=sorted(engines, key=lambda each: (each.live, -each.beat.loop_lag_ms)),
            server=server,
        )


def _badness(queue: str, findings: Sequence[Finding]) -> tuple[int, str]:
    found = {finding.severity for finding in findings if finding.queue == queue}
    return (0 if "error" in found else 1 if found else 2), queue
