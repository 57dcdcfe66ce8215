"""What was read of the queues' numbers, kept until newer ones are there."""

from __future__ import annotations

from collections import OrderedDict

from engine.admin.pace import Pace
from engine.clock import Clock
from engine.store.operator import OperatorStore

KEPT_MAX = 64


class NumberShelf:
    """
    What was read already, shared by all who act over one connection.

    Attributes:
        paces: Queue → its pace.
        kept: What was made for a step and holds until it is over.
    """

    def __init__(self, store: OperatorStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.paces: dict[str, Pace] = {}
        self.kept: OrderedDict[tuple[str, str], tuple[int, object]] = OrderedDict()
        self._offset_ms = 0.0
        self._asked_s = float("-inf")

    async def now_ms(self) -> int:
        """Return the server's clock, which is asked once a minute."""
        now_s = self._clock.monotonic()
        if now_s - self._asked_s >= 60:
            self._offset_ms = await self._store.now_ms() - now_s * 1e3
            self._asked_s = now_s
        return round(now_s * 1e3 + self._offset_ms)

    def get(self, what: str, of: str, step: int) -> object | None:
        """Return what was made for this step, if it was."""
        made, found = self.kept.get((what, of), (None, None))
        return found if made == step else None

    def put(self, what: str, of: str, step: int, made: object) -> None:
        """Keep what was made for this step, and drop what was not asked for lately."""
        self.kept[what, of] = (step, made)
        self.kept.move_to_end((what, of))
        while len(self.kept) > KEPT_MAX:
            self.kept.popitem(last=False)
