"""Opening a queue, losing its groups, and finding something else under its keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from engine.errors import GroupMissing, StoreRefused
from engine.store.base import Store
from schemas.rules import LANES
from tests.support.jobs import fields, settlement
from tests.support.rigs import KEYS, QUEUE, Rig

Verb = Callable[[Store], Awaitable[object]]
VERBS: dict[str, Verb] = {
    "fetch": lambda store: store.fetch(QUEUE, {"normal": 1}),
    "count": lambda store: store.fetch(QUEUE, {}),
    "wait": lambda store: store.wait(QUEUE, LANES, 1, 10),
    "settle": lambda store: store.settle(QUEUE, settlement([b"1-1"])),
    "renew": lambda store: asyncio.to_thread(store.renew, QUEUE, "normal", {b"1-1": 1}),
    "reclaim": lambda store: store.reclaim(QUEUE, idle_ms_min=0, count=1),
    "recover": lambda store: store.recover(QUEUE, {}),
}
HOW = {"flush": lambda rig: rig.flush(), "destroy": lambda rig: rig.drop_groups()}


async def test_a_queue_is_served_from_its_first_entry(rig: Rig) -> None:
    """A group starts at 0, so what was added before any engine ran is found."""
    entry = await rig.add("normal", fields())
    store = rig.store("a")

    await store.open(QUEUE)

    assert [lease.entry for lease in (await store.fetch(QUEUE, {"normal": 5})).leases] == [entry]


async def test_opening_again_changes_nothing(rig: Rig, store: Store) -> None:
    await rig.add("normal", fields())
    (lease,) = (await store.fetch(QUEUE, {"normal": 1})).leases

    await store.open(QUEUE)

    assert (await store.fetch(QUEUE, {"normal": 1})).leases == []
    assert await store.settle(QUEUE, settlement([lease])) == []


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("verb", VERBS)
async def test_a_missing_group_is_said(rig: Rig, store: Store, verb: str, how: str) -> None:
    await HOW[how](rig)

    with pytest.raises(GroupMissing):
        await VERBS[verb](store)


@pytest.mark.parametrize("how", HOW)
async def test_opening_heals_and_finds_what_was_added_meanwhile(
    rig: Rig, store: Store, how: str
) -> None:
    await HOW[how](rig)
    entry = await rig.add("normal", fields())
    with pytest.raises(GroupMissing):
        await store.fetch(QUEUE, {"normal": 1})

    await store.open(QUEUE)

    assert [lease.entry for lease in (await store.fetch(QUEUE, {"normal": 5})).leases] == [entry]


async def test_what_was_leased_runs_again_after_its_group_is_lost(rig: Rig, store: Store) -> None:
    await rig.add("normal", fields())
    (lease,) = (await store.fetch(QUEUE, {"normal": 1})).leases
    await rig.drop_groups()

    await store.open(QUEUE)

    assert await store.settle(QUEUE, settlement([lease])) == [lease.entry]
    (again,) = (await store.fetch(QUEUE, {"normal": 5})).leases
    assert await store.settle(QUEUE, settlement([again], sequence=2)) == []


async def test_leases_of_flushed_jobs_are_lost(rig: Rig, store: Store) -> None:
    await rig.add("normal", fields())
    (lease,) = (await store.fetch(QUEUE, {"normal": 1})).leases
    await rig.flush()
    await store.open(QUEUE)

    assert await store.settle(QUEUE, settlement([lease])) == [lease.entry]
    assert await asyncio.to_thread(store.renew, QUEUE, "normal", {lease.entry: 1}) == [lease.entry]


@pytest.mark.parametrize("key", [KEYS.lane("critical"), KEYS.lane("low")])
async def test_something_else_under_a_key_is_refused(rig: Rig, key: str) -> None:
    await rig.occupy(key)

    with pytest.raises(StoreRefused) as refused:
        await rig.store("a").open(QUEUE)

    assert refused.value.kind == "wrongtype"
