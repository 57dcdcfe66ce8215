"""Wait for "lease taken" or "job settled" in place of sleeping."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from engine.testing.events import Added, Event, Flushed, Leased, Lost, Settled
from engine.testing.model import ServerModel
from engine.testing.streams import jobs_in

LIMIT_S = 10.0
"""Real seconds after which a wait fails; only a broken test meets it."""


class Signals:
    """
    Counts what happens in a model, and waits for it.

    Counts start when the object is made. :attr:`counts` has ``added``, ``leased``, ``ended``,
    ``released``, ``done``, ``retried``, ``dead``, ``aside``, ``lost`` and ``flushed``.
    """

    def __init__(self, model: ServerModel) -> None:
        self.model = model
        self.counts: Counter[str] = Counter()
        self.seen: list[Event] = []
        self._waiters: list[tuple[Callable[[], bool], asyncio.Event]] = []
        model.observers.append(self._note)

    def detach(self) -> None:
        """Stop counting."""
        self.model.observers.remove(self._note)

    async def reached(self, what: str, count: int = 1) -> None:
        """
        Wait until something has been counted that often since the start.

        Raises:
            AssertionError: It was not within :data:`LIMIT_S` real seconds.
        """
        await self.until(lambda: self.counts[what] >= count, what=f"{count} × {what}")

    async def until(self, holds: Callable[[], bool], *, what: str = "the condition") -> None:
        """Wait until a condition holds, looked at after each event of the model."""
        if holds():
            return
        rung = asyncio.Event()
        waiter = (holds, rung)
        self._waiters.append(waiter)
        try:
            await asyncio.wait_for(rung.wait(), LIMIT_S)
        except TimeoutError:
            raise AssertionError(f"waited in vain for {what}; saw {dict(self.counts)}") from None
        finally:
            self._waiters.remove(waiter)

    def _note(self, event: Event) -> None:
        self.seen.append(event)
        match event:
            case Added():
                self.counts["added"] += 1
            case Leased():
                self.counts["leased"] += 1
            case Lost(entries=entries):
                self.counts["lost"] += len(entries)
            case Flushed():
                self.counts["flushed"] += 1
            case Settled(settlement=settlement):
                self.counts["ended"] += len(settlement.ended)
                self.counts["released"] += len(settlement.released)
                self.counts["done"] += sum(jobs_in(fields) for fields in settlement.done)
                self.counts["retried"] += len(settlement.retries) + len(settlement.again)
                self.counts["dead"] += len(settlement.dead)
                self.counts["aside"] += len(settlement.aside)
        for holds, rung in self._waiters:
            if holds():
                rung.set()
