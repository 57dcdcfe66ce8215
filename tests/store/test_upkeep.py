"""Reports, retention, gauges, the engines' list and their consumers."""

from __future__ import annotations

import itertools

from engine.store.base import Store
from engine.wire.keys import RELEASED
from schemas.rules import LANES
from tests.support.jobs import dead, done, fields, packed, settlement
from tests.support.rigs import KEYS, QUEUE, MemoryRig, Rig, beat

HOUR_MS = 3_600_000
SEQUENCES = itertools.count(1)


async def record_done(rig: Rig, store: Store, *entries: list[str]) -> None:
    """Finish jobs in one settlement, one done entry per list of ids."""
    for _ in entries:
        await rig.add("normal", fields())
    leases = (await store.fetch(QUEUE, {"normal": len(entries)})).leases
    rows = [done(*ids) for ids in entries]
    asked = settlement(leases, done=rows, sequence=next(SEQUENCES))
    assert await store.settle(QUEUE, asked) == []


async def kept(rig: Rig) -> list[str]:
    """Ids of the jobs in the done stream."""
    rows = [dict(zip(row[::2], row[1::2], strict=True)) for _, row in await rig.stream(KEYS.done)]
    return [job_id.decode() for row in rows for job_id in row[b"ids"].split(b" ")]


async def test_progress_and_events_are_reported(rig: Rig, store: Store) -> None:
    await store.report(QUEUE, {"j1": b'{"percent":10}', "j2": b"{}"}, [b'{"e":1}', b'{"e":2}'])
    await store.report(QUEUE, {"j1": b'{"percent":20}'}, [])

    assert await rig.hash(KEYS.progress) == {b"j1": b'{"percent":20}', b"j2": b"{}"}
    assert [row[1] for _, row in await rig.stream(KEYS.events)] == [b'{"e":1}', b'{"e":2}']


async def test_reporting_nothing_is_fine(rig: Rig, store: Store) -> None:
    await store.report(QUEUE, {}, [])

    assert await rig.hash(KEYS.progress) == {}


async def test_trim_keeps_the_newest_jobs_by_count(rig: Rig, store: Store) -> None:
    for part in range(5):
        await record_done(rig, store, [f"j{part}a", f"j{part}b"])

    assert await store.trim(QUEUE, done_jobs_max=4, done_age_ms_max=HOUR_MS) == 6

    assert await kept(rig) == ["j3a", "j3b", "j4a", "j4b"]
    assert await store.trim(QUEUE, done_jobs_max=4, done_age_ms_max=HOUR_MS) == 0


async def test_trim_goes_on_after_a_trim(rig: Rig, store: Store) -> None:
    """The count of kept jobs stays true over many rounds."""
    for part in range(12):
        await record_done(rig, store, [f"j{part}"])
        await store.trim(QUEUE, done_jobs_max=2, done_age_ms_max=HOUR_MS)

    assert await kept(rig) == ["j10", "j11"]


async def test_trim_never_drops_an_entry_that_holds_a_job_to_keep(rig: Rig, store: Store) -> None:
    await record_done(rig, store, ["a", "b", "c"], ["d"])

    assert await store.trim(QUEUE, done_jobs_max=2, done_age_ms_max=HOUR_MS) == 0
    assert await store.trim(QUEUE, done_jobs_max=1, done_age_ms_max=HOUR_MS) == 3

    assert await kept(rig) == ["d"]


async def test_trim_drops_by_age(rig: Rig, store: Store) -> None:
    now_ms = await rig.now_ms()
    await rig.add_done(now_ms - 2 * HOUR_MS, done("old-1", "old-2"))
    await rig.add_done(now_ms - HOUR_MS - 1_000, done("old-3"))
    await rig.add_done(now_ms - HOUR_MS + 60_000, done("young"))

    assert await store.trim(QUEUE, done_jobs_max=1_000, done_age_ms_max=HOUR_MS) == 3

    assert await kept(rig) == ["young"]


async def test_gauges_count_everything(rig: Rig, store: Store, other: Store) -> None:
    for lane, count in (("critical", 1), ("normal", 5), ("low", 2)):
        for _ in range(count):
            await rig.add(lane, fields())
    mine = (await store.fetch(QUEUE, {"normal": 2, "low": 1})).leases
    theirs = (await other.fetch(QUEUE, {"normal": 1})).leases
    await rig.delay(await rig.now_ms() + HOUR_MS, packed())
    await store.settle(
        QUEUE, settlement(mine[:1], dead=[dead("j1")], aside=[("pack", packed("low"))])
    )

    gauges = await store.gauges(QUEUE, ["pack", "post"])

    assert len(theirs) == 1
    assert gauges.waiting == {"critical": 1, "high": 0, "normal": 2, "low": 1}
    assert gauges.active == {"critical": 0, "high": 0, "normal": 2, "low": 1}
    assert (gauges.delayed, gauges.dead) == (1, 1)
    assert gauges.held.get("pack", 0) == 1
    assert gauges.held.get("post", 0) == 0
    assert 0 <= gauges.oldest_ms < 60_000


async def test_gauges_of_an_empty_queue_are_zero(rig: Rig, store: Store) -> None:
    gauges = await store.gauges(QUEUE, [])

    assert gauges.waiting == gauges.active == dict.fromkeys(LANES, 0)
    assert (gauges.delayed, gauges.dead, gauges.oldest_ms) == (0, 0, 0)


async def test_the_oldest_waiting_job_is_not_a_running_one(rig: Rig, store: Store) -> None:
    await rig.add("normal", fields())
    await store.fetch(QUEUE, {"normal": 1})
    if isinstance(rig, MemoryRig):
        rig.model.advance(5_000)

    assert (await store.gauges(QUEUE, [])).oldest_ms == 0
    await rig.add("low", fields())
    assert (await store.gauges(QUEUE, [])).oldest_ms < 5_000


async def test_the_server_says_who_it_is(rig: Rig, store: Store) -> None:
    state = await store.server()

    assert state.run_id
    assert state.version.split(" ")[0] in {"valkey", "redis", "model"}
    assert abs(state.time_ms - await rig.now_ms()) < 10_000
    assert state.uptime_ms >= 0
    assert state.writable


async def test_the_run_id_stays_while_the_server_does(rig: Rig, store: Store, other: Store) -> None:
    assert (await store.server()).run_id == (await other.server()).run_id


async def test_engines_are_listed_until_silent_for_a_minute(rig: Rig, store: Store) -> None:
    now_ms = await rig.now_ms()
    await rig.add_engine("silent", now_ms - 62_000)
    await rig.add_engine("slow", now_ms - 50_000)

    await store.beat("me", beat("me", now_ms))

    assert await rig.engines() == {"me", "slow"}


async def test_who_leaves_takes_its_consumers_along(rig: Rig, store: Store) -> None:
    for lane in ("normal", "low"):
        await rig.add(lane, fields())
    normal, _ = (await store.fetch(QUEUE, {"normal": 1, "low": 1})).leases
    await store.settle(QUEUE, settlement([normal]))
    await store.beat("me", beat("me", await rig.now_ms()))

    await store.leave("me", [QUEUE])

    assert await rig.engines() == set()
    assert "a" not in await rig.consumers("normal")
    # What it holds would never be delivered again without its consumer.
    assert "a" in await rig.consumers("low")


async def test_leaving_touches_no_other_engine(rig: Rig, store: Store, other: Store) -> None:
    await rig.add("normal", fields())
    (lease,) = (await other.fetch(QUEUE, {"normal": 1})).leases
    await other.settle(QUEUE, settlement([lease]))

    await store.leave("me", [QUEUE])

    assert "b" in await rig.consumers("normal")


async def test_retire_deletes_empty_consumers_only(rig: Rig, store: Store, other: Store) -> None:
    """An entry whose consumer is deleted stays in the stream and is delivered to nobody."""
    for _ in range(2):
        await rig.add("normal", fields())
    (mine,) = (await store.fetch(QUEUE, {"normal": 1})).leases
    (theirs,) = (await other.fetch(QUEUE, {"normal": 1})).leases
    await other.settle(QUEUE, settlement([theirs]))

    deleted = await store.retire(QUEUE, idle_ms_min=0)

    assert deleted >= 1
    assert await rig.consumers("normal") == {"a"}
    assert await store.settle(QUEUE, settlement([mine])) == []


async def test_retire_spares_who_was_seen_lately(rig: Rig, store: Store) -> None:
    await rig.add("normal", fields())
    leases = (await store.fetch(QUEUE, {"normal": 1})).leases
    await store.settle(QUEUE, settlement(leases))

    assert await store.retire(QUEUE, idle_ms_min=HOUR_MS) == 0
    assert "a" in await rig.consumers("normal")


async def test_retire_keeps_what_was_handed_back(rig: Rig, store: Store, other: Store) -> None:
    await rig.add("normal", fields())
    leases = (await store.fetch(QUEUE, {"normal": 1})).leases
    await store.settle(QUEUE, settlement(released=leases))

    await store.retire(QUEUE, idle_ms_min=0)

    assert [line.consumer for line in (await rig.pending("normal")).values()] == [RELEASED]
    assert len((await other.reclaim(QUEUE, idle_ms_min=1, count=5)).leases) == 1


async def test_what_was_handed_back_counts_as_waiting(rig: Rig, store: Store) -> None:
    for _ in range(2):
        await rig.add("normal", fields())
    leases = (await store.fetch(QUEUE, {"normal": 2})).leases
    await store.settle(QUEUE, settlement(released=leases[:1]))

    gauges = await store.gauges(QUEUE, [])

    assert gauges.waiting["normal"] == 1
    assert gauges.active["normal"] == 1
    assert gauges.oldest_ms >= 0
