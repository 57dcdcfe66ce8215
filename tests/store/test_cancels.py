"""Tombstones: what the poll tells of them, what they bring to the lanes, how they go."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec

from engine.store.base import Store
from engine.store.redis import RedisStore
from engine.testing import MemoryStore
from engine.wire.codec import META, encode_meta
from engine.wire.packing import pack
from engine.wire.tombstones import read_mark
from schemas.job import Meta, Tombstone
from tests.support.jobs import dead, fields, packed, settlement
from tests.support.rigs import KEYS, QUEUE, MemoryRig, Rig, ServerRig

HOUR_MS = 3_600_000
LATER_MS = 10 * HOUR_MS
sequences = itertools.count(1)


async def lay(rig: Rig, job_id: str, **parts: Any) -> None:
    """Cancel a job now, or at the time that is given."""
    stone = {"who": "ada", "at_ms": await rig.now_ms(), **parts}
    await lay_raw(rig, job_id, msgspec.json.encode(stone))


async def lay_raw(rig: Rig, job_id: str, raw: bytes) -> None:
    if isinstance(rig, MemoryRig):
        rig.queue.cancelled[job_id] = raw
    else:
        assert isinstance(rig, ServerRig)
        await rig.call("HSET", KEYS.cancelled, job_id, raw)


async def stones(store: Store) -> set[str]:
    return set((await store.control(QUEUE)).cancelled)


def put_off(job_id: str, *, lane: str = "low", enqueued_ms: int = 1) -> bytes:
    """Build a job of the delayed set or of a held stream, as engines write it."""
    meta = encode_meta(Meta(id=job_id, enqueued_ms=enqueued_ms, attempts=2, why="backoff"))
    return packed(lane, [*fields(), META, meta])


async def round_of(store: Store, *types: str) -> int:
    """Summon until everything was looked at once, and once more for what was passed over."""
    moved = rounds = 0
    while rounds < 2:
        summoned = await store.summon(QUEUE, types, count=50)
        moved += summoned.moved
        rounds += summoned.ended
    return moved


async def test_the_poll_tells_of_cancelled_jobs(rig: Rig, store: Store) -> None:
    assert (await store.control(QUEUE)).cancelled == {}
    await lay(rig, "j1", reason="late", at_ms=5)
    await lay_raw(rig, "j2", b"{}")
    await lay_raw(rig, "j3", b"by hand \xff")

    found = (await store.control(QUEUE)).cancelled

    assert found["j1"] == Tombstone(who="ada", reason="late", at_ms=5)
    assert found["j2"] == Tombstone()
    assert found["j3"].reason.startswith("by hand")


async def test_the_poll_learns_of_thousands_page_by_page(rig: Rig, store: Store) -> None:
    for number in range(3_000):
        await lay_raw(rig, f"j{number}", b"{}")
    found: set[str] = set()
    for _ in range(20):
        found = await stones(store)
        if len(found) == 3_000:
            break
    assert len(found) == 3_000

    # A full round forgets what is gone.
    for number in range(2_999):
        await settle_away(rig, store, f"j{number}") if number < 2 else None
    for _ in range(20):
        found = await stones(store)
        if len(found) == 2_998:
            break
    assert not {"j0", "j1"} & found


async def settle_away(rig: Rig, store: Store, *ids: str) -> None:
    """End jobs whose tombstones go with them."""
    await rig.add("normal", fields())
    leases = (await store.fetch(QUEUE, {"normal": 1})).leases
    asked = settlement(leases, dead=[dead("x")], tombstones=[*ids], sequence=next(sequences))
    assert await store.settle(QUEUE, asked) == []


async def test_a_settlement_takes_the_tombstones_of_its_jobs_away(rig: Rig, store: Store) -> None:
    for job_id in ("j1", "j2", "j3"):
        await lay(rig, job_id)

    await settle_away(rig, store, "j1", "j3", "unknown")

    assert await stones(store) == {"j2"}


async def test_a_fenced_settlement_leaves_tombstones(rig: Rig, store: Store, other: Store) -> None:
    await lay(rig, "j1")
    await rig.add("normal", fields())
    (lease,) = (await store.fetch(QUEUE, {"normal": 1})).leases
    await rig.age("normal", lease.entry, 60_000)
    assert (await other.reclaim(QUEUE, idle_ms_min=30_000, count=5)).leases

    asked = settlement([lease], dead=[dead("j1")], tombstones=["j1"], sequence=next(sequences))
    assert await store.settle(QUEUE, asked) == [lease.entry]

    assert await stones(store) == {"j1"}


async def test_summon_brings_delayed_jobs_to_their_lanes(rig: Rig, store: Store) -> None:
    due_ms = await rig.now_ms() + LATER_MS
    for number in range(300):
        await rig.delay(due_ms + number, put_off(f"j{number}"))
    for job_id in ("j0", "j7", "j299", "nobody"):
        await lay(rig, job_id)

    assert await round_of(store) == 3

    brought = {row[-1] for _, row in await rig.stream(KEYS.lane("low"))}
    assert {msgspec.json.decode(raw, type=Meta).id for raw in brought} == {"j0", "j7", "j299"}
    assert len(await rig.delayed()) == 297
    assert await round_of(store) == 0


async def test_what_is_summoned_stays_itself_and_carries_its_tombstone(
    rig: Rig, store: Store
) -> None:
    """Goal: an engine that has not heard of the order must not start what is brought to it."""
    member = put_off("j1", lane="high")
    await rig.delay(await rig.now_ms() + LATER_MS, member)
    await lay(rig, "j1", reason="größer")
    await round_of(store)

    ((_, row),) = await rig.stream(KEYS.lane("high"))
    meta = msgspec.json.decode(row.pop(), type=Meta)
    stone = read_mark(meta.cancelled)
    assert (stone.who, stone.reason) == ("ada", "größer")
    own = encode_meta(msgspec.structs.replace(meta, cancelled=""))
    assert pack([b"high", *row, own]) == member


async def test_summon_brings_set_aside_jobs_of_the_named_types(rig: Rig, store: Store) -> None:
    for job_type, job_id in (("pack", "j1"), ("pack", "j2"), ("post", "j3"), ("other", "j4")):
        await rig.add("normal", fields())
        leases = (await store.fetch(QUEUE, {"normal": 1})).leases
        asked = settlement(leases, aside=[(job_type, put_off(job_id))], sequence=next(sequences))
        assert await store.settle(QUEUE, asked) == []
    for job_id in ("j2", "j3", "j4"):
        await lay(rig, job_id)

    assert await round_of(store, "pack", "post", "unused") == 2

    assert len(await rig.stream(KEYS.held("pack"))) == 1
    assert len(await rig.stream(KEYS.held("other"))) == 1
    assert len(await rig.stream(KEYS.lane("low"))) == 2


async def test_summon_brings_parked_jobs_and_those_with_their_turn(rig: Rig, store: Store) -> None:
    """Goal: jobs behind a key or a limit, and one in backoff that keeps its key."""
    head, ticket = b"k1\0\0j1\0", b"000000000000001-0000000000"
    meta = b'{"ticket":"' + ticket + b'","id":"j1","enqueued_ms":1}'
    member = b"kk1\0" + ticket + b"\0" + pack([head, *fields(key="k1"), META, meta])
    if isinstance(rig, MemoryRig):
        rig.queue.parked["high"].append(member)
    else:
        assert isinstance(rig, ServerRig)
        await rig.call("ZADD", KEYS.parked("high"), 0, member)
        await rig.call("ZADD", KEYS.parked("low"), 0, b"kk1\0strange")
    await rig.delay(await rig.now_ms() + LATER_MS, put_off("j2", lane="low:ready"))
    await lay(rig, "j1")
    await lay(rig, "j2")

    assert await round_of(store) == 2

    ((_, row),) = await rig.stream(KEYS.lane("high"))
    assert row[:-1] == [*fields(key="k1"), META]
    assert msgspec.json.decode(row[-1])["ticket"] == ticket.decode()
    assert msgspec.json.decode(row[-1])["cancelled"]
    assert len(await rig.stream(KEYS.lane("low"))) == 1


async def test_summon_leaves_a_later_job_of_the_same_id_alone(rig: Rig, store: Store) -> None:
    now_ms = await rig.now_ms()
    await rig.delay(now_ms + LATER_MS, put_off("j1", enqueued_ms=now_ms + 1))
    await rig.delay(now_ms + LATER_MS, put_off("j2", enqueued_ms=now_ms + 1))
    await lay(rig, "j1", at_ms=now_ms)
    await lay(rig, "j2", at_ms=now_ms, ahead=True)

    assert await round_of(store) == 1
    assert list(await rig.delayed()) == [put_off("j1", enqueued_ms=now_ms + 1)]


async def test_summon_passes_over_what_engines_did_not_write(rig: Rig, store: Store) -> None:
    due_ms = await rig.now_ms() + LATER_MS
    strange = [b"not packed", packed("low", fields(id="j1")), packed("attic", fields())]
    strange.append(packed("low", [*fields(), META, b'{"id":7}']))
    strange.append(packed("low", [*fields(), META, b"\xff{"]))
    for member in strange:
        await rig.delay(due_ms, member)
    await lay(rig, "j1")

    assert await round_of(store) == 0
    assert set(await rig.delayed()) == set(strange)


async def test_an_id_with_quotes_and_letters_of_any_kind_is_found(rig: Rig, store: Store) -> None:
    names = ['a"b', "a\\b", "größe", "日本", "a'b"]
    for name in names:
        await rig.delay(await rig.now_ms() + LATER_MS, put_off(name))
        await lay(rig, name)

    assert await round_of(store) == len(names)


async def test_forget_drops_old_tombstones_whose_jobs_are_nowhere(rig: Rig, store: Store) -> None:
    now_ms = await rig.now_ms()
    await lay(rig, "old", at_ms=now_ms - 2 * HOUR_MS)
    await lay(rig, "young", at_ms=now_ms - HOUR_MS // 2)

    assert await store.forget(QUEUE, ["old", "young", "none"], age_ms_min=HOUR_MS) == 1

    assert await stones(store) == {"young"}


async def test_forget_keeps_a_tombstone_while_an_older_entry_is_in_a_lane(
    rig: Rig, store: Store
) -> None:
    """Goal: a job that waits or runs for hours is cancelled all the same."""
    entry = await rig.add("low", fields())
    entry_ms = int(entry.partition(b"-")[0])
    await lay(rig, "j1", at_ms=entry_ms)

    assert await store.forget(QUEUE, ["j1"], age_ms_min=0) == 0
    (lease,) = (await store.fetch(QUEUE, {"low": 1})).leases
    assert await store.forget(QUEUE, ["j1"], age_ms_min=0) == 0
    await store.settle(QUEUE, settlement([lease], lane="low", sequence=next(sequences)))
    while await rig.now_ms() == entry_ms and isinstance(rig, MemoryRig):
        rig.model.advance(1)
    assert await store.forget(QUEUE, ["j1"], age_ms_min=0) == 1


async def test_forget_dates_what_was_written_by_hand(rig: Rig, store: Store) -> None:
    await lay_raw(rig, "j1", b'{"who":"ada","reason":"over"}')
    await lay_raw(rig, "j2", b"over and out")
    await store.control(QUEUE)

    assert await store.forget(QUEUE, ["j1", "j2"], age_ms_min=HOUR_MS) == 0

    found = (await store.control(QUEUE)).cancelled
    assert (found["j1"].who, found["j1"].reason, found["j1"].ahead) == ("ada", "over", True)
    assert abs(found["j1"].at_ms - await rig.now_ms()) < 10_000
    assert found["j2"].at_ms


async def test_a_queue_without_cancelled_jobs_has_no_such_key(rig: Rig, store: Store) -> None:
    await store.control(QUEUE)
    assert await store.summon(QUEUE, ["pack"], count=10)
    if isinstance(rig, ServerRig):
        assert await rig.call("EXISTS", KEYS.cancelled) == 0
        assert isinstance(store, RedisStore)
    else:
        assert isinstance(store, MemoryStore)
