"""The delayed set, held types and what operators set."""

from __future__ import annotations

import pytest

from engine.store.base import Control, Store
from tests.support.jobs import fields, packed, settlement
from tests.support.rigs import KEYS, QUEUE, MemoryRig, Rig


async def test_promote_moves_what_is_due_to_its_lane(rig: Rig, store: Store) -> None:
    now_ms = await rig.now_ms()
    await rig.delay(now_ms - 1, packed("low", fields(id="due")))
    await rig.delay(now_ms + 60_000, packed("low", fields(id="later")))

    promoted = await store.promote(QUEUE, count=10)

    assert promoted.moved == 1
    assert promoted.next_ms is not None
    assert 50_000 < promoted.next_ms <= 60_001
    assert [row for _, row in await rig.stream(KEYS.lane("low"))] == [fields(id="due")]
    assert list(await rig.delayed()) == [packed("low", fields(id="later"))]


async def test_promote_takes_the_longest_due_first_and_no_more_than_asked(
    rig: Rig, store: Store
) -> None:
    now_ms = await rig.now_ms()
    for age_ms in (10, 40, 20, 30):
        await rig.delay(now_ms - age_ms, packed(body=fields(id=f"due-{age_ms}")))

    assert await store.promote(QUEUE, count=3) == type(await store.promote(QUEUE, count=0))(3, 0)

    rows = [row[-1] for _, row in await rig.stream(KEYS.lane("normal"))]
    assert rows == [b"due-40", b"due-30", b"due-20"]


async def test_promote_without_anything_delayed_knows_no_next(rig: Rig, store: Store) -> None:
    promoted = await store.promote(QUEUE, count=10)

    assert (promoted.moved, promoted.next_ms) == (0, None)


async def test_promote_goes_by_the_servers_clock(rig: Rig, store: Store) -> None:
    """The engine's own clock may be an hour off; only the server's decides."""
    await rig.delay(await rig.now_ms() + 1_000, packed())
    if isinstance(rig, MemoryRig):
        rig.clock.step(3_600_000)
        rig.model.step(-3_600_000)

    assert (await store.promote(QUEUE, count=10)).moved == 0


async def test_a_promoted_job_is_delivered_once(rig: Rig, store: Store, other: Store) -> None:
    await rig.delay(await rig.now_ms() - 1, packed())

    moved = [(await one.promote(QUEUE, count=10)).moved for one in (store, other)]
    found = [len((await one.fetch(QUEUE, {"normal": 5})).leases) for one in (store, other)]

    assert moved == [1, 0]
    assert found == [1, 0]


@pytest.mark.parametrize(
    "member", [b"", b"junk", b"\xff" * 40, b"\xdd\x00\x00\x00\x00", packed("x")]
)
async def test_a_member_that_nobody_packed_goes_to_a_lane_with_its_bytes(
    rig: Rig, store: Store, member: bytes
) -> None:
    """Whatever lies in the delayed set, promotion goes on, and a reader can bury it."""
    now_ms = await rig.now_ms()
    await rig.delay(now_ms - 2, member)
    await rig.delay(now_ms - 1, packed("low"))

    assert (await store.promote(QUEUE, count=10)).moved == 2

    leases = (await store.fetch(QUEUE, dict.fromkeys(KEYS.lanes, 5))).leases
    assert sorted(lease.fields for lease in leases) == sorted([[b"packed", member], fields()])


async def test_hundreds_are_promoted_by_one_call(rig: Rig, store: Store) -> None:
    now_ms = await rig.now_ms()
    for number in range(600):
        await rig.delay(now_ms - 1, packed(body=fields(id=f"j{number}")))

    assert (await store.promote(QUEUE, count=500)).moved == 500
    assert (await store.promote(QUEUE, count=500)).moved == 100


async def test_control_is_open_by_default(rig: Rig, store: Store) -> None:
    assert await store.control(QUEUE) == Control(paused=False, concurrency=None, holds={})


async def test_control_says_what_operators_set(rig: Rig, store: Store, other: Store) -> None:
    await rig.set_control("paused", "1")
    await rig.set_control("concurrency", "7")
    await store.hold(QUEUE, "pack", "no key")

    for one in (store, other):
        assert await one.control(QUEUE) == Control(
            paused=True, concurrency=7, holds={"pack": "no key"}
        )

    await rig.set_control("paused", None)
    await rig.set_control("concurrency", None)
    await rig.set_control("hold:pack", None)
    assert await store.control(QUEUE) == Control()


async def test_the_first_hold_keeps_its_reason(rig: Rig, store: Store, other: Store) -> None:
    assert await store.hold(QUEUE, "pack", "no key") is True
    assert await other.hold(QUEUE, "pack", "another reason") is False

    assert (await store.control(QUEUE)).holds == {"pack": "no key"}


async def test_held_jobs_come_back_once_their_type_is_free(rig: Rig, store: Store) -> None:
    """
    Goal: held jobs are kept whole, and only types that are free again come back.

    Method: two jobs of ``pack`` and one of ``post`` are set aside; ``post`` stays held.
    """
    for job_type in ("pack", "post"):
        await store.hold(QUEUE, job_type, "no key")
    leases = []
    for lane in ("low", "low", "normal"):
        await rig.add(lane, fields())
        leases += (await store.fetch(QUEUE, {lane: 1})).leases
    await store.settle(
        QUEUE,
        settlement(
            leases[:2],
            lane="low",
            aside=[("pack", packed("low", fields(id=str(n)))) for n in range(2)],
        ),
    )
    await store.settle(
        QUEUE, settlement(leases[2:], aside=[("post", packed("normal", fields("post")))])
    )
    assert (await store.gauges(QUEUE, ["pack", "post"])).held == {"pack": 2, "post": 1}

    assert await store.unhold(QUEUE, ["pack", "post"], count=10) == 0
    await rig.set_control("hold:pack", None)
    assert await store.unhold(QUEUE, ["pack", "post"], count=1) == 1
    assert await store.unhold(QUEUE, ["pack", "post"], count=10) == 1

    assert [row for _, row in await rig.stream(KEYS.lane("low"))] == [
        fields(id="0"),
        fields(id="1"),
    ]
    assert (await store.gauges(QUEUE, ["pack", "post"])).held == {"post": 1}


async def test_unhold_of_nothing_moves_nothing(rig: Rig, store: Store) -> None:
    assert await store.unhold(QUEUE, [], count=10) == 0
    assert await store.unhold(QUEUE, ["pack"], count=10) == 0


async def test_hostile_bytes_come_back_from_a_hold_unchanged(rig: Rig, store: Store) -> None:
    body = [b"type", b"pack", b"\xff\x00", bytes(range(256)), b"", b"\r\n"]
    await rig.add("normal", fields())
    leases = (await store.fetch(QUEUE, {"normal": 1})).leases
    await store.settle(QUEUE, settlement(leases, aside=[("pack", packed("high", body))]))

    assert await store.unhold(QUEUE, ["pack"], count=10) == 1

    assert [row for _, row in await rig.stream(KEYS.lane("high"))] == [body]
