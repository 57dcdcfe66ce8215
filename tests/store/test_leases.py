"""Fencing, renewal, reclaim, recovery and hand-back."""

from __future__ import annotations

import asyncio

import pytest

from engine.core.leases import RELEASED_IDLE_MS
from engine.store.base import Lease, Store
from tests.support.jobs import dead, done, fields, settlement
from tests.support.rigs import KEYS, QUEUE, Rig

LEASE_MS = 30_000


async def lease_some(rig: Rig, store: Store, count: int = 1, lane: str = "normal") -> list[Lease]:
    for _ in range(count):
        await rig.add(lane, fields())
    return (await store.fetch(QUEUE, {lane: count})).leases


async def take_over(rig: Rig, taker: Store, lease: Lease) -> Lease:
    """Let a lease run out and another engine take the job."""
    await rig.age(lease.batch.lane, lease.entry, LEASE_MS)
    found = await taker.reclaim(QUEUE, idle_ms_min=LEASE_MS, count=10)
    (taken,) = found.leases
    assert taken.entry == lease.entry
    return taken


async def reclaim_all(
    store: Store, *, idle_ms_min: int = LEASE_MS, count: int = 100
) -> list[Lease]:
    """Let the cursor go once through all lanes."""
    found: list[Lease] = []
    for _ in range(20):
        found += (await store.reclaim(QUEUE, idle_ms_min=idle_ms_min, count=count)).leases
    return found


async def test_a_zombie_settles_nothing(rig: Rig, store: Store, other: Store) -> None:
    """
    Goal: who lost its lease changes nothing, whatever it decides.

    Method: ``a`` stalls past its lease, ``b`` takes the job over, then ``a`` settles late; ``b``
    still ends the job as it likes.
    """
    (mine,) = await lease_some(rig, store)
    theirs = await take_over(rig, other, mine)

    assert await store.settle(QUEUE, settlement([mine], done=[done("j1")])) == [mine.entry]
    assert await store.settle(QUEUE, settlement(released=[mine])) == [mine.entry]

    assert await rig.stream(KEYS.done) == []
    line = (await rig.pending("normal"))[mine.entry]
    assert (line.consumer, line.deliveries) == ("b", 2)
    assert await other.settle(QUEUE, settlement([theirs], dead=[dead("j1")])) == []
    assert len(await rig.stream(KEYS.dead)) == 1


async def test_a_zombie_of_the_same_consumer_settles_nothing(rig: Rig, store: Store) -> None:
    """The delivery count tells two leases of one engine apart."""
    (first,) = await lease_some(rig, store)
    second = await take_over(rig, store, first)
    assert second.deliveries == 2

    assert await store.settle(QUEUE, settlement([first], done=[done("j1")])) == [first.entry]
    assert await store.settle(QUEUE, settlement([second], done=[done("j1")])) == []


async def test_a_late_settlement_after_the_end_is_lost(
    rig: Rig, store: Store, other: Store
) -> None:
    (mine,) = await lease_some(rig, store)
    theirs = await take_over(rig, other, mine)
    await other.settle(QUEUE, settlement([theirs], done=[done("j1")]))

    assert await store.settle(QUEUE, settlement([mine], done=[done("j1")])) == [mine.entry]

    assert len(await rig.stream(KEYS.done)) == 1


async def test_renewal_keeps_the_lease_and_the_count(rig: Rig, store: Store, other: Store) -> None:
    first, second = await lease_some(rig, store, 2)
    for lease in (first, second):
        await rig.age("normal", lease.entry, LEASE_MS)

    lost = await asyncio.to_thread(store.renew, QUEUE, "normal", {first.entry: 1})

    assert lost == []
    line = (await rig.pending("normal"))[first.entry]
    assert (line.consumer, line.deliveries) == ("a", 1)
    assert line.idle_ms < LEASE_MS
    assert [lease.entry for lease in await reclaim_all(other)] == [second.entry]


async def test_renewal_takes_nothing_back(rig: Rig, store: Store, other: Store) -> None:
    taken, ended, kept = await lease_some(rig, store, 3)
    await take_over(rig, other, taken)
    await store.settle(QUEUE, settlement([ended]))

    lost = await asyncio.to_thread(
        store.renew, QUEUE, "normal", {taken.entry: 1, ended.entry: 1, kept.entry: 1, b"1-1": 1}
    )

    assert sorted(lost) == sorted([taken.entry, ended.entry, b"1-1"])
    line = (await rig.pending("normal"))[taken.entry]
    assert (line.consumer, line.deliveries) == ("b", 2)


async def test_renewal_is_fenced_by_the_count_too(rig: Rig, store: Store) -> None:
    (first,) = await lease_some(rig, store)
    await take_over(rig, store, first)

    assert await asyncio.to_thread(store.renew, QUEUE, "normal", {first.entry: 1}) == [first.entry]
    assert await asyncio.to_thread(store.renew, QUEUE, "normal", {first.entry: 2}) == []


async def test_thousands_of_leases_are_renewed_at_once(rig: Rig, store: Store) -> None:
    leases = await lease_some(rig, store, 2_000)

    lost = await asyncio.to_thread(
        store.renew, QUEUE, "normal", {lease.entry: 1 for lease in leases}
    )

    assert lost == []


async def test_reclaim_takes_idle_jobs_only_and_raises_their_counts(
    rig: Rig, store: Store, other: Store
) -> None:
    idle, fresh = await lease_some(rig, store, 2)
    (low,) = await lease_some(rig, store, lane="low")
    await rig.age("normal", idle.entry, LEASE_MS)
    await rig.age("low", low.entry, LEASE_MS)

    found = await other.reclaim(QUEUE, idle_ms_min=LEASE_MS, count=10)

    assert [(lease.batch.lane, lease.entry, lease.deliveries) for lease in found.leases] == [
        ("normal", idle.entry, 2),
        ("low", low.entry, 2),
    ]
    assert [lease.fields for lease in found.leases] == [fields(), fields()]
    assert found.trimmed == []
    assert (await rig.pending("normal"))[fresh.entry].consumer == "a"
    assert await reclaim_all(store) == []


async def test_reclaim_counts_each_lost_delivery(rig: Rig, store: Store, other: Store) -> None:
    (lease,) = await lease_some(rig, store)

    for count, taker in enumerate([other, store, other], start=2):
        lease = await take_over(rig, taker, lease)
        assert lease.deliveries == count

    assert await other.settle(QUEUE, settlement([lease])) == []


async def test_reclaim_takes_no_more_than_asked_over_all_lanes(
    rig: Rig, store: Store, other: Store
) -> None:
    leases = await lease_some(rig, store, 3, "high") + await lease_some(rig, store, 3, "low")
    for lease in leases:
        await rig.age(lease.batch.lane, lease.entry, LEASE_MS)

    found = await other.reclaim(QUEUE, idle_ms_min=LEASE_MS, count=4)
    rest = await reclaim_all(other, count=4)

    assert len(found.leases) == 4
    assert {lease.entry for lease in found.leases + rest} == {lease.entry for lease in leases}


async def test_reclaim_gets_past_many_fresh_leases(rig: Rig, store: Store, other: Store) -> None:
    """
    Goal: the cursor moves, so that a lost job behind thousands of running ones is found.

    Method: 300 fresh leases stand before the idle one, far more than one call looks at.
    """
    leases = await lease_some(rig, store, 301)
    await rig.age("normal", leases[-1].entry, LEASE_MS)

    found: list[Lease] = []
    calls = 0
    while not found:
        found = (await other.reclaim(QUEUE, idle_ms_min=LEASE_MS, count=1)).leases
        calls += 1
        assert calls <= 40

    assert found[0].entry == leases[-1].entry


async def test_the_reclaim_cursor_begins_again(rig: Rig, store: Store, other: Store) -> None:
    first, second = await lease_some(rig, store, 2)
    await take_over(rig, other, second)
    await rig.age("normal", first.entry, LEASE_MS)

    assert [lease.entry for lease in await reclaim_all(other)] == [first.entry]


async def test_reclaim_reports_what_was_trimmed(rig: Rig, store: Store, other: Store) -> None:
    gone, kept = await lease_some(rig, store, 2)
    for lease in (gone, kept):
        await rig.age("normal", lease.entry, LEASE_MS)
    await rig.delete("normal", gone.entry)

    found = await other.reclaim(QUEUE, idle_ms_min=LEASE_MS, count=10)

    assert found.trimmed == [("normal", gone.entry)]
    assert [lease.entry for lease in found.leases] == [kept.entry]
    assert set(await rig.pending("normal")) == {kept.entry}
    assert (await other.reclaim(QUEUE, idle_ms_min=LEASE_MS, count=10)).trimmed == []


async def test_reclaim_of_nothing_brings_nothing(rig: Rig, store: Store) -> None:
    found = await store.reclaim(QUEUE, idle_ms_min=0, count=10)

    assert (found.leases, found.trimmed) == ([], [])


async def test_a_released_job_is_taken_at_once_and_counts_no_loss(
    rig: Rig, store: Store, other: Store
) -> None:
    """Even while idle times are in doubt, half the idle time of a hand-back suffices."""
    (lease,) = await lease_some(rig, store)
    await store.settle(QUEUE, settlement(released=[lease]))

    (again,) = (await other.reclaim(QUEUE, idle_ms_min=RELEASED_IDLE_MS // 2, count=10)).leases

    assert (again.entry, again.deliveries, again.fields) == (lease.entry, 1, lease.fields)
    assert await other.settle(QUEUE, settlement([again], done=[done("j1")])) == []


async def test_a_release_keeps_earlier_losses(rig: Rig, store: Store, other: Store) -> None:
    (lease,) = await lease_some(rig, store)
    lease = await take_over(rig, other, lease)
    assert lease.deliveries == 2

    assert await other.settle(QUEUE, settlement(released=[lease])) == []
    (again,) = (await store.reclaim(QUEUE, idle_ms_min=LEASE_MS, count=10)).leases

    assert again.deliveries == 2


async def test_who_released_a_job_does_not_hold_it(rig: Rig, store: Store) -> None:
    (lease,) = await lease_some(rig, store)
    await store.settle(QUEUE, settlement(released=[lease]))

    assert await store.settle(QUEUE, settlement([lease], sequence=2)) == [lease.entry]
    assert await asyncio.to_thread(store.renew, QUEUE, "normal", {lease.entry: 1}) == [lease.entry]
    assert await store.recover(QUEUE, {}) == []


async def test_recover_finds_what_a_lost_reply_brought(rig: Rig, store: Store) -> None:
    known, lost = await lease_some(rig, store, 2)
    (low,) = await lease_some(rig, store, lane="low")
    for lease in (lost, low):
        await rig.age(lease.batch.lane, lease.entry, 5_000)

    found = await store.recover(QUEUE, {"normal": {known.entry}})

    assert [(lease.batch.lane, lease.entry, lease.deliveries) for lease in found] == [
        ("normal", lost.entry, 1),
        ("low", low.entry, 1),
    ]
    assert [lease.fields for lease in found] == [fields(), fields()]
    pending = await rig.pending("normal")
    assert (pending[lost.entry].consumer, pending[lost.entry].deliveries) == ("a", 1)
    assert pending[lost.entry].idle_ms < 5_000
    assert await store.settle(QUEUE, settlement([known, found[0]])) == []


async def test_recover_keeps_a_raised_count(rig: Rig, store: Store, other: Store) -> None:
    (lease,) = await lease_some(rig, store)
    await take_over(rig, other, lease)

    (found,) = await other.recover(QUEUE, {})

    assert found.deliveries == 2
    assert await other.settle(QUEUE, settlement([found])) == []


async def test_recover_leaves_other_engines_jobs_alone(
    rig: Rig, store: Store, other: Store
) -> None:
    await lease_some(rig, store)

    assert await other.recover(QUEUE, {}) == []


async def test_recover_leaves_trimmed_entries_for_reclaim(rig: Rig, store: Store) -> None:
    (lease,) = await lease_some(rig, store)
    await rig.delete("normal", lease.entry)

    assert await store.recover(QUEUE, {}) == []

    found = await store.reclaim(QUEUE, idle_ms_min=0, count=10)
    assert found.trimmed == [("normal", lease.entry)]


@pytest.mark.parametrize("hostile", [b"\x00\xff\r\n", b""])
async def test_reclaim_and_recover_bring_fields_unchanged(
    rig: Rig, store: Store, other: Store, hostile: bytes
) -> None:
    await rig.add("normal", [hostile, hostile, hostile, b"again"])
    (lease,) = (await store.fetch(QUEUE, {"normal": 1})).leases
    expected = [hostile, hostile, hostile, b"again"]

    assert (await store.recover(QUEUE, {}))[0].fields == expected
    assert (await take_over(rig, other, lease)).fields == expected


async def test_what_was_lost_twice_is_taken_over_one_at_a_time(rig: Rig, store: Store) -> None:
    """
    Goal: a job that kills engines does not charge those that lay beside it.

    Method: three jobs lose two engines together; then each call takes one, and leaves the others
    their delivery counts.
    """
    entries = [await rig.add("normal", fields()) for _ in range(3)]
    await store.fetch(QUEUE, {"normal": 3})
    for _ in range(2):
        for entry in entries:
            await rig.age("normal", entry, 5_000)
        found = await store.reclaim(QUEUE, idle_ms_min=1_000, count=10)

    left = {entry: line.deliveries for entry, line in (await rig.pending("normal")).items()}
    assert [lease.deliveries for lease in found.leases] == [3]
    assert left == dict(zip(entries, [3, 2, 2], strict=True))

    again = await store.reclaim(QUEUE, idle_ms_min=1_000, count=10)
    assert [(lease.entry, lease.deliveries) for lease in again.leases] == [(entries[1], 3)]
