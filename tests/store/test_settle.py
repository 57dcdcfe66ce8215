"""What a settlement writes, and that it is all or nothing."""

from __future__ import annotations

import msgspec
import pytest

from engine.core.leases import RELEASED_IDLE_MS
from engine.store.base import Lease, Store
from engine.wire.codec import DEAD
from engine.wire.done import decode_done
from engine.wire.keys import RELEASED
from schemas.job import DeadRecord
from tests.support.jobs import AT_MS, dead, done, fields, packed, settlement
from tests.support.rigs import KEYS, QUEUE, Rig, ServerRig

REPLY = f"mq:{{{QUEUE}}}:reply:desk-1"
HOSTILE = [
    bytes(range(256)),
    b"\xff\xfe\x00\r\n",
    b"",
    b"*3\r\n$3\r\nDEL\r\n",
    b"\xdd\x00\x00\x00\x01\xdb",
    b"0" * 70_000,
]


async def lease_some(rig: Rig, store: Store, count: int = 1) -> list[Lease]:
    for number in range(count):
        await rig.add("normal", fields(data=b'{"n":%d}' % number))
    return (await store.fetch(QUEUE, {"normal": count})).leases


async def snapshot(rig: Rig) -> dict[str, object]:
    """Everything that a settlement may touch."""
    streams = (KEYS.lane("normal"), KEYS.dead, KEYS.done, KEYS.events, KEYS.held("pack"), REPLY)
    hashes = (KEYS.stats, KEYS.dead_groups, KEYS.progress, KEYS.minutes(AT_MS))
    return {
        **{key: await rig.stream(key) for key in streams},
        **{key: await rig.hash(key) for key in hashes},
        "delayed": await rig.delayed(),
        "pending": [
            (entry, line.consumer, line.deliveries)
            for entry, line in (await rig.pending("normal")).items()
        ],
    }


async def test_ends_of_jobs_that_an_operation_brought_back_are_counted(
    rig: Rig, store: Store
) -> None:
    if not isinstance(rig, ServerRig):
        pytest.skip("operations are driven over a real server")
    known, over = KEYS.operation("op1"), KEYS.operation("op0")
    await rig.call("HSET", known, ":moved", 2, "1-1", "was", "1-2", "was", "1-3", "was")
    leases = await lease_some(rig, store, 3)
    back = [("done", "op1/1-1"), ("done", "op0/1-1"), ("dead", "op1/1-2")]

    change = settlement(leases, done=[done("j1", "j2")], dead=[dead("j3")], brought_back=back)
    assert await store.settle(QUEUE, change) == []
    assert await store.settle(QUEUE, change) == []

    assert await rig.hash(known) == {
        b":moved": b"2",
        b":done": b"1",
        b":dead": b"1",
        b"1-3": b"was",
    }
    # Of one that is over, nothing is kept any more.
    assert await rig.hash(over) == {}


EVERYTHING = {
    "done": [done("j1", "j2")],
    "retries": [(AT_MS, packed())],
    "dead": [dead("j3")],
    "aside": [("pack", packed())],
    "stats": {"done:pack": 2, "dead:pack": 1},
    "events": [b'{"event":"done"}'],
    "replies": [(REPLY, [b"outcome", b"done"])],
    "finished": ["j1"],
}


async def test_done_jobs_are_recorded_with_their_results(rig: Rig, store: Store) -> None:
    leases = await lease_some(rig, store, 3)

    await store.settle(
        QUEUE,
        settlement(leases, done=[done("j1", "j2", results=[b'{"a":1}', b""]), done("j3")]),
    )

    found = [job for entry, row in await rig.stream(KEYS.done) for job in decode_done(entry, row)]
    assert [(job.id, job.type, job.lane, job.result) for job in found] == [
        ("j1", "pack", "normal", b'{"a":1}'),
        ("j2", "pack", "normal", b""),
        ("j3", "pack", "normal", b""),
    ]
    assert await rig.stream(KEYS.lane("normal")) == []


async def test_retries_leave_the_lane_for_the_delayed_set(rig: Rig, store: Store) -> None:
    leases = await lease_some(rig, store, 2)
    retries = [(AT_MS + 5, packed(body=fields(id="a"))), (AT_MS, packed(body=fields(id="b")))]

    await store.settle(QUEUE, settlement(leases, retries=retries))

    assert await rig.delayed() == {member: due_ms for due_ms, member in retries}
    assert await rig.stream(KEYS.lane("normal")) == []
    assert await rig.pending("normal") == {}


async def test_jobs_that_go_on_at_once_stand_at_the_end_of_their_lane(
    rig: Rig, store: Store
) -> None:
    bodies = [fields(id="a"), fields(id="b", colour="red")]
    leases = await lease_some(rig, store, 2)
    await rig.add("normal", fields(id="waits"))

    await store.settle(QUEUE, settlement(leases, again=bodies))

    entries = await rig.stream(KEYS.lane("normal"))
    assert [body for _, body in entries] == [fields(id="waits"), *bodies]
    assert await rig.delayed() == {}
    assert await rig.pending("normal") == {}
    found = (await store.fetch(QUEUE, {"normal": 9})).leases
    assert [(lease.entry, lease.fields, lease.deliveries) for lease in found] == [
        (entry, body, 1) for entry, body in entries
    ]


async def test_a_settlement_that_is_sent_twice_brings_no_job_back_twice(
    rig: Rig, store: Store
) -> None:
    asked = settlement(await lease_some(rig, store), again=[fields(id="a")])

    assert await store.settle(QUEUE, asked) == []
    assert await store.settle(QUEUE, asked) == []

    assert len(await rig.stream(KEYS.lane("normal"))) == 1


async def test_where_a_lease_is_lost_no_job_comes_back(rig: Rig, store: Store) -> None:
    mine, lost = await lease_some(rig, store, 2)
    await rig.age("normal", lost.entry, 60_000)
    await rig.store("b").reclaim(QUEUE, idle_ms_min=60_000, count=1)

    answer = await store.settle(QUEUE, settlement([mine, lost], again=[fields(), fields()]))

    assert answer == [lost.entry]
    assert [entry for entry, _ in await rig.stream(KEYS.lane("normal"))] == [
        mine.entry,
        lost.entry,
    ]


async def test_dead_jobs_keep_their_fields_and_record_and_are_grouped(
    rig: Rig, store: Store
) -> None:
    leases = await lease_some(rig, store, 3)
    deaths = [dead("j1"), dead("j2", fingerprint="beef"), dead("j3", fingerprint="beef")]

    await store.settle(QUEUE, settlement(leases, dead=deaths))

    rows = [row for _, row in await rig.stream(KEYS.dead)]
    assert [row[2:] for row in rows] == [fields()] * 3
    assert all(row[0] == DEAD for row in rows)
    assert [msgspec.json.decode(row[1], type=DeadRecord).id for row in rows] == ["j1", "j2", "j3"]
    groups = await rig.hash(KEYS.dead_groups)
    assert (groups[b"f00dfeedf00d:n"], groups[b"beef:n"]) == (b"1", b"2")
    assert groups[b"beef:sample"] == b'{"n":1}'
    assert int(groups[b"beef:first"]) <= int(groups[b"beef:last"])


async def test_counters_rise_in_all_and_by_minute(rig: Rig, store: Store) -> None:
    first, second = await lease_some(rig, store, 2)

    await store.settle(QUEUE, settlement([first], stats={"done:pack": 2, "retried:post": 1}))
    await store.settle(QUEUE, settlement([second], stats={"done:pack": 3}, sequence=2))

    stats = await rig.hash(KEYS.stats)
    assert (stats[b"done:pack"], stats[b"retried:post"]) == (b"5", b"1")
    minutes = await rig.hash(KEYS.minutes(AT_MS))
    assert sum(map(int, minutes.values())) == 6
    assert all(name.startswith(b"%d:" % (AT_MS // 60_000)) for name in minutes)


async def test_events_and_replies_are_written(rig: Rig, store: Store) -> None:
    leases = await lease_some(rig, store)

    await store.settle(
        QUEUE,
        settlement(
            leases,
            events=[b'{"event":"done"}', b'{"event":"dead"}'],
            replies=[(REPLY, [b"id", b"j1", b"outcome", b"done"])],
        ),
    )

    events = await rig.stream(KEYS.events)
    assert [row[1] for _, row in events] == [b'{"event":"done"}', b'{"event":"dead"}']
    assert [row for _, row in await rig.stream(REPLY)] == [[b"id", b"j1", b"outcome", b"done"]]


async def test_progress_of_finished_jobs_is_forgotten(rig: Rig, store: Store) -> None:
    leases = await lease_some(rig, store)
    await store.report(QUEUE, {"j1": b"{}", "j2": b"{}"}, [])

    await store.settle(QUEUE, settlement(leases, finished=["j1", "never-reported"]))

    assert set(await rig.hash(KEYS.progress)) == {b"j2"}


async def test_released_jobs_stay_and_are_nobodys(rig: Rig, store: Store) -> None:
    kept, handed_back, ended = await lease_some(rig, store, 3)

    assert await store.settle(QUEUE, settlement([ended], released=[handed_back])) == []

    pending = await rig.pending("normal")
    assert set(pending) == {kept.entry, handed_back.entry}
    assert (pending[kept.entry].consumer, pending[kept.entry].deliveries) == ("a", 1)
    line = pending[handed_back.entry]
    assert (line.consumer, line.deliveries) == (RELEASED, 0)
    assert line.idle_ms >= RELEASED_IDLE_MS


@pytest.mark.parametrize("lost_how", ["settled", "unknown", "count"])
@pytest.mark.parametrize("where", ["ended", "released"])
async def test_one_lost_entry_leaves_everything_as_it_was(
    rig: Rig, store: Store, lost_how: str, where: str
) -> None:
    """
    Goal: all or nothing.

    Method: one of three entries is not held any more; after the refused settlement every key is
    as before, and the same settlement without it is applied under a new number.
    """
    first, second, third = await lease_some(rig, store, 3)
    lost = second.entry
    counts = {}
    if lost_how == "settled":
        await store.settle(QUEUE, settlement([second]))
    elif lost_how == "unknown":
        lost = b"1-1"
    else:
        counts = {lost: 2}
    leases: list[Lease | bytes] = [first, lost]
    split = {"ended": leases} if where == "ended" else {"released": leases}
    whole = {"ended": [third, *split.get("ended", [])], "released": split.get("released", [])}
    before = await snapshot(rig)

    answer = await store.settle(
        QUEUE, settlement(**whole, sequence=2, deliveries=counts, **EVERYTHING)
    )

    assert answer == [lost]
    assert await snapshot(rig) == before
    assert await store.settle(QUEUE, settlement([first, third], sequence=3, **EVERYTHING)) == []
    assert len(await rig.stream(KEYS.dead)) == 1


@pytest.mark.parametrize("where", ["ended", "released"])
async def test_an_entry_named_twice_is_not_settled(rig: Rig, store: Store, where: str) -> None:
    """
    Goal: one job does not end twice in one settlement.

    Method: an engine that took its own expired lease over, or fetched an entry again after its
    group was lost, may hold two leases of one entry; only it can tell which one is good.
    """
    first, second = await lease_some(rig, store, 2)
    parts = {"ended": [first, second], where: [first]}
    if where == "ended":
        parts["ended"] = [first, second, first]

    lost = await store.settle(
        QUEUE,
        settlement(
            parts["ended"], released=parts.get("released", []), done=[done("j1", "j2", "j1")]
        ),
    )

    assert lost == [first.entry]
    assert await rig.stream(KEYS.done) == []
    assert set(await rig.pending("normal")) == {first.entry, second.entry}


async def test_a_repeated_number_is_answered_as_applied(rig: Rig, store: Store) -> None:
    leases = await lease_some(rig, store, 2)
    asked = settlement(leases, **EVERYTHING)
    assert await store.settle(QUEUE, asked) == []
    before = await snapshot(rig)

    assert await store.settle(QUEUE, asked) == []

    assert await snapshot(rig) == before


async def test_numbers_count_per_engine_and_lane(rig: Rig, store: Store, other: Store) -> None:
    for lane in ("normal", "normal", "low"):
        await rig.add(lane, fields())
    (mine,) = (await store.fetch(QUEUE, {"normal": 1})).leases
    (theirs,) = (await other.fetch(QUEUE, {"normal": 1})).leases
    (low,) = (await store.fetch(QUEUE, {"low": 1})).leases

    assert await store.settle(QUEUE, settlement([mine])) == []
    assert await other.settle(QUEUE, settlement([theirs])) == []
    assert await store.settle(QUEUE, settlement([low], lane="low")) == []

    assert await rig.stream(KEYS.lane("normal")) == []
    assert await rig.stream(KEYS.lane("low")) == []


async def test_a_refused_number_may_be_asked_again(rig: Rig, store: Store) -> None:
    """The refusal's reply may get lost too; asked again, it is refused again."""
    (lease,) = await lease_some(rig, store)
    asked = settlement([lease, b"1-1"])

    assert await store.settle(QUEUE, asked) == [b"1-1"]
    assert await store.settle(QUEUE, asked) == [b"1-1"]

    assert set(await rig.pending("normal")) == {lease.entry}


async def test_a_settlement_may_end_no_entry(rig: Rig, store: Store) -> None:
    """What was trimmed while it was leased has no entry left, yet is recorded as dead."""
    assert await store.settle(QUEUE, settlement([], dead=[dead("j1")])) == []

    assert len(await rig.stream(KEYS.dead)) == 1


async def test_entries_that_the_engine_forgot_do_not_hide_others(rig: Rig, store: Store) -> None:
    """A lost reply leaves entries pending that ``held`` does not count."""
    await lease_some(rig, store, 30)
    leases = await lease_some(rig, store, 10)

    assert await store.settle(QUEUE, settlement(leases, held=10)) == []

    assert len(await rig.pending("normal")) == 30


async def test_scattered_entries_of_a_large_batch_are_settled(rig: Rig, store: Store) -> None:
    leases = await lease_some(rig, store, 120)
    part = leases[::7]

    assert await store.settle(QUEUE, settlement(part, held=120)) == []

    assert set(await rig.pending("normal")) == {lease.entry for lease in leases} - {
        lease.entry for lease in part
    }


async def test_thousands_of_ends_fit_into_one_settlement(rig: Rig, store: Store) -> None:
    """
    Goal: no batch that an engine may build is too large for the script.

    Method: a settler sends at most 512 ends at a time; Lua unpacks some 8,000 values at most.
    """
    count = 2_000
    leases = await lease_some(rig, store, count)
    retries = [(AT_MS, packed(body=fields(id=f"r{number}"))) for number in range(count)]
    deaths = [dead(f"d{number}") for number in range(count)]

    answer = await store.settle(
        QUEUE,
        settlement(
            leases, retries=retries, dead=deaths, finished=[f"f{number}" for number in range(count)]
        ),
    )

    assert answer == []
    assert await rig.pending("normal") == {}
    assert len(await rig.delayed()) == count
    assert len(await rig.stream(KEYS.dead)) == count


async def test_hostile_bytes_reach_the_dead_stream_unchanged(rig: Rig, store: Store) -> None:
    body = [b"type", b"pack", *(part for value in HOSTILE for part in (b"f" + value[:9], value))]
    await rig.add("normal", body)
    (lease,) = (await store.fetch(QUEUE, {"normal": 1})).leases
    assert lease.fields == body

    await store.settle(QUEUE, settlement([lease], dead=[dead("j1", body=lease.fields)]))

    ((_, row),) = await rig.stream(KEYS.dead)
    assert row[2:] == body


async def test_hostile_bytes_come_back_from_a_retry_unchanged(rig: Rig, store: Store) -> None:
    body = [part for number, value in enumerate(HOSTILE) for part in (b"%d" % number, value)]
    await rig.add("normal", body)
    (lease,) = (await store.fetch(QUEUE, {"normal": 1})).leases

    due_ms = await rig.now_ms() - 1
    await store.settle(QUEUE, settlement([lease], retries=[(due_ms, packed(body=body))]))
    assert (await store.promote(QUEUE, count=10)).moved == 1

    (again,) = (await store.fetch(QUEUE, {"normal": 1})).leases
    assert again.fields == body
