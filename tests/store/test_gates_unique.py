"""Uniqueness: who takes a value, until when, and what becomes of the others."""

from __future__ import annotations

from typing import Any

import pytest

from engine.store.base import Lease, Store
from engine.store.gates import Answer, ticket_of
from tests.support.gates import Hand, ids, leave
from tests.support.jobs import dead, fields, packed
from tests.support.rigs import KEYS, QUEUE, Rig

WINDOW_MS = 60_000


@pytest.fixture
def a(rig: Rig, store: Store) -> Hand:
    return Hand(rig, store)


async def job(hand: Hand, name: str, **more: str) -> Lease:
    await hand.rig.add("normal", fields(id=name, **more))
    (lease,) = await hand.take()
    return lease


async def claim(hand: Hand, lease: Lease, value: str = "v", **asks: Any) -> Answer:
    asks = {"unique": value, "mode": "unique"} | asks
    (answer,) = await hand.answers(lease, **asks)
    return answer


async def due_of(hand: Hand, answer: Answer) -> int:
    """Until when a job is to wait, from now."""
    assert answer.word == "wait"
    return int(answer.detail) - await hand.rig.now_ms()


async def test_a_value_is_taken_while_its_job_runs(rig: Rig, a: Hand) -> None:
    first, second = await job(a, "j1"), await job(a, "j2")

    assert await claim(a, first) == Answer("run")
    assert await claim(a, first) == Answer("run")
    assert await claim(a, second) == Answer("duplicate", "j1")
    assert await claim(a, second, "w") == Answer("run")
    await a.end(first)

    third = await job(a, "j3")
    assert await claim(a, third) == Answer("run")


async def test_a_value_stays_taken_through_retries(rig: Rig, a: Hand) -> None:
    first = await job(a, "j1")
    await claim(a, first)
    await a.retry(first, ready=False)

    second = await job(a, "j2")
    assert await claim(a, second) == Answer("duplicate", "j1")
    await a.store.promote(QUEUE, count=1)
    (first,) = await a.take()
    assert await claim(a, first) == Answer("run")
    await a.end(first, how="dead", dead=[dead("j1")])

    assert await claim(a, await job(a, "j3")) == Answer("run")


async def test_a_job_that_was_parked_holds_its_value(rig: Rig, a: Hand) -> None:
    first, second = await job(a, "j1", key="k"), await job(a, "j2", key="k")
    await a.ask(first)

    # Its key is noted before its value is asked for, so it claims when its turn has come.
    assert (await claim(a, second)).word in {"parked", "lost"}
    await a.end(first)
    (second,) = await a.let_through()
    assert await claim(a, second) == Answer("run")

    assert await claim(a, await job(a, "j3")) == Answer("duplicate", "j2")


async def test_a_duplicate_ends_without_freeing_the_value(rig: Rig, a: Hand) -> None:
    first, second = await job(a, "j1"), await job(a, "j2")
    await claim(a, first)
    await claim(a, second)

    await a.end(second)

    assert await claim(a, await job(a, "j3")) == Answer("duplicate", "j1")


async def test_a_window_counts_from_the_first_job(rig: Rig, a: Hand) -> None:
    first = await job(a, "j1")
    await claim(a, first, ms=WINDOW_MS)
    await rig.let_pass(WINDOW_MS - 10_000)
    await a.end(first)

    assert await claim(a, await job(a, "j2"), ms=WINDOW_MS) == Answer("duplicate", "j1")
    await rig.let_pass(11_000)
    assert await claim(a, await job(a, "j3"), ms=WINDOW_MS) == Answer("run")


async def test_a_job_that_outlives_its_window_stays_unique(rig: Rig, a: Hand) -> None:
    first = await job(a, "j1")
    await claim(a, first, ms=WINDOW_MS)
    await rig.let_pass(2 * WINDOW_MS)

    assert await claim(a, await job(a, "j2"), ms=WINDOW_MS) == Answer("duplicate", "j1")
    await a.end(first)

    assert await claim(a, await job(a, "j3"), ms=WINDOW_MS) == Answer("run")


async def test_a_throttle_lets_one_through_in_its_span(rig: Rig, a: Hand) -> None:
    asks = {"mode": "throttle", "ms": WINDOW_MS}
    first = await job(a, "j1")
    assert await claim(a, first, **asks) == Answer("run")
    await a.end(first)

    assert await claim(a, await job(a, "j2"), **asks) == Answer("duplicate", "j1")
    await rig.let_pass(WINDOW_MS + 1)
    assert await claim(a, await job(a, "j3"), **asks) == Answer("run")


async def test_a_throttled_job_whose_engine_died_runs_past_its_span(rig: Rig, a: Hand) -> None:
    asks = {"mode": "throttle", "ms": WINDOW_MS}
    first = await job(a, "j1")
    await claim(a, first, **asks)
    await rig.let_pass(WINDOW_MS + 1)
    assert await claim(a, await job(a, "j2"), **asks) == Answer("run")

    assert await claim(a, first, **asks) == Answer("run")
    assert await claim(a, await job(a, "j3"), **asks) == Answer("duplicate", "j2")


async def test_the_last_of_a_burst_runs(rig: Rig, a: Hand) -> None:
    """Goal: each one puts the burst's end off; whoever wakes and is not the last is replaced."""
    asks = {"mode": "debounce", "ms": 10_000}
    first = await job(a, "j1")
    answer = await claim(a, first, **asks)
    assert 9_000 < await due_of(a, answer) <= 10_000
    assert answer.other == ""
    await rig.let_pass(6_000)
    second = await job(a, "j2")
    answer = await claim(a, second, **asks)
    assert 9_000 < await due_of(a, answer) <= 10_000
    assert answer.other == "j1"

    await rig.let_pass(10_001)
    assert await claim(a, first, **asks, wakes=True) == Answer("replaced", "j2")
    assert await claim(a, second, **asks, wakes=True) == Answer("run")
    # Another burst begins.
    answer = await claim(a, await job(a, "j3"), **asks)
    assert (answer.word, answer.other) == ("wait", "")


async def test_the_last_of_a_burst_runs_whoever_asks_first(rig: Rig, a: Hand) -> None:
    """Goal: engines that took a burst apart let the job run that was added last."""
    asks = {"mode": "debounce", "ms": 10_000}
    first, second, third = [await job(a, name) for name in ("j1", "j2", "j3")]

    assert (await claim(a, second, **asks)).other == ""
    assert await claim(a, first, **asks) == Answer("replaced", "j2")
    assert (await claim(a, third, **asks)).other == "j2"

    await rig.let_pass(10_001)
    assert await claim(a, third, **asks, wakes=True) == Answer("run")


async def test_a_burst_is_put_off_no_longer_than_its_maximum(rig: Rig, a: Hand) -> None:
    asks = {"mode": "debounce", "ms": 10_000, "ms_max": 15_000}
    await claim(a, await job(a, "j1"), **asks)
    await rig.let_pass(9_000)
    answer = await claim(a, await job(a, "j2"), **asks)

    assert 5_000 < await due_of(a, answer) <= 6_000


async def test_a_job_that_waits_for_its_burst_keeps_its_value(rig: Rig, a: Hand) -> None:
    asks = {"mode": "debounce", "ms": 10_000}
    first = await job(a, "j1")
    await claim(a, first, **asks)

    due_ms = await rig.now_ms() + 10_000
    await a.end(first, how="early", retries=[(due_ms, packed(body=first.fields))])

    assert (await rig.hash(KEYS.unique))[b"uv"] == b"j1"


@pytest.mark.parametrize("last", [True, False])
async def test_a_job_that_ends_before_its_burst_does_frees_the_value(
    rig: Rig, a: Hand, last: bool
) -> None:
    asks = {"mode": "debounce", "ms": 10_000}
    jobs = [await job(a, "j1"), await job(a, "j2")]
    for each in jobs:
        await claim(a, each, **asks)
    ended = jobs[-1 if last else 0]

    await a.end(ended, leaves=[leave(ended, "free", unique="v")])

    expected = Answer("run") if last else Answer("duplicate", "j2")
    assert await claim(a, await job(a, "j3")) == expected


async def test_an_id_that_was_seen_is_a_duplicate(rig: Rig, a: Hand) -> None:
    first, second, third = [await job(a, "j1") for _ in range(3)]
    asks = {"own_id": "j1", "body": "abc"}

    assert await a.ask(first, **asks) == ["run"]
    assert await a.ask(first, **asks) == ["run"]
    assert await a.answers(second, **asks) == [Answer("duplicate", "j1")]
    await a.end(first)
    assert await a.answers(second, **asks) == [Answer("duplicate", "j1")]
    assert await a.answers(third, **(asks | {"body": "xyz"})) == [Answer("conflict", "j1")]


async def test_an_id_may_come_back_after_its_window(rig: Rig, a: Hand) -> None:
    first, second = await job(a, "j1"), await job(a, "j1")
    asks = {"own_id": "j1", "body": "abc", "window_ms": 1_000}
    await a.ask(first, **asks)
    await a.end(first)

    await rig.let_pass(1_001)

    assert await a.ask(second, **asks) == ["run"]


async def test_without_a_window_no_id_is_remembered(rig: Rig, a: Hand) -> None:
    leases = [await job(a, "j1"), await job(a, "j1")]

    words = [await a.ask(lease, own_id="j1", body="abc", window_ms=0) for lease in leases]

    assert words == [["run"], ["run"]]


async def test_a_duplicate_with_a_key_passes_its_turn_on(rig: Rig, a: Hand) -> None:
    await claim(a, await job(a, "j0"))
    first, second = await job(a, "j1", key="k"), await job(a, "j2", key="k")

    assert await a.ask(second) == ["parked"]
    assert await claim(a, first) == Answer("duplicate", "j0")
    await a.end(first)

    assert ids(await a.let_through()) == ["j2"]


async def test_values_that_ended_are_forgotten(rig: Rig, a: Hand) -> None:
    first = await job(a, "j1")
    await claim(a, first, mode="throttle", ms=1_000)
    await a.ask(await job(a, "j2"), own_id="j2", body="abc", window_ms=600_000)
    await rig.let_pass(2_000)

    await a.store.release(QUEUE, count=10)

    assert await rig.hash(KEYS.unique) == {b"ij2": (await _place(rig))}


async def _place(rig: Rig) -> bytes:
    entries = await rig.stream(KEYS.lane("normal"))
    return b"normal/" + ticket_of(entries[-1][0]).encode()
