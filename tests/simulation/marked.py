"""
A world that is hard on marks: one lane, so that settlements go by them; engines that freeze with
ended jobs in hand and renew late; and a replica that lags behind and takes the server's place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from tests.simulation.engines import LEASE_MS, SimEngine
from tests.simulation.invariants import Copy
from tests.simulation.jobs import Plan
from tests.simulation.world import World

RENEWS = 0.05


class LateEngine(SimEngine):
    """An engine whose renewing thread is slow to run, so that it learns late what it has lost."""

    def renew(self) -> None:
        """Renew now and then."""
        if self.chance.random() < RENEWS:
            super().renew()


class MarkedWorld(World):
    """
    Engines that settle by marks.

    Args:
        seed: Draws everything.
        orders_rate: How often operators cancel jobs; a failover loses what engines know of that.
        kinds: The queue's and the engine's rules; mutants to test the test.
    """

    def __init__(self, seed: int, *, orders_rate: float = 0, **kinds: Any) -> None:
        self.replica: tuple[dict[str, Any], Copy] | None = None
        kinds = {"engine_kind": LateEngine, **kinds}
        super().__init__(seed, jobs=80, orders_rate=orders_rate, **kinds)
        self.trouble_rate = self.chance.choice([0.0, 0.002, 0.01])
        self.disaster_rate = self.chance.choice([0.02, 0.05])

    def draw_plan(self) -> Plan:
        """Draw a job of the one lane."""
        return msgspec.structs.replace(super().draw_plan(), lane="normal")

    def step(self) -> None:
        """Let more go wrong around the engines than within them."""
        if not self.healed and self.chance.random() < self.disaster_rate:
            self.chance.choice(self.disasters())()
        super().step()

    def disasters(self) -> list[Callable[[], None]]:
        """What may move entries behind an engine's back."""
        return [
            *[self.freeze_before_settling] * 4,
            self.crash,
            self.restart_server,
            *[self.lose_groups] * 2,
            *[self.fail_over] * 2,
        ]

    def freeze_before_settling(self) -> None:
        """Freeze an engine, often beyond its lease, with ended jobs that it has not settled."""
        holding = [e for e in self.engines if any(out.leases() for out in e.out.values())]
        engine = self.chance.choice(holding or self.engines)
        for_ms = self.chance.choice([LEASE_MS // 4, LEASE_MS, 2 * LEASE_MS])
        engine.stalled_until_ms = self.steady_ms + for_ms
        self.ledger.seen["stalled"] += 1

    def fail_over(self) -> None:
        """A replica falls behind; the next time, it takes the server's place as it is."""
        if self.replica is None:
            self.replica = self.queue.copy(), self.ledger.copy()
            return
        copied, known = self.replica
        self.replica = None
        self.ledger.failed_over(known)
        self.queue.become(copied)
        self.model.restart()
        for engine in self.engines:
            engine.cut_off()
        self.ledger.seen["failed over"] += 1
