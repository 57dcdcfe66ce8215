"""Whatever arrives, leaves and fails when: each job of a batch handler has exactly one end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.batch import BatchRule
from engine.core.leases import LeaseTimes
from engine.runtime.batching import Batches
from engine.runtime.calls import OverLimit
from engine.runtime.jobs import LiveJob
from engine.testing import FakeJob, ManualClock
from engine.testing.clock import settle_loop

LIMIT_S = 2.0
GRACE_S = 0.5


class Step(NamedTuple):
    """What happens next: so many join, or the n-th leaves, or time moves on by so many ms."""

    what: str
    number: int


class Arrived(FakeJob, kw_only=True):
    """A job that was or was not lost with an engine before."""

    lost: int = 0
    lease: Any = None


class FixedCrew:
    """Workers of which as many are active as join."""

    def __init__(self, limit: int) -> None:
        self.active = 0
        self.limit = limit
        self.open = True
        self.begun_at: list[Sequence[LiveJob]] = []

    def begun(self, jobs: Sequence[LiveJob]) -> None:
        self.begun_at.append(jobs)


class World:
    """Joins jobs, lets them leave, and keeps what became of each."""

    def __init__(self, rule: BatchRule, limit: int, behaviour: Sequence[str]) -> None:
        self.clock = ManualClock()
        self.rule = rule
        self.stuck = 0
        self.calls: list[list[int]] = []
        self.ends: dict[int, str] = {}
        self.joined_at: dict[int, float] = {}
        self.waits: list[float] = []
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.behaviour = behaviour
        self.owned: set[asyncio.Task[None]] = set()
        self.crew = FixedCrew(limit)
        self.batches = Batches(
            self.clock,
            times=LeaseTimes(lease_ms=30_000, renew_ms=10_000),
            cancel_grace_s=GRACE_S,
            spawn=self.spawn,
            stopping=lambda: False,
            on_stuck=self.on_stuck,
        )
        self.batches.crew = self.crew
        self.batcher = self.batches.batcher(rule, self.handle, limit_s=LIMIT_S)

    def spawn(self, coroutine: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine)
        self.owned.add(task)
        return task

    def on_stuck(self, change: int) -> None:
        self.stuck += change

    async def handle(self, jobs: list[Any], payloads: list[Any]) -> Any:
        self.waits.append(max(self.clock.monotonic() - self.joined_at[n] for n in payloads))
        how = self.behaviour[len(self.calls) % len(self.behaviour)]
        self.calls.append(payloads)
        match how:
            case "slow":
                await self.clock.sleep(LIMIT_S / 2)
            case "hangs":
                await self.clock.sleep(10 * LIMIT_S)
            case "swallows":
                for _ in range(2):
                    try:
                        await self.clock.sleep(10 * LIMIT_S)
                    except asyncio.CancelledError:
                        continue
            case "raises":
                raise SystemExit(1)
            case "short":
                return payloads[1:]
        return [ValueError() if n % 3 == 0 else n for n in payloads]

    async def work(self, number: int) -> None:
        self.joined_at[number] = self.clock.monotonic()
        self.crew.active += 1
        lease = SimpleNamespace(lost=False, batch=SimpleNamespace(since=self.clock.monotonic()))
        arrived = Arrived(lost=number % 7 == 5, lease=lease)
        try:
            result = await self.batcher.join(cast(LiveJob, arrived), number)
            end = f"done {result}"
        except asyncio.CancelledError:
            end = "left"
        except OverLimit:
            end = "timeout"
        except BaseException as error:  # noqa: BLE001 - all that a handler may raise
            end = type(error).__name__
        self.crew.active -= 1
        assert number not in self.ends
        self.ends[number] = end

    async def take(self, step: Step) -> None:
        match step.what:
            case "join":
                for _ in range(min(step.number, self.crew.limit - self.crew.active)):
                    number = len(self.tasks)
                    self.tasks[number] = asyncio.create_task(self.work(number))
            case "leave" if self.tasks:
                self.tasks[step.number % len(self.tasks)].cancel()
            case "move":
                await self.clock.advance(step.number / 1e3)
        if step.number % 2:
            await settle_loop(4)


STEPS = st.one_of(
    st.builds(Step, st.just("join"), st.integers(1, 12)),
    st.builds(Step, st.just("leave"), st.integers(0, 60)),
    st.builds(Step, st.just("move"), st.integers(1, 3_000)),
)
BEHAVIOUR = st.sampled_from(["returns", "slow", "hangs", "swallows", "raises", "short"])


@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(1, 8),
    wait_ms=st.integers(1, 500),
    limit=st.integers(1, 12),
    behaviour=st.lists(BEHAVIOUR, min_size=1, max_size=4),
    steps=st.lists(STEPS, max_size=40),
)
def test_each_job_has_exactly_one_end(
    size: int, wait_ms: int, limit: int, behaviour: list[str], steps: list[Step]
) -> None:
    rule = BatchRule(size=size, wait_ms=wait_ms)

    async def run() -> World:
        world = World(rule, limit, behaviour)
        for step in steps:
            await world.take(step)
        await world.clock.advance(60 * LIMIT_S)
        assert all(task.done() for task in (*world.owned, *world.tasks.values()))
        return world

    world = asyncio.run(run())

    assert world.ends.keys() == world.joined_at.keys()
    assert world.crew.active == world.batches.gathering == world.stuck == world.batcher.waiting == 0
    assert all(len(call) <= size for call in world.calls)
    assert all(len(call) == 1 for call in world.calls if any(n % 7 == 5 for n in call))
    assert all(wait <= wait_ms / 1e3 + 1e-9 for wait in world.waits)
    calls = Counter(number for call in world.calls for number in call)
    assert set(calls.values()) <= {1}
    # Only those that left may have an end without having been in a call.
    assert all(number in calls or end == "left" for number, end in world.ends.items())
    assert all(
        end.removeprefix("done ") == str(n) for n, end in world.ends.items() if "done" in end
    )
