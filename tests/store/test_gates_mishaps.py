"""Gates go on when something is broken, deleted, handed back or written by a stranger."""

from __future__ import annotations

import pytest

from engine.store.base import Store
from tests.support.gates import Hand, ids, leave
from tests.support.jobs import fields
from tests.support.rigs import KEYS, QUEUE, MemoryRig, Rig, ServerRig


@pytest.fixture
def a(rig: Rig, store: Store) -> Hand:
    return Hand(rig, store)


async def keyed(a: Hand, *names: str, key: str = "k") -> None:
    for name in names:
        await a.rig.add("normal", fields(id=name, key=key))


async def test_a_job_that_is_handed_back_keeps_its_turn_and_no_place(rig: Rig, a: Hand) -> None:
    await rig.set_control("limit:sms", "0 1000 0 1")
    await keyed(a, "j1", "j2")
    first, second = await a.take()
    assert await a.ask(first, second, limits=("sms",)) == ["run", "parked"]

    await a.give_back(first)

    assert b"u:sms" not in await rig.hash(KEYS.limits)
    assert len(await rig.hash(KEYS.busy("normal"))) == 1
    (again,) = (await a.store.reclaim(QUEUE, idle_ms_min=60_000, count=5)).leases
    assert await a.ask(again, limits=("sms",)) == ["run"]
    await a.end(again)
    assert ids(await a.let_through()) == ["j2"]


async def test_what_somebody_deleted_gives_its_turn_and_its_places_back(rig: Rig, a: Hand) -> None:
    """Goal: a key does not stand still for ever when the entry that has its turn is gone."""
    await rig.set_control("limit:sms", "0 1000 0 1")
    await keyed(a, "j1", "j2")
    first, second = await a.take()
    assert await a.ask(first, second, limits=("sms",)) == ["run", "parked"]
    await rig.delete("normal", first.entry)

    await a.store.release(QUEUE, count=10, every=True)

    (second,) = await a.let_through()
    assert ids([second]) == ["j2"]
    assert await a.ask(second, limits=("sms",)) == ["run"]


async def test_a_job_before_the_one_that_was_let_through_has_to_ask(rig: Rig, a: Hand) -> None:
    """An operator's redrive may stand in the stream before what a settlement lets through."""
    await keyed(a, "j1", "j2")
    first, second = await a.take()
    assert await a.ask(first, second) == ["run", "parked"]
    await rig.add("normal:ready", fields(id="redriven", key="other"))

    asked = await a.end(first, room=2)

    assert [lease.admitted for lease in asked.handed] == [False]


async def test_a_member_that_nobody_of_ours_wrote_is_let_through_and_keeps_nobody_back(
    rig: Rig, a: Hand
) -> None:
    await keyed(a, "j1")
    (first,) = await a.take()
    assert await a.ask(first) == ["run"]
    member = b"kk\0000-0\0not packed"
    if isinstance(rig, ServerRig):
        await rig.call("ZADD", KEYS.parked("normal"), 0, member)
    else:
        assert isinstance(rig, MemoryRig)
        rig.queue.parked["normal"].append(member)

    asked = await a.end(first, room=1, leaves=[leave(first)])

    (junk,) = asked.handed
    assert junk.fields[0] == b"packed"
    await a.end(junk, how="dead")
    assert await rig.hash(KEYS.busy("normal")) == {}


@pytest.mark.parametrize("text", ["fast 1000 10 0", "50 0 10 0", "", "50"])
async def test_a_rule_that_makes_no_sense_bounds_nothing(rig: Rig, a: Hand, text: str) -> None:
    await rig.set_control("limit:sms", text)
    await keyed(a, "j1")
    (first,) = await a.take()

    assert await a.ask(first, limits=("sms",)) == ["run"]


async def test_a_rate_without_a_burst_lets_one_through(rig: Rig, a: Hand) -> None:
    await rig.set_control("limit:sms", "0.001 1000 0 0")
    await keyed(a, "j1", key="x")
    await keyed(a, "j2", key="y")
    first, second = await a.take()

    assert await a.ask(first, second, limits=("sms",)) == ["run", "parked"]
