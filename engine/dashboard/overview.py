"""What the page shows at a glance, read at most once a second however many look at it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from engine.clock import Clock
from engine.dashboard.glance import overview_of
from engine.dashboard.troubles import away_of
from engine.errors import EngineError
from engine.logs import get_logger
from schemas.numbers import Glance
from schemas.overview import Overview, Trouble, Verdict
from schemas.schedule import ScheduleView
from schemas.stats import Audited, EngineStats, QueueStats, Server

log = get_logger("http")

FRESH_S = 1.0
READ_S_MAX = 10.0
HAPPENED = 6
SCHEDULES_FRESH_S = 10.0
"""A queue may have thousands of them, and they change seldom."""
FORGET_S = 30.0
"""How long a trouble may be away and still count as the same one."""


class Reads(Protocol):
    """What the page asks for; :class:`engine.admin.Admin` satisfies it."""

    async def queues(
        self, names: Sequence[str] = (), *, engines: list[EngineStats] | None = None
    ) -> list[QueueStats]:
        """Count what queues hold."""

    async def engines(self) -> list[EngineStats]:
        """List the engines heard of within the last minute."""

    async def server(self) -> Server:
        """Ask the server how it is."""

    async def schedule_problems(
        self, queues: Sequence[QueueStats], engines: Sequence[EngineStats], now_ms: int
    ) -> list[ScheduleView]:
        """List the schedules that cannot fire or are late."""

    async def glance(self, queues: Sequence[QueueStats]) -> dict[str, Glance]:
        """Tell the pace of queues."""

    async def audit(self, count: int = 50) -> list[Audited]:
        """List the latest changes that people made."""


class Overviews:
    """
    Reads overviews, one at a time, and keeps the last one.

    Args:
        reads: Where they come from.
        clock: Tells how old one is.
        backlog_age_ms_max: Age of the oldest waiting job that is still well.
        own: Troubles of the engine that answers, which no other one knows of.

    Attributes:
        trouble: Why there is no newer one, or an empty string.
    """

    def __init__(
        self,
        reads: Reads,
        clock: Clock,
        *,
        backlog_age_ms_max: int,
        own: Callable[[], list[Trouble]] = list,
    ) -> None:
        self.trouble = ""
        self._reads = reads
        self._clock = clock
        self._backlog_age_ms_max = backlog_age_ms_max
        self._own = own
        self._reading: asyncio.Task[None] | None = None
        self._last: Overview | None = None
        self._last_s = 0.0
        self._tried_s = float("-inf")
        self._since = _Since()
        self._schedules: list[ScheduleView] = []
        self._schedules_s = float("-inf")

    async def latest(self) -> Overview | None:
        """
        Return an overview that is at most a second old, or the last one with the trouble.

        None says that there never was one.
        """
        if self._clock.monotonic() - self._tried_s >= FRESH_S and self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())
        if self._reading is not None:
            # A visitor who goes away does not take the answer from the others.
            await asyncio.shield(self._reading)
        if self._last is None or not self.trouble:
            return self._last
        age_ms = round((self._clock.monotonic() - self._last_s) * 1_000)
        away = away_of(self.trouble, self._last.at_ms)
        return msgspec.structs.replace(
            self._last,
            age_ms=age_ms,
            trouble=self.trouble,
            verdict=Verdict(kind="bad", title="The queues cannot be read", note=""),
            troubles=[away, *self._last.troubles],
        )

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
            self.trouble = ""
        except (EngineError, TimeoutError) as error:
            self.trouble = str(error) or "the server did not answer in time"
        except Exception as error:
            # The page says so, and the engine goes on.
            self.trouble = "the overview could not be read; the log says why"
            log.error("overview_failed", exc_info=error)
        finally:
            self._tried_s = self._clock.monotonic()
            self._reading = None

    async def _gather(self) -> Overview:
        server = await self._reads.server()
        engines = await self._reads.engines()
        queues = await self._reads.queues(engines=engines)
        if self._clock.monotonic() - self._schedules_s >= SCHEDULES_FRESH_S:
            self._schedules = await self._reads.schedule_problems(queues, engines, server.time_ms)
            self._schedules_s = self._clock.monotonic()
        found = overview_of(
            server=server,
            engines=engines,
            queues=queues,
            paces=await self._reads.glance(queues),
            happened=await self._reads.audit(HAPPENED),
            schedules=self._schedules,
            backlog_age_ms_max=self._backlog_age_ms_max,
            own=self._own(),
        )
        troubles = self._since.note(found.troubles, found.at_ms, self._clock.monotonic())
        return msgspec.structs.replace(found, troubles=troubles)


class _Since:
    """Remembers since when troubles are there that do not tell it themselves."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, float]] = {}

    def note(self, troubles: Sequence[Trouble], now_ms: int, now_s: float) -> list[Trouble]:
        """Date troubles; one that was away for a moment keeps its date."""
        told = []
        for trouble in troubles:
            first_ms, _ = self._known.get(trouble.key, (now_ms, now_s))
            self._known[trouble.key] = (first_ms, now_s)
            told.append(
                trouble if trouble.since_ms else msgspec.structs.replace(trouble, since_ms=first_ms)
            )
        self._known = {
            key: each for key, each in self._known.items() if now_s - each[1] <= FORGET_S
        }
        return told
