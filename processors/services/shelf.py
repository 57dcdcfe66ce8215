"""A small store in memory, bounded in number and time."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar
from uuid import UUID

from engine import Clock

Held = TypeVar("Held")


class Shelf(Generic[Held]):
    """
    Holds a bounded number of things for a limited time; the longest untouched one goes first.

    Args:
        clock: Where time comes from.
        most: How many.
        ttl_s: How long each.
    """

    def __init__(self, clock: Clock, *, most: int, ttl_s: float) -> None:
        self._clock = clock
        self._most = most
        self._ttl_s = ttl_s
        self._held: OrderedDict[UUID, tuple[float, Held]] = OrderedDict()

    def get(self, name: UUID) -> Held | None:
        """Find something whose time is not over."""
        found = self._held.get(name)
        if found is None:
            return None
        if found[0] <= self._clock.monotonic():
            del self._held[name]
            return None
        self._held.move_to_end(name)
        return found[1]

    def put(self, name: UUID, held: Held) -> None:
        """Hold something from now on."""
        self._held[name] = (self._clock.monotonic() + self._ttl_s, held)
        self._held.move_to_end(name)
        while len(self._held) > self._most:
            self._held.popitem(last=False)

    def drop(self, name: UUID) -> None:
        """Forget something, if it is held."""
        self._held.pop(name, None)

    def items(self) -> list[tuple[UUID, Held]]:
        """List all that is held, whether or not its time is over."""
        return [(name, held) for name, (_, held) in self._held.items()]
