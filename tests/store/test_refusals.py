"""What a server refuses in the middle of a script changes nothing: real servers only."""

from __future__ import annotations

import pytest

from engine.errors import StoreRefused
from engine.store.base import Store
from engine.wire.packing import pack
from tests.store.test_settle import EVERYTHING, lease_some, snapshot
from tests.support.jobs import fields, settlement
from tests.support.rigs import KEYS, QUEUE, Rig, ServerRig

LAST_ID = "18446744073709551615-18446744073709551615"
"""A stream that holds this id takes no further entry."""


def server(rig: Rig) -> ServerRig:
    """The rig, where it is one that can be filled by hand."""
    if not isinstance(rig, ServerRig):
        pytest.skip("the model refuses nothing")
    return rig


@pytest.mark.parametrize("key", [KEYS.done, KEYS.dead, KEYS.held("pack")])
async def test_a_settlement_that_cannot_be_recorded_changes_nothing(
    rig: Rig, store: Store, key: str
) -> None:
    leases = await lease_some(rig, store, 2)
    await server(rig).call("XADD", key, LAST_ID, "full", "1")
    before = await snapshot(rig)

    with pytest.raises(StoreRefused):
        await store.settle(QUEUE, settlement(leases, **EVERYTHING))

    assert await snapshot(rig) == before
    await server(rig).call("DEL", key)
    assert await store.settle(QUEUE, settlement(leases, **EVERYTHING)) == []
    assert await rig.stream(KEYS.lane("normal")) == []


async def test_counters_that_cannot_be_raised_keep_no_job_from_its_end(
    rig: Rig, store: Store
) -> None:
    leases = await lease_some(rig, store)
    await server(rig).call("HSET", KEYS.stats, "done:pack", "many")

    assert await store.settle(QUEUE, settlement(leases, **EVERYTHING)) == []
    assert await rig.pending("normal") == {}


async def test_due_jobs_of_a_lane_that_takes_nothing_stay_delayed(rig: Rig, store: Store) -> None:
    for number, lane in enumerate((b"low", b"normal", b"low", b"high")):
        await rig.delay(1 + number, pack([lane, *fields(data=b'{"n":%d}' % number)]))
    await server(rig).call("XADD", KEYS.lane("low"), LAST_ID, "full", "1")

    promoted = await store.promote(QUEUE, count=100)

    assert promoted.moved == 2
    assert len(await rig.delayed()) == 2
    assert len(await rig.stream(KEYS.lane("normal"))) == 1
    assert len(await rig.stream(KEYS.lane("high"))) == 1


async def test_held_jobs_of_a_lane_that_takes_nothing_stay_held(rig: Rig, store: Store) -> None:
    held = KEYS.held("pack")
    for number in range(3):
        packed = pack([b"low", *fields(data=b'{"n":%d}' % number)])
        await server(rig).call("XADD", held, "*", "job", packed)
    await server(rig).call("XADD", KEYS.lane("low"), LAST_ID, "full", "1")

    assert await store.unhold(QUEUE, ["pack"], count=100) == 0
    assert len(await rig.stream(held)) == 3


@pytest.mark.parametrize("again", [1, 3])
async def test_a_lane_that_takes_nothing_takes_no_job_back(
    rig: Rig, store: Store, again: int
) -> None:
    leases = await lease_some(rig, store, 2 + again)
    await server(rig).call("XADD", KEYS.lane("normal"), LAST_ID, "full", "1")
    before = await snapshot(rig)

    with pytest.raises(StoreRefused):
        await store.settle(QUEUE, settlement(leases, again=[fields()] * again, **EVERYTHING))

    assert await snapshot(rig) == before


async def test_what_came_back_is_taken_out_again_where_another_cannot(
    rig: Rig, store: Store
) -> None:
    """The lane takes one more entry and no second one."""
    leases = await lease_some(rig, store, 2)
    last = "18446744073709551615-18446744073709551614"
    await server(rig).call("XADD", KEYS.lane("normal"), last, "nearly", "full")
    before = await snapshot(rig)

    with pytest.raises(StoreRefused):
        await store.settle(QUEUE, settlement(leases, again=[fields()] * 2, **EVERYTHING))

    assert await snapshot(rig) == before
