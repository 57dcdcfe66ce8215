"""Order by key: whose turn it is, and what passes it on."""

from __future__ import annotations

import asyncio

import pytest

from engine.store.admission import CALL_MAX, LOOK_MAX
from engine.store.base import Lease, Store
from engine.store.gates import Leave, ticket_of
from engine.wire.codec import META, encode_meta
from schemas.job import Meta
from tests.support.gates import Hand, admit, ids, job_id, leave, meta, question, ticket
from tests.support.jobs import dead, fields, packed, settlement
from tests.support.rigs import KEYS, QUEUE, Rig

LEASE_MS = 30_000


@pytest.fixture
def a(rig: Rig, store: Store) -> Hand:
    return Hand(rig, store)


@pytest.fixture
def b(rig: Rig, other: Store) -> Hand:
    return Hand(rig, other)


async def add(rig: Rig, *names: str, lane: str = "normal", key: str = "k") -> None:
    for name in names:
        await rig.add(lane, fields(id=name, key=key))


async def started(hand: Hand, *names: str) -> Lease:
    """Take jobs of a key; the first one runs and the others are parked behind it."""
    await add(hand.rig, *names)
    leases = await hand.take()
    assert await hand.ask(*leases) == ["run"] + ["parked"] * (len(names) - 1)
    return leases[0]


async def turns(rig: Rig, lane: str = "normal") -> dict[bytes, bytes]:
    return await rig.hash(KEYS.busy(lane))


async def test_jobs_of_a_key_start_in_the_order_of_their_lane(rig: Rig, a: Hand, b: Hand) -> None:
    """
    Goal: the first one in the lane goes first, whoever asks first.

    Method: the engine that was given the later ones asks before the one that has the first.
    """
    await add(rig, "j1", "j2", "j3")
    (first,) = await a.take(count=1)
    later = await b.take()

    assert await b.ask(*reversed(later)) == ["parked", "parked"]
    assert await a.ask(first) == ["run"]
    await a.end(first)
    (second,) = await b.let_through()
    assert await b.ask(second) == ["run"]
    assert await a.let_through() == []
    await b.end(second)
    (third,) = await a.let_through()
    assert await a.ask(third) == ["run"]
    await a.end(third)

    assert ids([first, second, third]) == ["j1", "j2", "j3"]
    assert await turns(rig) == {}
    assert await rig.admitted() == set()


async def test_a_job_waits_for_one_before_it_that_nobody_has_read(rig: Rig, a: Hand) -> None:
    """An engine may have died with the first one before anybody asked."""
    await add(rig, "j1", "j2")
    first, second = await a.take()

    assert await a.ask(second) == ["parked"]
    assert await turns(rig) == {b"k": ticket(first).encode()}


async def test_keys_and_lanes_do_not_wait_for_each_other(rig: Rig, a: Hand) -> None:
    await add(rig, "j1")
    await add(rig, "j2", key="kk")
    await add(rig, "j3", lane="low")

    assert await a.ask(*await a.take()) == ["run", "run"]
    assert await a.ask(*await a.take(stream="low")) == ["run"]


async def test_many_are_asked_for_at_once(rig: Rig, a: Hand) -> None:
    """Goal: answers come in the order of the questions, whatever each of them asks for."""
    count = CALL_MAX + 10
    for number in range(count):
        await rig.add("normal", fields(id=f"j{number}", key=f"k{number // 2}"))
    leases = await a.take(count=count)
    asked = [
        question(lease, **({"limits": ("sms",)} if number % 5 == 0 else {}))
        for number, lease in enumerate(leases)
    ]

    answers = await admit(a.store, "normal", *asked)

    assert [answer.word for answer in answers] == ["run", "parked"] * (count // 2)
    ended = await a.end(*leases[::2], room=count)
    assert ids(ended.handed) == [f"j{number}" for number in range(1, count, 2)]
    assert ended.moved == count // 2
    await a.end(*ended.handed)
    assert (await turns(rig), await rig.admitted()) == ({}, set())


async def test_what_waited_keeps_its_id_its_age_and_its_place(rig: Rig, a: Hand) -> None:
    await rig.add("normal", fields(id="j1", key="k"))
    entry = await rig.add("normal", fields(key="k"))
    first, second = await a.take()
    await a.ask(first, second)
    await a.end(first)
    (back,) = await a.let_through()

    assert meta(back) == Meta(
        id=f"n-{entry.decode()}",
        enqueued_ms=int(entry.partition(b"-")[0]),
        ticket=ticket_of(entry),
    )
    assert back.fields[: len(second.fields)] == second.fields


async def test_the_next_one_is_handed_to_an_engine_that_has_room(rig: Rig, a: Hand) -> None:
    first = await started(a, "j1", "j2")
    await add(rig, "j3", "j4", key="l")
    third, fourth = await a.take()
    await a.ask(third, fourth)

    ended = await a.end(first, third, room=1)

    assert ids(ended.handed) == ["j2"]
    assert ids(await a.let_through()) == ["j4"]


async def test_a_job_that_is_tried_again_keeps_its_turn(rig: Rig, a: Hand, b: Hand) -> None:
    first = await started(a, "j1", "j2")

    await a.retry(first)
    assert await b.let_through() == []
    await b.store.promote(QUEUE, count=10)
    (again,) = await b.let_through()
    assert job_id(again) == "j1"
    assert await b.ask(again) == ["run"]
    await b.end(again)

    assert ids(await b.let_through()) == ["j2"]


async def test_a_job_that_is_set_aside_keeps_its_turn(rig: Rig, a: Hand) -> None:
    first = await started(a, "j1", "j2")

    await a.store.hold(QUEUE, "pack", "no paper")
    member = packed("normal:ready", first.fields)
    await a.end(first, how="keep", aside=[("pack", member)])
    await rig.set_control("hold:pack", None)
    assert await a.let_through() == []
    await a.store.unhold(QUEUE, ["pack"], count=10)

    assert ids(await a.let_through()) == ["j1"]


async def test_a_job_that_is_put_off_before_it_starts_gives_its_turn_away(
    rig: Rig, a: Hand
) -> None:
    first = await started(a, "j1", "j2")

    due_ms = await rig.now_ms() + 3_600_000
    await a.end(first, how="early", retries=[(due_ms, packed(body=first.fields))])

    assert ids(await a.let_through()) == ["j2"]


async def test_a_death_passes_the_turn_on(rig: Rig, a: Hand) -> None:
    first = await started(a, "j1", "j2")

    await a.end(first, how="dead", dead=[dead("j1")])

    assert ids(await a.let_through()) == ["j2"]


async def test_a_death_keeps_the_key_where_the_queue_says_so(rig: Rig, a: Hand) -> None:
    await rig.set_control("on_dead", "block")
    first = await started(a, "j1", "j2")

    await a.end(first, how="dead", dead=[dead("j1")])

    assert await a.let_through() == []
    assert (await a.store.control(QUEUE)).blocks
    assert await turns(rig) == {b"k": b"!" + ticket(first).encode()}
    await add(rig, "j3")
    assert await a.ask(*await a.take()) == ["parked"]
    # Brought back with its place in the order, it goes first.
    told = Meta(id="j1", enqueued_ms=1, redrives=1, ticket=ticket(first))
    await rig.add("normal", [*first.fields, META, encode_meta(told)])
    (again,) = await a.take()
    assert await a.ask(again) == ["run"]
    await a.end(again)
    assert ids(await a.let_through()) == ["j2"]


async def test_a_dead_job_that_comes_back_goes_before_those_that_wait(rig: Rig, a: Hand) -> None:
    first = await started(a, "j1", "j2", "j3")
    await a.end(first, how="dead", dead=[dead("j1")])
    (second,) = await a.let_through()
    assert await a.ask(second) == ["run"]

    told = Meta(id="j1", enqueued_ms=1, redrives=1, ticket=ticket(first))
    await rig.add("normal", [*first.fields, META, encode_meta(told)])
    assert await a.ask(*await a.take()) == ["parked"]
    await a.end(second)

    assert ids(await a.let_through()) == ["j1"]


async def test_a_hand_back_keeps_the_turn(rig: Rig, a: Hand, b: Hand) -> None:
    first = await started(a, "j1", "j2")

    await a.give_back(first)
    assert await b.let_through() == []
    reclaimed = await b.store.reclaim(QUEUE, idle_ms_min=LEASE_MS, count=10)
    assert ids(reclaimed.leases) == ["j1"]
    assert await b.ask(*reclaimed.leases) == ["run"]
    await b.end(*reclaimed.leases)

    assert ids(await b.let_through()) == ["j2"]


async def test_a_job_that_was_let_through_is_taken_over_from_a_dead_engine(
    rig: Rig, a: Hand, b: Hand
) -> None:
    await a.end(await started(a, "j1", "j2"))
    (second,) = await a.let_through()

    await b.store.control(QUEUE)
    await rig.age("normal:ready", second.entry, LEASE_MS)
    reclaimed = await b.store.reclaim(QUEUE, idle_ms_min=LEASE_MS, count=10)

    assert [lease.batch.lane for lease in reclaimed.leases] == ["normal:ready"]
    assert await a.ask(second) == ["lost"]
    assert await b.ask(*reclaimed.leases) == ["run"]


@pytest.mark.parametrize("stream", ["normal", "normal:ready"])
async def test_an_entry_that_is_trimmed_passes_its_turn_on(
    rig: Rig, a: Hand, b: Hand, stream: str
) -> None:
    held = await started(a, "j1", "j2", "j3")
    if stream == "normal:ready":
        await a.end(held)
        (held,) = await a.let_through()

    await rig.age(stream, held.entry, LEASE_MS)
    await rig.delete(stream, held.entry)
    await b.store.control(QUEUE)
    reclaimed = await b.store.reclaim(QUEUE, idle_ms_min=LEASE_MS, count=10)
    assert reclaimed.trimmed == [(stream, held.entry)]
    left = settlement([], lane=stream, leaves=[Leave(held.entry, "dead")], dead=[dead("j")])
    await b.store.settle(QUEUE, left)

    assert ids(await b.let_through()) == [{"normal": "j2"}.get(stream, "j3")]


@pytest.mark.parametrize("first", [True, False])
async def test_a_malformed_job_passes_its_turn_on(rig: Rig, a: Hand, first: bool) -> None:
    """What nobody can read asks for nothing, and names no key when it ends."""
    odd = [b"key", b"k", b"id", b"odd"]
    if first:
        await rig.add("normal", odd)
        await add(rig, "j1")
        broken, good = await a.take()
        assert await a.ask(good) == ["parked"]
    else:
        await add(rig, "j1")
        await rig.add("normal", odd)
        await add(rig, "j2")
        good, broken, _ = await a.take()
        assert await a.ask(good) == ["run"]
        await add(rig, "j3")
        assert await a.ask(*await a.take()) == ["parked"]
        await a.end(good)
        (broken,) = await a.let_through()
        assert broken.fields[:4] == odd

    await a.end(broken, how="dead", leaves=[Leave(broken.entry, "dead")], dead=[dead("j")])

    assert len(await a.let_through()) == 1


async def test_a_question_may_be_asked_again(rig: Rig, a: Hand) -> None:
    """A lost reply changes nothing."""
    await add(rig, "j1", "j2")
    first, second = await a.take()

    for words in (["run", "parked"], ["run", "lost"]):
        assert await a.ask(first, second) == words
    await a.end(first)

    assert ids(await a.let_through()) == ["j2"]


async def test_a_settlement_may_be_sent_again(rig: Rig, a: Hand) -> None:
    """Goal: the turn is passed on once; what a lost reply handed over is recovered."""
    first = await started(a, "j1", "j2", "j3")

    ended = await a.end(first, room=3)
    again = await a.end(first, room=3, sequence=a.sequences["normal"])

    assert (ids(ended.handed), again.handed) == (["j2"], [])
    await a.store.control(QUEUE)
    assert ids(await a.store.recover(QUEUE, {})) == ["j2"]
    assert len(await rig.parked("normal")) == 1


async def test_a_settlement_that_was_lost_passes_nothing_on(rig: Rig, a: Hand, b: Hand) -> None:
    first = await started(a, "j1", "j2")
    await rig.age("normal", first.entry, LEASE_MS)
    (taken,) = (await b.store.reclaim(QUEUE, idle_ms_min=LEASE_MS, count=10)).leases

    late = settlement([first], sequence=2, leaves=[leave(first)], room=5)
    assert await a.store.settle(QUEUE, late) == [first.entry]

    assert late.handed == []
    assert await b.ask(taken) == ["run"]


async def test_a_line_has_a_bound(rig: Rig, a: Hand) -> None:
    await add(rig, "j1", "j2", "j3", "j4")
    leases = await a.take()

    assert await a.ask(*leases, line_max=1) == ["run", "parked", "full", "full"]
    assert len(await rig.parked("normal")) == 1


async def test_a_long_lane_is_looked_at_in_parts(rig: Rig, a: Hand) -> None:
    """No call takes longer than its share, however far back the asked entry stands."""
    await add(rig, *[f"j{number}" for number in range(LOOK_MAX + 5)])
    leases = await a.take(count=LOOK_MAX + 5)

    assert await a.ask(leases[-1]) == ["again"]
    assert await a.ask(leases[-1]) == ["parked"]
    assert len(await rig.parked("normal")) == LOOK_MAX + 4


async def test_parked_jobs_count_as_waiting(rig: Rig, a: Hand) -> None:
    first = await started(a, "j1", "j2", "j3")
    gauges = await a.store.gauges(QUEUE, [])
    await a.end(first)
    await a.store.control(QUEUE)
    after = await a.store.gauges(QUEUE, [])

    assert (gauges.waiting["normal"], gauges.parked["normal"], gauges.active["normal"]) == (2, 2, 1)
    assert (after.waiting["normal"], after.parked["normal"], after.active["normal"]) == (2, 1, 0)


async def test_streams_of_gates_are_read_once_gates_are_used(rig: Rig, a: Hand) -> None:
    """A queue that uses none of it pays nothing."""
    await add(rig, "j1")
    leases = await a.take()
    before = await a.store.fetch(QUEUE, {})
    await a.ask(*leases)
    await a.take()
    after = await a.store.fetch(QUEUE, {})

    assert not any(":ready" in stream for stream in before.waiting)
    assert "normal:ready" in after.waiting


@pytest.mark.parametrize("held", [True, False])
async def test_what_comes_back_with_its_turn_is_read_by_all(rig: Rig, a: Hand, held: bool) -> None:
    """Nobody has asked for anything in this queue, as far as its control says."""
    await add(rig, "j1")
    (lease,) = await a.take()
    member = packed("normal:ready", lease.fields)
    if held:
        await a.end(lease, how="keep", aside=[("work", member)])
        assert await a.store.unhold(QUEUE, ["work"], count=10) == 1
    else:
        await a.end(lease, how="keep", retries=[(await rig.now_ms() - 1, member)])
        assert (await a.store.promote(QUEUE, count=10)).moved == 1

    assert (await a.store.control(QUEUE)).gates
    assert ids(await a.let_through()) == ["j1"]


async def test_leases_of_jobs_that_were_let_through_are_renewed(rig: Rig, a: Hand) -> None:
    await a.end(await started(a, "j1", "j2"))
    (second,) = await a.let_through()
    await rig.age("normal:ready", second.entry, LEASE_MS)

    entries = {second.entry: 1, b"1-1": 1}
    assert await asyncio.to_thread(a.store.renew, QUEUE, "normal:ready", entries) == [b"1-1"]

    assert (await rig.pending("normal:ready"))[second.entry].idle_ms < LEASE_MS
