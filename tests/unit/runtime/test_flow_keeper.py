"""When an engine looks after a queue's flows."""

from __future__ import annotations

import asyncio
from typing import cast

from engine.runtime.flows import FlowKeeper
from engine.runtime.outage import Outage
from engine.store.base import Control, Store
from engine.telemetry import Meters
from engine.testing import ManualClock
from schemas.job import Tombstone


class Draws(ManualClock):
    """Counts how often somebody begins to wait."""

    drawn = 0

    def draw(self) -> float:
        self.drawn += 1
        return super().draw()


async def test_a_cancelled_job_of_a_queue_without_flows_keeps_nobody_busy() -> None:
    clock = Draws()
    outage = Outage(clock, Meters([]), wait_ms_max=1, on_change=lambda *_: None)
    # It is not asked for anything: there are no flows.
    store = cast(Store, None)
    keeper = FlowKeeper(store, "q", clock, outage=outage, meters={}, lease_ms=1_000)
    running = asyncio.create_task(keeper.run())

    keeper.follow(Control(cancelled={"job": Tombstone()}))
    for _ in range(100):
        await asyncio.sleep(0)

    running.cancel()
    assert clock.drawn <= 2
