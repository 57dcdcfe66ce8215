"""Five engines fire schedules and are killed anywhere; each tick makes its job exactly once."""

from __future__ import annotations

import asyncio
import random
from itertools import islice

import msgspec
import pytest

from engine.core import schedule as rules
from engine.errors import StoreUnavailable
from engine.runtime.outage import Outage
from engine.runtime.scheduling import Scheduling
from engine.store.schedule_base import ScheduleAnswer, ScheduleChange
from engine.telemetry import Meters, QueueMeter
from engine.testing import ManualClock, MemoryStore, ServerModel
from engine.testing.clock import settle_loop
from engine.testing.queue_model import QueueModel
from schemas.rules import LANES
from schemas.schedule import Schedule

QUEUE = "letters"
ENGINES = 5
SEEDS = [*range(2), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(2, 40))]

# Berlin puts its clocks back at 01:00 UTC.
START_MS = 1_792_887_300_000
END_MS = START_MS + 5_400_000

SCHEDULES = {
    "tens": Schedule(type="pack", cron="*/10 * * * *", tz="Europe/Berlin", catch_up="all"),
    "twice": Schedule(type="pack", cron="30 2 * * *", tz="Europe/Berlin", catch_up="all"),
    "hourly": Schedule(
        type="pack", cron="5 * * * *", tz="America/New_York", catch_up="all", jitter_ms=600_000
    ),
    "often": Schedule(type="pack", every_ms=97_000, catch_up="all", jitter_ms=30_000),
    "once": Schedule(type="pack", at=START_MS + 4_000_000, catch_up="all"),
}


class Killed(BaseException):
    """The process is gone."""


def is_killed(task: asyncio.Task[None]) -> bool:
    """Tell whether an engine is dead; one that ended by itself is a bug."""
    if not task.done():
        return False
    assert isinstance(task.exception(), Killed)
    return True


class World:
    """Engines over one model, killed and started by a seed."""

    def __init__(self, seed: int, queue_kind: type[QueueModel] = QueueModel) -> None:
        self.chance = random.Random(seed)
        self.clock = ManualClock(START_MS, seed=seed)
        self.model = ServerModel(self.clock.now_ms, queue_kind=queue_kind)
        self.engines: list[asyncio.Task[None]] = []
        self.kills = 0

    def start(self) -> None:
        store = MemoryStore(self.model, self.clock, faults=self.fault)
        outage = Outage(self.clock, Meters([]), wait_ms_max=2_000, on_change=lambda *_: None)
        engine = Scheduling(
            store,
            QUEUE,
            SCHEDULES,
            app="shop:app",
            clock=self.clock,
            meter=QueueMeter(["pack"], LANES),
            outage=outage,
        )
        self.engines.append(asyncio.get_running_loop().create_task(engine.run()))

    def fault(self, verb: str, moment: str) -> None:
        """Kill the engine before or after a verb took effect, or lose the request or the reply."""
        drawn = self.chance.random() if self.clock.now_ms() > START_MS else 1.0
        if drawn < 0.02:
            self.kills += 1
            raise Killed
        if drawn < 0.06:
            raise StoreUnavailable("connection", f"{moment} {verb}")

    async def run(self) -> None:
        # Ticks count from when they are declared, so that comes before all trouble.
        self.start()
        await self.clock.advance(0)
        while self.clock.now_ms() < END_MS:
            if self.chance.random() < 0.02:
                # Nobody is there for up to half an hour.
                await self.kill_all()
                self.clock.move(self.chance.uniform(60, 1_800))
            self.engines = [task for task in self.engines if not is_killed(task)]
            while len(self.engines) < ENGINES:
                self.start()
            await self.clock.advance(self.chance.choice([0.3, 2.0, 20.0]))
        await self.kill_all()

    async def kill_all(self) -> None:
        for task in self.engines:
            task.cancel()
        await settle_loop()
        assert all(task.cancelled() or is_killed(task) for task in self.engines)
        self.engines.clear()

    def jobs(self) -> list[str]:
        rows = self.model.queue(QUEUE).lanes["normal"].entries.values()
        return [row[row.index(b"id") + 1].decode() for row in rows]


class Trusting(QueueModel):
    """A mutant: whoever comes changes the record, whatever it is by now."""

    def schedule(self, change: ScheduleChange) -> ScheduleAnswer:
        record = self.schedules.get(change.name)
        return super().schedule(msgspec.structs.replace(change, before=record))


class Hasty(QueueModel):
    """A mutant: moves on without the jobs, as two calls do that a kill comes between."""

    calls = 0

    def schedule(self, change: ScheduleChange) -> ScheduleAnswer:
        self.calls += bool(change.jobs)
        jobs = [] if self.calls % 10 == 0 else change.jobs
        return super().schedule(msgspec.structs.replace(change, jobs=jobs))


@pytest.mark.parametrize("mutant", [Trusting, Hasty])
async def test_the_check_finds_what_is_broken(mutant: type[QueueModel]) -> None:
    world = World(0, mutant)

    await world.run()

    with pytest.raises(AssertionError):
        check(world.jobs())


def expected(name: str, fired: int) -> list[str]:
    return [f"{name}:{tick}" for tick in islice(rules.ticks(SCHEDULES[name], START_MS), fired)]


@pytest.mark.parametrize("seed", SEEDS)
async def test_each_tick_makes_one_job_whatever_dies(seed: int) -> None:
    """
    Goal: no tick is missed and none is fired twice, over a change of the clocks.

    Method: engines die before and after any call, requests and replies get lost, and at times
    nobody is there. Everything is caught up with, so the jobs are the first ticks without a gap.
    """
    world = World(seed)

    await world.run()

    assert world.kills > 10
    check(world.jobs())


def check(jobs: list[str]) -> None:
    assert len(jobs) == len(set(jobs))
    for name, spec in SCHEDULES.items():
        fired = [job for job in jobs if job.startswith(f"{name}:")]
        assert fired == expected(name, len(fired))
        due = [tick for tick in islice(rules.ticks(spec, START_MS), 400) if tick < END_MS - 700_000]
        assert len(fired) >= len(due)
    assert expected("twice", 1)[0] in jobs
