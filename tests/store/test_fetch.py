"""Fetching and waiting."""

from __future__ import annotations

import asyncio

import pytest

from engine.store.base import Store
from schemas.rules import LANES
from tests.support.jobs import fields, settlement
from tests.support.rigs import QUEUE, MemoryRig, Rig


async def test_fetch_brings_jobs_in_lane_order_with_their_fields(rig: Rig, store: Store) -> None:
    low = await rig.add("low", fields(data=b"1"))
    first = await rig.add("critical", fields(data=b"2"))
    second = await rig.add("critical", fields(data=b"3", id="x"))

    fetched = await store.fetch(QUEUE, {"critical": 5, "low": 5})

    assert [(lease.batch.lane, lease.entry, lease.fields) for lease in fetched.leases] == [
        ("critical", first, fields(data=b"2")),
        ("critical", second, fields(data=b"3", id="x")),
        ("low", low, fields(data=b"1")),
    ]
    assert all(lease.deliveries == 1 and not lease.lost for lease in fetched.leases)
    assert await store.fetch(QUEUE, {"critical": 5, "low": 5}) == type(fetched)(
        [], dict.fromkeys(LANES, 0)
    )


async def test_fetch_takes_no_more_than_asked_and_counts_what_is_left(
    rig: Rig, store: Store
) -> None:
    for lane in ("high", "normal", "low"):
        for _ in range(5):
            await rig.add(lane, fields())

    fetched = await store.fetch(QUEUE, {"high": 2, "normal": 4})

    assert [lease.batch.lane for lease in fetched.leases] == ["high"] * 2 + ["normal"] * 4
    assert fetched.waiting == {"critical": 0, "high": 3, "normal": 1, "low": 5}


async def test_fetch_of_nothing_counts_what_waits(rig: Rig, store: Store) -> None:
    await rig.add("high", fields())

    fetched = await store.fetch(QUEUE, {})

    assert fetched.leases == []
    assert fetched.waiting == {"critical": 0, "high": 1, "normal": 0, "low": 0}


async def test_two_engines_never_fetch_the_same_job(rig: Rig, store: Store, other: Store) -> None:
    added = [await rig.add("normal", fields()) for _ in range(20)]

    parts = await asyncio.gather(*(one.fetch(QUEUE, {"normal": 3}) for one in (store, other) * 4))

    assert sorted(lease.entry for part in parts for lease in part.leases) == sorted(added)


async def test_what_was_trimmed_while_leased_does_not_hide_waiting_jobs(
    rig: Rig, store: Store
) -> None:
    gone = [await rig.add("normal", fields()) for _ in range(3)]
    await store.fetch(QUEUE, {"normal": 3})
    for entry in gone:
        await rig.delete("normal", entry)

    emptied = await store.fetch(QUEUE, {})
    await rig.add("normal", fields())
    found = await store.fetch(QUEUE, {"normal": 5})

    assert emptied.waiting["normal"] >= 0
    assert len(found.leases) == 1


async def test_since_is_not_later_than_the_delivery(rig: Rig, store: Store) -> None:
    """
    Goal: a lease is never thought younger than it is.

    Method: ``since`` of a read that found something lies within the call; the engine counts the
    lease's age from it.
    """
    clock = rig.clock.monotonic if isinstance(rig, MemoryRig) else asyncio.get_running_loop().time
    await rig.add("normal", fields())

    before = clock()
    fetched = await store.fetch(QUEUE, {"normal": 1})

    assert before <= fetched.leases[0].batch.since <= clock()


async def test_leases_of_one_lane_and_read_share_a_batch(rig: Rig, store: Store) -> None:
    for lane in ("high", "high", "low"):
        await rig.add(lane, fields())

    high, high_too, low = (await store.fetch(QUEUE, {"high": 2, "low": 1})).leases

    assert high.batch is high_too.batch
    assert low.batch is not high.batch


async def test_wait_returns_what_is_there_at_once(rig: Rig, store: Store) -> None:
    for lane in ("low", "high", "high", "high"):
        await rig.add(lane, fields())

    leases = await store.wait(QUEUE, LANES, 2, 1_000)

    assert [lease.batch.lane for lease in leases] == ["high", "high", "low"]
    assert set(await rig.pending("high")) | set(await rig.pending("low")) == {
        lease.entry for lease in leases
    }


async def test_wait_wakes_up_for_a_new_job(rig: Rig, store: Store) -> None:
    waiting = asyncio.ensure_future(store.wait(QUEUE, LANES, 5, 1_000))
    # Whether the read is blocked already or comes later, it must bring the job.
    await asyncio.sleep(0)
    entry = await rig.add("low", fields())

    leases = await waiting

    assert [(lease.entry, lease.deliveries) for lease in leases] == [(entry, 1)]


async def test_wait_ends_empty_handed_after_its_time(rig: Rig, store: Store) -> None:
    waiting = asyncio.ensure_future(store.wait(QUEUE, LANES, 5, 10))
    if isinstance(rig, MemoryRig):
        await rig.clock.advance(0.010)

    assert await waiting == []


async def test_wait_looks_at_the_lanes_named_only(rig: Rig, store: Store) -> None:
    await rig.add("low", fields())
    waiting = asyncio.ensure_future(store.wait(QUEUE, ["critical"], 5, 10))
    if isinstance(rig, MemoryRig):
        await rig.clock.advance(0.010)

    assert await waiting == []
    assert await rig.pending("low") == {}


@pytest.mark.parametrize("count", [1, 500])
async def test_settling_leaves_nothing_behind_in_the_lane(
    rig: Rig, store: Store, count: int
) -> None:
    for _ in range(count):
        await rig.add("normal", fields())
    leases = (await store.fetch(QUEUE, {"normal": count})).leases

    assert await store.settle(QUEUE, settlement(leases)) == []

    assert await rig.pending("normal") == {}
    assert (await store.fetch(QUEUE, {"normal": 1})).waiting["normal"] == 0
