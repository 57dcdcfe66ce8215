"""Minute counters: told once, summed up by the quarter of an hour, the same however often."""

from __future__ import annotations

import pytest

from engine.core.numbers import levels_text, read_quarter
from engine.store.base import Store
from engine.store.numbers import LATE_MS, QUARTERS, Tally
from schemas.numbers import HOUR_MS, MINUTE_MS, QUARTER_MS, Levels
from tests.support.jobs import AT_MS, dead, fields, settlement
from tests.support.rigs import KEYS, QUEUE, Rig, ServerRig

HOUR = AT_MS - AT_MS % HOUR_MS
MINUTE = HOUR // MINUTE_MS
FULL, LOW = Levels(waiting=9, oldest_ms=700), Levels(waiting=2, dead=4)


def tally(sequence: int, at_ms: int = HOUR, **changes: object) -> Tally:
    values = {"sequence": sequence, "at_ms": at_ms, "counts": {"run:pack": [0, 2, 1]}}
    return Tally(**{**values, **changes})  # type: ignore[arg-type] - a test's shorthand


async def test_engines_add_to_one_minute(rig: Rig, store: Store, other: Store) -> None:
    assert await store.tally(QUEUE, tally(1, levels=FULL))
    assert await other.tally(QUEUE, tally(1, counts={"run:pack": [0, 0, 0, 5], "wait:low": [1]}))
    assert await store.tally(QUEUE, tally(2, levels=LOW))
    assert await store.tally(QUEUE, tally(3, HOUR + MINUTE_MS))

    found = await rig.hash(KEYS.minutes(HOUR))

    assert found == {
        b"%d:run:pack" % MINUTE: b"0,4,2,5",
        b"%d:wait:low" % MINUTE: b"1",
        b"%d:levels" % MINUTE: levels_text(LOW).encode(),
        b"%d:run:pack" % (MINUTE + 1): b"0,2,1",
        b"@a": b"3",
        b"@b": b"1",
    }


async def test_a_tally_that_is_sent_again_counts_once(rig: Rig, store: Store) -> None:
    assert await store.tally(QUEUE, tally(1))
    assert await store.tally(QUEUE, tally(2))

    assert not await store.tally(QUEUE, tally(2))
    assert not await store.tally(QUEUE, tally(1))

    found = await rig.hash(KEYS.minutes(HOUR))
    assert found[b"%d:run:pack" % MINUTE] == b"0,4,2"


async def test_deaths_are_counted_by_group_and_quarter(rig: Rig, store: Store) -> None:
    for _ in range(2):
        await rig.add("normal", fields())
    leases = (await store.fetch(QUEUE, {"normal": 2})).leases
    deaths = [dead("j1"), dead("j2")]

    await store.settle(QUEUE, settlement(leases, dead=deaths, at_ms=HOUR + 20 * MINUTE_MS))

    found = await rig.hash(KEYS.minutes(HOUR))
    assert found[f"{MINUTE + 15}:deaths:{deaths[0].fingerprint}".encode()] == b"2"


async def test_quarters_that_are_over_are_summed_up_once(rig: Rig, store: Store) -> None:
    """
    Goal: the sums are those of the minutes, whichever engine makes them, and how often.

    Method: minutes of two hours; the clock stands in the last quarter of the second.
    """
    for sequence, at in enumerate((0, 14, 15, 61, 104, 105)):
        told = tally(sequence + 1, HOUR + at * MINUTE_MS, levels=Levels(waiting=at))
        await store.tally(QUEUE, told)
    now_ms = HOUR + 106 * MINUTE_MS

    assert await store.sum_up(QUEUE, now_ms) == 7
    kept = await _kept(rig)
    assert await store.sum_up(QUEUE, now_ms) == 0
    await store.tally(QUEUE, tally(7, HOUR + MINUTE_MS))
    assert await store.sum_up(QUEUE, now_ms) == 0

    assert await _kept(rig) == kept
    first = HOUR // QUARTER_MS
    read = {at: read_quarter(kept.get(first + at, b"")) for at in range(8)}
    assert [numbers.run["pack"] if numbers else None for numbers in read.values()] == [
        *([0, 4, 2], [0, 2, 1], None, None),
        *([0, 2, 1], None, [0, 2, 1], None),
    ]
    assert read[0] is not None
    assert read[0].last == Levels(waiting=14)
    assert first + 7 not in kept


async def test_a_quarter_is_not_summed_up_before_all_have_told(rig: Rig, store: Store) -> None:
    await store.tally(QUEUE, tally(1))

    await store.sum_up(QUEUE, HOUR + QUARTER_MS + LATE_MS - 1)
    assert HOUR // QUARTER_MS not in await _kept(rig)

    await store.sum_up(QUEUE, HOUR + QUARTER_MS + LATE_MS)
    assert HOUR // QUARTER_MS in await _kept(rig)


async def test_hours_without_engines_are_summed_up_for_a_day(rig: Rig, store: Store) -> None:
    await store.tally(QUEUE, tally(1))

    await store.sum_up(QUEUE, HOUR + (QUARTERS + 2) * QUARTER_MS)
    assert HOUR // QUARTER_MS not in await _kept(rig)

    await store.sum_up(QUEUE, HOUR + QUARTERS * QUARTER_MS)
    assert HOUR // QUARTER_MS in await _kept(rig)


async def test_counters_and_sums_end_by_themselves(rig: Rig, store: Store) -> None:
    if not isinstance(rig, ServerRig):
        pytest.skip("the model keeps no time to live")
    await store.tally(QUEUE, tally(1))
    await store.sum_up(QUEUE, HOUR + HOUR_MS)

    left = [
        await rig.call("TTL", KEYS.minutes(HOUR)),
        await rig.call("TTL", KEYS.quarters(HOUR)),
    ]

    assert 24 * 3_600 < left[0] <= 25 * 3_600
    assert 8 * 86_400 < left[1] <= 9 * 86_400


async def _kept(rig: Rig) -> dict[int, bytes]:
    found = {}
    for day in (0, 1):
        found |= await rig.hash(KEYS.quarters(HOUR + day * 24 * HOUR_MS))
    return {int(quarter): raw for quarter, raw in found.items()}
