"""The verbs that look after cancelled jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.store.base import Summoned
from engine.store.scripts import script
from engine.store.upkeep import UpkeepVerbs
from schemas.rules import LANES

FIRST = b"0/0"


class CancelVerbs(UpkeepVerbs):
    """The verbs of :class:`engine.store.base.Store` that look after cancelled jobs."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._rounds: dict[str, bytes] = {}

    async def summon(self, queue: str, types: Sequence[str], *, count: int) -> Summoned:
        keys = self.keys_of(queue)
        held = (keys.held(name) for name in types)
        parked = (keys.parked(lane) for lane in LANES)
        names = [keys.cancelled, keys.delayed, *keys.lanes.values(), *parked, *held]
        moved, place = await self._upkeep.run(
            script("summon"), names, self._rounds.get(queue, FIRST), count, *LANES
        )
        self._rounds[queue] = place
        return Summoned(moved, place == FIRST)

    async def forget(self, queue: str, ids: Sequence[str], *, age_ms_min: int) -> int:
        keys = self.keys_of(queue)
        names = [keys.cancelled, *keys.streams.values()]
        dropped: int = await self._upkeep.run(script("forget"), names, age_ms_min, *ids)
        return dropped
