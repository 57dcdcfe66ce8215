"""Settling by marks: without a look at each entry, and never what is another's."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from engine.errors import StoreUnavailable
from engine.store.base import Lease, Settlement, Store
from engine.store.marks import Mark
from tests.support.jobs import dead, done, fields, packed, settlement
from tests.support.rigs import KEYS, QUEUE, Rig, ServerRig

LEASE_MS = 30_000


async def lease_some(rig: Rig, store: Store, count: int = 1) -> list[Lease]:
    for _ in range(count):
        await rig.add("normal", fields())
    return (await store.fetch(QUEUE, {"normal": count})).leases


async def learn(rig: Rig, store: Store) -> Mark:
    """Let a store settle something, so that it knows the lane's mark."""
    await settle(store, await lease_some(rig, store))
    mark = store.mark(QUEUE, "normal")
    assert mark is not None
    return mark


def by_mark(store: Store, leases: list[Lease], **parts: Any) -> Settlement:
    """Build a settlement as an engine does."""
    numbers = store.__dict__.setdefault("numbers", [])
    numbers.append(None)
    mark = store.mark(QUEUE, "normal")
    unsure = [lease.entry for lease in leases if lease.batch.mark is not mark]
    given = {"mark": mark, "unsure": unsure if mark else [], "sequence": len(numbers)}
    return settlement(leases, **(given | parts))


async def settle(store: Store, leases: list[Lease], **parts: Any) -> list[bytes]:
    return await store.settle(QUEUE, by_mark(store, leases, **parts))


async def take_over(rig: Rig, taker: Store, lease: Lease) -> Lease:
    """Let a lease run out and another engine take the job."""
    await rig.age("normal", lease.entry, LEASE_MS)
    (taken,) = (await taker.reclaim(QUEUE, idle_ms_min=LEASE_MS, count=10)).leases
    return taken


async def test_a_first_settlement_tells_the_mark_and_reads_carry_it(rig: Rig, store: Store) -> None:
    assert store.mark(QUEUE, "normal") is None
    (before,) = await lease_some(rig, store)
    assert before.batch.mark is None

    mark = await learn(rig, store)

    (read,) = await lease_some(rig, store)
    (waited,) = await _wait_for_one(rig, store)
    assert read.batch.mark is mark
    assert waited.batch.mark is mark
    assert store.mark(QUEUE, "low") is None


async def _wait_for_one(rig: Rig, store: Store) -> list[Lease]:
    await rig.add("normal", fields())
    return await store.wait(QUEUE, ["normal"], 1, 10)


async def test_engines_share_a_lanes_mark(rig: Rig, store: Store, other: Store) -> None:
    mine, theirs = await learn(rig, store), await learn(rig, other)

    assert mine.value == theirs.value
    assert await settle(store, await lease_some(rig, store)) == []
    assert store.mark(QUEUE, "normal") is mine


async def test_a_settlement_by_a_mark_ends_all_of_it(rig: Rig, store: Store) -> None:
    await learn(rig, store)
    leases = await lease_some(rig, store, 2_000)
    again = [(1, packed())]

    assert await settle(store, leases, done=[done("j1")], dead=[dead("j2")], retries=again) == []

    assert await rig.pending("normal") == {}
    assert await rig.stream(KEYS.lane("normal")) == []
    assert [len(await rig.stream(key)) for key in (KEYS.done, KEYS.dead)] == [1, 1]
    assert len(await rig.delayed()) == 1


async def test_a_zombie_settles_nothing_by_a_mark(rig: Rig, store: Store, other: Store) -> None:
    """
    Goal: whatever is taken over is looked at again.

    Method: ``a`` knows a mark and reads a job under it; ``b`` takes the job over; ``a`` settles as
    if nothing had happened.
    """
    mark = await learn(rig, store)
    (mine,) = await lease_some(rig, store)
    assert mine.batch.mark is mark
    theirs = await take_over(rig, other, mine)

    assert await settle(store, [mine], done=[done("j1")]) == [mine.entry]

    assert await rig.stream(KEYS.done) == []
    assert await settle(other, [theirs], done=[done("j1")]) == []


async def test_two_leases_of_one_engine_are_told_apart(rig: Rig, store: Store) -> None:
    await learn(rig, store)
    (first,) = await lease_some(rig, store)
    second = await take_over(rig, store, first)

    assert await settle(store, [first]) == [first.entry]
    assert await settle(store, [second]) == []


async def test_a_new_mark_says_nothing_of_what_was_read_before(
    rig: Rig, store: Store, other: Store
) -> None:
    """An engine that learns the next mark still looks at what it read under the last one."""
    old = await learn(rig, store)
    mine, kept = await lease_some(rig, store, 2)
    theirs = await take_over(rig, other, mine)
    new = await learn(rig, store)
    assert new.value != old.value

    fresh = await lease_some(rig, store)
    assert fresh[0].batch.mark is new
    assert await settle(store, [*fresh, mine, kept], done=[done("j1")]) == [mine.entry]
    assert await settle(store, [*fresh, kept], done=[done("j1")]) == []
    assert set(await rig.pending("normal")) == {theirs.entry}


async def test_what_was_taken_over_or_recovered_goes_by_no_mark(
    rig: Rig, store: Store, other: Store
) -> None:
    await learn(rig, store)
    lost, forgotten = await lease_some(rig, store, 2)

    taken = await take_over(rig, other, lost)
    (found,) = await store.recover(QUEUE, {})

    assert found.entry == forgotten.entry
    assert (taken.batch.mark, found.batch.mark) == (None, None)


async def test_handing_back_ends_the_mark(rig: Rig, store: Store, other: Store) -> None:
    """A second lease of what was handed back, which nobody should have, ends nothing."""
    await learn(rig, store)
    await learn(rig, other)
    (mine,) = await lease_some(rig, store)
    before = by_mark(store, [mine], done=[done("j1")], sequence=9)
    assert before.mark is not None

    assert await store.settle(QUEUE, settlement(released=[mine], sequence=8)) == []

    assert store.mark(QUEUE, "normal") is None
    assert await store.settle(QUEUE, before) == [mine.entry]
    assert await rig.stream(KEYS.done) == []
    assert (await rig.pending("normal"))[mine.entry].consumer != "a"


async def test_a_put_back_suspect_ends_the_mark(rig: Rig, store: Store, other: Store) -> None:
    await learn(rig, store)
    suspects = await lease_some(rig, store, 2)
    for lease in suspects:
        await rig.age("normal", lease.entry, LEASE_MS)
    await store.reclaim(QUEUE, idle_ms_min=LEASE_MS, count=10)
    mark = await learn(rig, store)
    for lease in suspects:
        await rig.age("normal", lease.entry, LEASE_MS)

    (taken,) = (await other.reclaim(QUEUE, idle_ms_min=LEASE_MS, count=10)).leases

    assert taken.deliveries == 3
    assert (await learn(rig, store)).value != mark.value


async def test_a_new_group_ends_the_mark(rig: Rig, store: Store, other: Store) -> None:
    """A group that was lost delivers again, with counts of one, what others hold."""
    await learn(rig, store)
    (mine,) = await lease_some(rig, store)
    await rig.drop_groups()
    await other.open(QUEUE)
    (theirs,) = (await other.fetch(QUEUE, {"normal": 5})).leases
    assert (theirs.entry, theirs.deliveries) == (mine.entry, 1)

    assert await settle(store, [mine], done=[done("j1")]) == [mine.entry]
    assert await settle(other, [theirs]) == []


async def test_an_entry_named_twice_ends_nothing(rig: Rig, store: Store) -> None:
    """
    Goal: while a mark stands, what is acknowledged is counted, and nothing is half done.

    Method: a batch names an entry twice; it is lost, and everything else is as it was.
    """
    await learn(rig, store)
    leases = await lease_some(rig, store, 3)
    ends = {"done": [done("j1")], "dead": [dead("j2")], "retries": [(1, packed())]}

    assert await settle(store, [*leases, leases[1]], **ends) == [leases[1].entry]

    pending = await rig.pending("normal")
    assert [(pending[each.entry].consumer, pending[each.entry].deliveries) for each in leases] == [
        ("a", 1)
    ] * 3
    assert await rig.stream(KEYS.done) == await rig.stream(KEYS.dead) == []
    assert await rig.delayed() == {}
    assert await settle(store, leases, **ends) == []


async def test_an_entry_that_somebody_ended_by_hand_is_lost_alone(rig: Rig, store: Store) -> None:
    await learn(rig, store)
    first, ended, last = await lease_some(rig, store, 3)
    await rig.end_by_hand("normal", ended.entry)

    assert await settle(store, [first, ended, last], done=[done("j1")]) == [ended.entry]
    assert await rig.stream(KEYS.done) == []
    assert await settle(store, [first, last], done=[done("j1")]) == []

    assert await rig.pending("normal") == {}
    assert len(await rig.stream(KEYS.done)) == 1


@pytest.mark.servers
async def test_a_mark_that_was_deleted_is_looked_behind(redis_url: str) -> None:
    """An evicted or deleted hash costs time and nothing else."""
    rig = ServerRig("valkey", redis_url)
    store = rig.store("a")
    await store.open(QUEUE)
    await learn(rig, store)
    leases = await lease_some(rig, store, 3)
    await rig.call("DEL", KEYS.settled)

    assert await settle(store, [*leases[:2], leases[0]]) == [leases[0].entry]
    assert await settle(store, leases) == []
    assert store.mark(QUEUE, "normal") is not None
    await rig.close()


@pytest.mark.servers
async def test_a_standing_mark_saves_the_look(redis_url: str) -> None:
    rig = ServerRig("valkey", redis_url)
    store = rig.store("a")
    await store.open(QUEUE)
    await learn(rig, store)
    leases = await lease_some(rig, store, 50)
    await rig.call("CONFIG", "RESETSTAT")

    assert await settle(store, leases[::2]) == []

    assert b"cmdstat_xpending" not in await rig.call("INFO", "commandstats")
    await rig.close()


@pytest.mark.servers
async def test_a_new_connection_ends_what_is_known_of_marks(redis_url: str) -> None:
    """Whoever is connected anew may speak to another server, which holds the same mark."""
    rig = ServerRig("valkey", redis_url)
    store = rig.store("a")
    await store.open(QUEUE)
    await learn(rig, store)
    leases = await lease_some(rig, store)
    asked = by_mark(store, leases)
    assert asked.mark is not None
    await rig.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await _until_mark_is_gone(store)
    await rig.call("CONFIG", "RESETSTAT")

    assert await _persist(store, asked) == []

    assert b"cmdstat_xpending" in await rig.call("INFO", "commandstats")
    await rig.close()


async def _until_mark_is_gone(store: Store) -> None:
    """Speak over the connections until the end of one was noticed."""
    for _ in range(200):
        if store.mark(QUEUE, "normal") is None:
            return
        with contextlib.suppress(StoreUnavailable):
            await store.fetch(QUEUE, {})
        await asyncio.sleep(0.005)
    raise AssertionError("the mark is still gone by")


async def _persist(store: Store, asked: Settlement) -> list[bytes]:
    """Send a settlement until it is answered, as an engine does."""
    while True:
        with contextlib.suppress(StoreUnavailable):
            return await store.settle(QUEUE, asked)
