"""What the page shows of one engine."""

from __future__ import annotations

from engine.admin.base import AdminBase
from engine.errors import NotFound
from schemas.engines import InFlight
from schemas.stats import EngineStats

JOBS_MAX = 100


class EngineVerbs(AdminBase):
    """The verbs that look at one engine."""

    async def engine(self, name: str) -> EngineStats:
        """
        Return one engine.

        Raises:
            NotFound: It was not heard of within the last minute.
        """
        for each in await self.engines():
            if each.beat.name == name:
                return each
        raise NotFound(f"no engine {name!r} was heard of within the last minute")

    async def in_flight(self, engine: EngineStats) -> InFlight:
        """List what an engine has taken: at most 100 jobs, and how many there are."""
        queues = sorted(engine.beat.queues)
        total, found = await self._store.in_flight.of(engine.beat.name, queues, limit=JOBS_MAX)
        return InFlight(total=total, jobs=[each.row() for each in found])
