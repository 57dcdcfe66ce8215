"""Flows: their state opens with a settlement, children are sent once, ends are noted once."""

from __future__ import annotations

import msgspec
import pytest

from engine.errors import StoreRefused
from engine.store.base import Lease, Store
from engine.store.flow_base import FLOW_WHO, Applied, ChildJob, ChildNote, Opened
from engine.wire.flows import FAMILY, read_family
from engine.wire.packing import pack
from schemas.flow import ChildFailure, ChildrenRecord
from schemas.rules import FLOW_RESULTS_BYTES_MAX
from tests.support.jobs import fields, settlement
from tests.support.rigs import KEYS, QUEUE, Rig

FLOW = "p/n-1-0"
LEASE_MS = 10_000


def opened(
    states: str = "ppp", *, flow: str = FLOW, lane: str = "low", want: bool = True
) -> Opened:
    job = pack([lane.encode(), *fields(id="p")])
    known = [b"job", job, b"states", states.encode(), b"redrives", b"0"]
    return Opened(flow, known + ([b"want", b"1", b"bytes", b"0"] if want else []))


def failure(number: int) -> bytes:
    told = ChildFailure(number=number, id=f"p.{number}", type="t", queue="q", reason="exhausted")
    return msgspec.json.encode(told)


def note(number: int, letter: str = "d", closes: str = "", result: bytes = b"") -> ChildNote:
    return ChildNote(number, letter, closes, result, b"" if letter == "d" else failure(number))


async def open_flow(rig: Rig, store: Store, flow: Opened) -> Lease:
    """Put a parent behind its children, as the settlement of its lane does."""
    await rig.add("normal", fields(id="p"))
    (lease,) = (await store.fetch(QUEUE, {"normal": 1})).leases
    assert await store.settle(QUEUE, settlement([lease], opened=[flow])) == []
    return lease


async def family(rig: Rig, lane: str = "low") -> ChildrenRecord:
    ((_, found),) = await rig.stream(KEYS.lane(lane))
    assert found[: len(fields(id="p"))] == fields(id="p")
    return read_family(found[found.index(FAMILY) + 1])


async def test_a_parent_leaves_its_lane_for_its_flow(rig: Rig, store: Store) -> None:
    await open_flow(rig, store, opened())

    assert await rig.stream(KEYS.lane("normal")) == []
    assert (await store.gauges(QUEUE, [])).flows == 1
    assert (await store.control(QUEUE)).flows
    (task,) = await store.flow_tasks(QUEUE, count=5, lease_ms=LEASE_MS)
    assert (task.flow, task.job, task.states, task.closed) == (
        FLOW,
        [b"low", *fields(id="p")],
        "ppp",
        "",
    )
    assert await store.flow_tasks(QUEUE, count=5, lease_ms=LEASE_MS) == []


async def test_a_flow_opens_with_its_settlement_or_not_at_all(
    rig: Rig, store: Store, other: Store
) -> None:
    lease = await open_flow(rig, store, opened())
    late = settlement([lease], opened=[opened(flow="q/n-1-0")], sequence=2)

    assert await store.settle(QUEUE, late) == [lease.entry]

    assert (await other.gauges(QUEUE, [])).flows == 1


async def test_a_repeated_settlement_opens_nothing_again(rig: Rig, store: Store) -> None:
    lease = await open_flow(rig, store, opened("p"))
    await store.flow_apply(QUEUE, FLOW, [note(0)])

    assert await store.settle(QUEUE, settlement([lease], opened=[opened("p")])) == []

    assert (await store.gauges(QUEUE, [])).flows == 0


async def test_ends_are_told_with_the_settlement(rig: Rig, store: Store) -> None:
    await rig.add("normal", fields())
    leases = (await store.fetch(QUEUE, {"normal": 1})).leases
    sent = ChildJob("q/p/n-1-0/0", "high", fields(id="c"))
    await store.flow_send(QUEUE, [sent], until_ms=2**50)

    await store.settle(QUEUE, settlement(leases, ends=[b"one", b"\xfftwo"]))

    found = await store.flow_ends(QUEUE, after=b"", count=10)
    assert [message for _, message in found] == [b"one", b"\xfftwo"]
    assert await store.flow_ends(QUEUE, after=found[0][0], count=10) == found[1:]
    told = [(found[0][0], sent.marker, "c")]
    assert [await store.flow_clean(QUEUE, told) for _ in range(2)] == [1, 0]
    assert await store.flow_ends(QUEUE, after=b"", count=10) == found[1:]


async def test_a_child_is_sent_once_until_its_end_is_known(rig: Rig, store: Store) -> None:
    child = ChildJob("q/p/n-1-0/0", "high", fields(id="c"))

    for _ in range(2):
        assert await store.flow_send(QUEUE, [child], until_ms=2**50) == [True]

    assert [found for _, found in await rig.stream(KEYS.lane("high"))] == [fields(id="c")]


async def test_a_child_is_found_by_the_entry_in_which_it_was_sent(rig: Rig, store: Store) -> None:
    jobs = [
        ChildJob(f"{QUEUE}/{FLOW}/{n}", lane, fields()) for n, lane in enumerate(("low", "high"))
    ]
    until_ms = await rig.now_ms() + LEASE_MS
    await store.flow_send(QUEUE, jobs, until_ms=until_ms)
    ((low, _),) = await rig.stream(KEYS.lane("low"))

    places = [("low", low), ("high", b"1-1"), ("normal", low), ("low:ready", low)]
    assert await store.flow_children(QUEUE, places) == {("low", low): jobs[0].marker}
    assert await store.flow_children(QUEUE, []) == {}


async def test_nothing_is_sent_once_another_engine_may_send(rig: Rig, store: Store) -> None:
    child = ChildJob("q/p/n-1-0/0", "high", fields(id="c"))

    assert await store.flow_send(QUEUE, [child], until_ms=await rig.now_ms()) == []

    assert await rig.stream(KEYS.lane("high")) == []


async def test_a_parent_returns_after_its_last_child(rig: Rig, store: Store) -> None:
    await open_flow(rig, store, opened())
    (task,) = await store.flow_tasks(QUEUE, count=1, lease_ms=LEASE_MS)
    assert await store.flow_mark(QUEUE, FLOW, [0, 1, 2], until_ms=task.until_ms) == ""

    for _ in range(2):
        assert (await store.flow_apply(QUEUE, FLOW, [note(2, result=b'{"a":1}')])).closed == ""
        assert (await store.flow_apply(QUEUE, FLOW, [note(0), note(0)])).closed == ""
    assert (await store.flow_apply(QUEUE, FLOW, [note(1, "i")])).closed == "complete"
    assert (await store.flow_apply(QUEUE, FLOW, [note(1, "i")])).closed == ""

    found = await family(rig)
    assert (found.how, found.states, found.redrives) == ("complete", "did", 0)
    assert [each.id for each in found.failures] == ["p.1"]
    assert found.results is not None
    assert [bytes(raw) for raw in found.results] == [b"null", b"null", b'{"a":1}']
    assert (await store.gauges(QUEUE, [])).flows == 0
    assert await store.flow_tasks(QUEUE, count=1, lease_ms=0) == []


async def test_a_child_that_ended_before_it_was_known_to_be_sent_counts(
    rig: Rig, store: Store
) -> None:
    await open_flow(rig, store, opened("pp", want=False))
    assert (await store.flow_apply(QUEUE, FLOW, [note(1)])).closed == ""

    (task,) = await store.flow_tasks(QUEUE, count=1, lease_ms=LEASE_MS)
    assert task.states == "pd"
    await store.flow_mark(QUEUE, FLOW, [0, 1], until_ms=task.until_ms)
    assert (await store.flow_apply(QUEUE, FLOW, [note(0)])).closed == "complete"

    assert (await family(rig)).results is None


async def test_nothing_is_noted_for_an_engine_whose_flow_was_taken_by_another(
    rig: Rig, store: Store, other: Store
) -> None:
    """Goal: the other one may be sending, so no end is noted and then forgotten meanwhile."""
    await open_flow(rig, store, opened("p"))
    (late,) = await store.flow_tasks(QUEUE, count=1, lease_ms=0)
    (task,) = await other.flow_tasks(QUEUE, count=1, lease_ms=LEASE_MS)

    assert await store.flow_mark(QUEUE, FLOW, [0], until_ms=late.until_ms) == ""
    assert await store.flow_apply(QUEUE, FLOW, [note(0)]) == Applied("", frozenset({0}))

    await other.flow_mark(QUEUE, FLOW, [0], until_ms=task.until_ms)
    assert await store.flow_apply(QUEUE, FLOW, [note(0)]) == Applied("complete")


async def test_an_end_is_put_off_while_its_child_may_be_sent_again(rig: Rig, store: Store) -> None:
    await open_flow(rig, store, opened("ppp"))
    (task,) = await store.flow_tasks(QUEUE, count=1, lease_ms=LEASE_MS)
    await store.flow_mark(QUEUE, FLOW, [2], until_ms=task.until_ms)

    ends = [note(0), note(2), note(1, "f", "failed")]
    assert await store.flow_apply(QUEUE, FLOW, ends) == Applied("", frozenset({0, 1}))

    await store.flow_mark(QUEUE, FLOW, [0, 1], until_ms=task.until_ms)
    assert await store.flow_apply(QUEUE, FLOW, ends) == Applied("failed")
    assert (await family(rig)).states == "dfd"


async def test_a_failed_child_closes_the_flow_and_leaves_the_others_to_be_called_back(
    rig: Rig, store: Store
) -> None:
    await open_flow(rig, store, opened())
    (task,) = await store.flow_tasks(QUEUE, count=1, lease_ms=LEASE_MS)
    await store.flow_mark(QUEUE, FLOW, [0, 1, 2], until_ms=task.until_ms)

    assert (
        await store.flow_apply(QUEUE, FLOW, [note(0, "i"), note(1, "f", "failed")])
    ).closed == "failed"
    assert (await store.flow_apply(QUEUE, FLOW, [note(1, "f", "failed")])).closed == ""

    assert [each.number for each in (await family(rig)).failures] == [1, 0]
    (task,) = await store.flow_tasks(QUEUE, count=1, lease_ms=LEASE_MS)
    assert (task.closed, task.states) == ("failed", "ifs")
    assert await store.flow_mark(QUEUE, FLOW, [], until_ms=task.until_ms, over=True) == "failed"
    assert (await store.flow_apply(QUEUE, FLOW, [note(2)])).closed == ""
    assert await store.flow_tasks(QUEUE, count=1, lease_ms=0) == []
    assert len(await rig.stream(KEYS.lane("low"))) == 1


async def test_whoever_sends_is_told_that_the_flow_was_closed(rig: Rig, store: Store) -> None:
    await open_flow(rig, store, opened())
    (task,) = await store.flow_tasks(QUEUE, count=1, lease_ms=LEASE_MS)
    await store.flow_mark(QUEUE, FLOW, [0], until_ms=task.until_ms)
    await store.flow_apply(QUEUE, FLOW, [note(0, "f", "failed")])
    assert await store.flow_tasks(QUEUE, count=1, lease_ms=LEASE_MS) == []

    assert await store.flow_mark(QUEUE, FLOW, [1], until_ms=task.until_ms) == "failed"

    (task,) = await store.flow_tasks(QUEUE, count=1, lease_ms=LEASE_MS)
    assert task.states == "fsp"


async def test_a_flow_that_goes_on_without_the_others_still_sends_them(
    rig: Rig, store: Store
) -> None:
    await open_flow(rig, store, opened())

    assert (await store.flow_apply(QUEUE, FLOW, [note(0, "f", "continued")])).closed == "continued"

    (task,) = await store.flow_tasks(QUEUE, count=1, lease_ms=LEASE_MS)
    assert (task.closed, task.states) == ("continued", "fpp")
    assert await store.flow_mark(QUEUE, FLOW, [1], until_ms=task.until_ms) == "continued"
    assert await store.flow_mark(QUEUE, FLOW, [2], until_ms=task.until_ms) == "continued"
    assert await store.flow_tasks(QUEUE, count=1, lease_ms=0) == []
    assert await store.flow_mark(QUEUE, FLOW, [2], until_ms=task.until_ms) == ""


async def test_a_child_that_was_ignored_may_still_succeed(rig: Rig, store: Store) -> None:
    await open_flow(rig, store, opened("pp"))
    await store.flow_apply(QUEUE, FLOW, [note(0, "i")])

    await store.flow_apply(QUEUE, FLOW, [note(0, result=b"7"), note(0, "i")])
    await store.flow_apply(QUEUE, FLOW, [note(1)])

    found = await family(rig)
    assert (found.states, list(map(bytes, found.results or ()))) == ("dd", [b"7", b"null"])


async def test_a_cancelled_parent_returns_at_once(rig: Rig, store: Store) -> None:
    await open_flow(rig, store, opened("pp"))
    await store.flow_apply(QUEUE, FLOW, [note(1)])
    assert [each.flow for each in await store.flows_of(QUEUE, ["p", "q"])] == [FLOW]
    assert await store.flows_of(QUEUE, ["p/n"]) == await store.flows_of(QUEUE, []) == []

    cancel = ChildNote(-1, "", "cancelled")
    assert (await store.flow_apply(QUEUE, FLOW, [cancel])).closed == "cancelled"

    assert (await family(rig)).how == "cancelled"
    assert await store.flows_of(QUEUE, ["p"]) == []


async def test_only_children_that_are_out_get_a_tombstone(rig: Rig, store: Store) -> None:
    await store.flow_send(QUEUE, [ChildJob("m/0", "high", fields(id="a"))], until_ms=2**50)

    named = [("m/0", "a"), ("m/1", "b")]
    for _ in range(2):
        assert await store.flow_cancel(QUEUE, named, who="me", reason='no "more"') == 1

    await store.flow_clean(QUEUE, [(b"1-1", "m/0", "a")])
    assert b"a" in await rig.hash(KEYS.cancelled)
    stones = await rig.hash(KEYS.cancelled)
    told = msgspec.json.decode(stones[b"a"])
    assert (list(stones), told["who"], told["reason"]) == ([b"a"], "me", 'no "more"')
    assert abs(told["at_ms"] - await rig.now_ms()) < 5_000


async def test_a_tombstone_that_a_flow_laid_goes_with_the_child_s_end(
    rig: Rig, store: Store
) -> None:
    await store.flow_send(QUEUE, [ChildJob("m/0", "high", fields(id="a"))], until_ms=2**50)
    await store.flow_cancel(QUEUE, [("m/0", "a")], who=f"{FLOW_WHO}p", reason="")

    await store.flow_clean(QUEUE, [(b"1-1", "m/0", "a")])

    assert await rig.hash(KEYS.cancelled) == {}


async def test_results_have_a_bound(rig: Rig, store: Store) -> None:
    await open_flow(rig, store, opened("ppp"))
    large = b'"' + b"x" * (FLOW_RESULTS_BYTES_MAX - 3) + b'"'

    await store.flow_apply(QUEUE, FLOW, [note(0, result=large), note(1, result=b"12")])
    await store.flow_apply(QUEUE, FLOW, [note(2, result=b"1")])

    results = (await family(rig)).results or ()
    assert bytes(results[0]) == large
    assert b"resultNotKept" in bytes(results[1])
    assert bytes(results[2]) == b"1"


async def test_what_nobody_knows_changes_nothing(rig: Rig, store: Store) -> None:
    assert (await store.flow_apply(QUEUE, "x/n-1-0", [note(0)])).closed == ""
    assert await store.flow_mark(QUEUE, "x/n-1-0", [0], until_ms=0) == ""
    await open_flow(rig, store, opened("p"))
    assert (await store.flow_apply(QUEUE, FLOW, [note(7), note(9_999, "f", "failed")])).closed == ""
    assert (await store.gauges(QUEUE, [])).flows == 1


async def test_a_thousand_children_are_carried_over_a_redrive(rig: Rig, store: Store) -> None:
    flow = opened("d" * 4_999 + "p")
    for number in range(4_999):
        flow.fields.extend((b"r%d" % number, b"%d" % number))

    await open_flow(rig, store, flow)
    await store.flow_apply(QUEUE, FLOW, [note(4_999, result=b'"last"')])

    results = (await family(rig)).results or ()
    assert [bytes(raw) for raw in results] == [*(b"%d" % n for n in range(4_999)), b'"last"']


@pytest.mark.parametrize("taken", [KEYS.flows, KEYS.flows_todo, KEYS.flow_ends])
async def test_a_key_of_another_type_keeps_the_settlement_from_changing_anything(
    rig: Rig, store: Store, taken: str
) -> None:
    if rig.name == "memory":
        pytest.skip("the model has no types")
    await rig.add("normal", fields(id="p"))
    leases = (await store.fetch(QUEUE, {"normal": 1})).leases
    await rig.occupy(taken)

    with pytest.raises(StoreRefused):
        await store.settle(QUEUE, settlement(leases, opened=[opened()], ends=[b"end"]))

    assert len(await rig.stream(KEYS.lane("normal"))) == 1
    assert await rig.hash(KEYS.flow(FLOW)) == {}
