"""Changing a schedule and adding its jobs: together or not at all, and once whoever else tries."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import StoreRefused
from engine.store.base import (
    Store,
)
from engine.store.schedule_base import ScheduleAnswer, ScheduleChange
from tests.support.jobs import fields
from tests.support.rigs import KEYS, QUEUE, MemoryRig, Rig, ServerRig

NAME = b"nightly"
DONE = ScheduleAnswer("done")


def change(before: bytes | None, after: bytes | None, **rest: object) -> ScheduleChange:
    return ScheduleChange(name=NAME, before=before, after=after, **rest)  # type: ignore[arg-type]


async def jobs_in(rig: Rig, lane: str = "normal") -> list[list[bytes]]:
    return [row for _, row in await rig.stream(KEYS.lane(lane))]


async def test_there_are_no_schedules_at_first(rig: Rig, store: Store) -> None:
    assert await store.schedules(QUEUE) == {}


async def test_a_record_is_made_changed_and_taken_away(rig: Rig, store: Store) -> None:
    assert await store.schedule(QUEUE, change(None, b"one")) == DONE
    assert await store.schedules(QUEUE) == {NAME: b"one"}
    assert await store.schedule(QUEUE, change(b"one", b"\xff two")) == DONE
    assert await store.schedules(QUEUE) == {NAME: b"\xff two"}
    assert await store.schedule(QUEUE, change(b"\xff two", None)) == DONE
    assert await store.schedules(QUEUE) == {}


@pytest.mark.parametrize(
    ("there", "seen"), [(b"one", b"two"), (b"one", None), (None, b"one"), (b"", None), (None, b"")]
)
async def test_a_change_of_another_record_than_seen_does_nothing(
    rig: Rig, store: Store, there: bytes | None, seen: bytes | None
) -> None:
    if there == b"" and isinstance(rig, ServerRig):
        await rig.call("HSET", KEYS.schedules, NAME, b"")
    elif there is not None:
        await store.schedule(QUEUE, change(None, there))

    answer = await store.schedule(QUEUE, change(seen, b"new", jobs=[fields()]))

    if there != b"" or isinstance(rig, ServerRig):
        assert answer == ScheduleAnswer("changed", record=there)
        assert await store.schedules(QUEUE) == ({} if there is None else {NAME: there})
        assert await jobs_in(rig) == []


async def test_jobs_come_with_the_change_in_order(rig: Rig, store: Store) -> None:
    ticks = [fields(id=f"nightly:{at}") for at in range(20)]

    answer = await store.schedule(QUEUE, change(None, b"one", lane="low", jobs=ticks))

    assert answer == DONE
    assert await jobs_in(rig, "low") == ticks


async def test_nothing_is_done_before_the_due_time_of_the_server(rig: Rig, store: Store) -> None:
    """The engine's clock may be ahead; only the server's decides."""
    due_ms = await rig.now_ms() + 60_000

    answer = await store.schedule(QUEUE, change(None, b"one", jobs=[fields()], due_ms=due_ms))

    assert answer.outcome == "early"
    assert 50_000 < answer.left_ms <= 60_000
    assert (await store.schedules(QUEUE), await jobs_in(rig)) == ({}, [])
    if isinstance(rig, MemoryRig):
        rig.model.advance(60_000)
        assert await store.schedule(QUEUE, change(None, b"one", due_ms=due_ms)) == DONE


async def test_of_many_engines_one_fires_a_tick(rig: Rig, store: Store, other: Store) -> None:
    await store.schedule(QUEUE, change(None, b"0"))
    for tick in range(20):
        wanted = change(b"%d" % tick, b"%d" % (tick + 1), jobs=[fields(id=f"nightly:{tick}")])
        answers = await asyncio.gather(
            *(one.schedule(QUEUE, wanted) for one in (store, other, store, other, store))
        )
        assert sorted(answer.outcome for answer in answers) == ["changed"] * 4 + ["done"]

    assert await jobs_in(rig) == [fields(id=f"nightly:{tick}") for tick in range(20)]


async def test_a_lane_that_takes_nothing_leaves_the_schedule_as_it_is(
    rig: Rig, store: Store
) -> None:
    await store.schedule(QUEUE, change(None, b"one"))
    if not isinstance(rig, ServerRig):
        return
    await rig.call("DEL", KEYS.lane("low"))
    await rig.call("SET", KEYS.lane("low"), "x")

    with pytest.raises(StoreRefused):
        await store.schedule(QUEUE, change(b"one", b"two", lane="low", jobs=[fields()]))

    assert await store.schedules(QUEUE) == {NAME: b"one"}


async def test_a_full_server_neither_fires_nor_moves_on(rig: Rig, store: Store) -> None:
    """Goal: a tick that the server has no room for is fired later, and is not lost meanwhile."""
    await store.schedule(QUEUE, change(None, b"one"))
    if not isinstance(rig, ServerRig):
        return
    await rig.call("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StoreRefused):
            await store.schedule(QUEUE, change(b"one", b"two", jobs=[fields(), fields()]))
    finally:
        await rig.call("CONFIG", "SET", "maxmemory", "0")

    assert (await store.schedules(QUEUE), await jobs_in(rig)) == ({NAME: b"one"}, [])
    assert await store.schedule(QUEUE, change(b"one", b"two", jobs=[fields()])) == DONE
