"""A clock that moves when told."""

from __future__ import annotations

import asyncio

from engine.clock import Clock
from engine.testing import ManualClock, settle_loop


async def test_time_moves_when_told_only() -> None:
    clock: Clock = ManualClock(1_000)
    start = clock.monotonic()

    await settle_loop()

    assert (clock.now_ms(), clock.monotonic()) == (1_000, start)


async def test_sleepers_wake_in_order_each_at_its_own_time() -> None:
    clock = ManualClock(0)
    woken: list[tuple[str, int]] = []

    async def sleep(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.now_ms()))

    async with asyncio.TaskGroup() as group:
        for name, seconds in (("late", 3.0), ("early", 1.0), ("middle", 2.0), ("too", 2.0)):
            group.create_task(sleep(name, seconds))
        await clock.advance(2.5)
        assert woken == [("early", 1_000), ("middle", 2_000), ("too", 2_000)]
        assert clock.sleeping == 1
        await clock.advance(0.5)

    assert woken[-1] == ("late", 3_000)


async def test_a_periodic_task_runs_once_per_period() -> None:
    clock = ManualClock(0)
    ticks: list[int] = []

    async def tick() -> None:
        while True:
            await clock.sleep(1.0)
            ticks.append(clock.now_ms())

    task = asyncio.create_task(tick())
    await clock.advance(10.0)
    task.cancel()

    assert ticks == [1_000 * number for number in range(1, 11)]


async def test_a_cancelled_sleeper_does_not_stop_the_others() -> None:
    clock = ManualClock()
    first = asyncio.create_task(clock.sleep(1.0))
    second = asyncio.create_task(clock.sleep(2.0))
    await settle_loop()
    first.cancel()

    await clock.advance(2.0)

    assert second.done()
    assert clock.sleeping == 0


async def test_no_time_is_no_wait() -> None:
    await asyncio.wait_for(ManualClock().sleep(0), 1)


async def test_a_step_moves_unix_time_alone() -> None:
    clock = ManualClock(0)
    clock.move(1.0)
    clock.step(-500)

    assert (clock.now_ms(), clock.monotonic()) == (500, 1.0)


def test_chance_is_the_seeds() -> None:
    one, same, other = ManualClock(seed=1), ManualClock(seed=1), ManualClock(seed=2)
    draws = [one.draw() for _ in range(5)]

    assert draws == [same.draw() for _ in range(5)]
    assert draws != [other.draw() for _ in range(5)]
    assert all(0 <= draw < 1 for draw in draws)
