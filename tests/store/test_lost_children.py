"""Children whose entries somebody deleted are found, and none that lives, wherever it is."""

from __future__ import annotations

from typing import Any

import pytest

from engine.store import flows
from engine.store.base import Lease, Store
from engine.store.flow_base import ChildJob, Opened, SoughtChild
from engine.store.gates import behind, ticket_of
from engine.testing import flows_model
from engine.wire.packing import pack
from tests.support.gates import admit, leave, question
from tests.support.jobs import fields, packed, settlement
from tests.support.rigs import KEYS, QUEUE, MemoryRig, Rig

CHILD = SoughtChild(f"{QUEUE}/p/n-1-0/0", "p.0", "pack", b"its end")
BODY = fields(id="p.0")


async def send(rig: Rig, store: Store, body: list[bytes] = BODY) -> bytes:
    """Send the child as an engine does; returns its entry."""
    child = ChildJob(CHILD.marker, "normal", body)
    await store.flow_send(QUEUE, [child], until_ms=await rig.now_ms() + 10_000)
    ((entry, _),) = await rig.stream(KEYS.lane("normal"))
    return entry


async def take(store: Store) -> Lease:
    (lease,) = (await store.fetch(QUEUE, {"normal": 1})).leases
    return lease


async def messages(store: Store) -> list[bytes]:
    return [message for _, message in await store.flow_ends(QUEUE, after=b"", count=10)]


async def test_a_child_that_is_gone_is_told_of_once(rig: Rig, store: Store) -> None:
    await rig.delete("normal", await send(rig, store))

    found = [await store.flow_lost(QUEUE, [CHILD]) for _ in range(2)]

    assert found == [[CHILD.marker], []]
    ((entry, message),) = await store.flow_ends(QUEUE, after=b"", count=10)
    assert message == CHILD.message
    # Nothing is left once its parent knows.
    await store.flow_clean(QUEUE, [(entry, CHILD.marker, CHILD.id)])
    assert await rig.hash(KEYS.flow_sent) == {}


async def test_a_child_of_which_nothing_is_known_is_gone(rig: Rig, store: Store) -> None:
    """As after a queue was flushed behind the engines."""
    other = SoughtChild(f"{QUEUE}/p/n-1-0/1", "p.1", "pack", b"another")
    await rig.add("low", fields(id="p.1"))

    assert await store.flow_lost(QUEUE, [CHILD, other]) == [CHILD.marker]


async def test_a_child_that_waits_lives(rig: Rig, store: Store) -> None:
    await send(rig, store)

    assert await store.flow_lost(QUEUE, [CHILD]) == []


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_child_that_an_engine_has_lives(rig: Rig, store: Store, deleted: bool) -> None:
    entry = await send(rig, store)
    lease = await take(store)
    if deleted:
        await rig.delete("normal", entry)

    assert await store.flow_lost(QUEUE, [CHILD]) == []
    assert await store.settle(QUEUE, settlement([lease])) == []
    assert await store.flow_lost(QUEUE, [CHILD]) == [CHILD.marker]


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"retries": [(2**50, packed(body=BODY))]}, id="delayed"),
        pytest.param({"again": [BODY]}, id="in its lane anew"),
        pytest.param({"aside": [("pack", packed(body=BODY))]}, id="held"),
        pytest.param({"aside": [("other", packed(body=BODY))]}, id="held as other"),
        pytest.param(
            {"opened": [Opened("p.0/n-2-0", [b"job", pack([b"low", *BODY]), b"states", b"p"])]},
            id="behind children of its own",
        ),
    ],
)
async def test_a_child_that_moved_lives(rig: Rig, store: Store, parts: dict[str, Any]) -> None:
    await send(rig, store)
    if "opened" in parts:
        (flow,) = parts["opened"]
        parts = {"opened": [Opened(flow.flow, [*flow.fields, b"redrives", b"0"])]}
    await store.settle(QUEUE, settlement([await take(store)], **parts))

    assert await store.flow_lost(QUEUE, [CHILD]) == []
    assert await messages(store) == []


async def test_a_child_behind_a_limit_lives(rig: Rig, store: Store) -> None:
    await send(rig, store)
    lease = await take(store)
    await admit(store, "normal", question(lease))
    ticket = ticket_of(lease.entry)
    member = behind("normal", "sms", ticket, ["", "", "p.0", "sms"], BODY)
    parts: dict[str, Any] = {"behind": [member], "leaves": [leave(lease, "keep")], "room": 5}
    await store.settle(QUEUE, settlement([lease], **parts))

    assert len(await rig.parked("normal")) == 1
    assert await store.flow_lost(QUEUE, [CHILD]) == []


async def test_a_child_behind_a_key_lives_there_and_when_it_is_let_through(
    rig: Rig, store: Store, other: Store
) -> None:
    await rig.add("normal", fields(key="k"))
    first = await take(store)
    await admit(store, "normal", question(first, key="k"))
    child = ChildJob(CHILD.marker, "normal", fields(id="p.0", key="k"))
    await store.flow_send(QUEUE, [child], until_ms=await rig.now_ms() + 10_000)
    second = await take(store)
    await admit(store, "normal", question(second, key="k", own_id="p.0"))

    assert len(await rig.parked("normal")) == 1
    assert await store.flow_lost(QUEUE, [CHILD]) == []

    # Nobody has room, so it waits among those that were let through.
    await store.settle(QUEUE, settlement([first], leaves=[leave(first, key="k")]))

    assert await rig.parked("normal") == []
    assert await store.flow_lost(QUEUE, [CHILD]) == []


async def test_nobody_is_found_while_an_engine_has_something_that_was_deleted(
    rig: Rig, store: Store
) -> None:
    """Goal: it may be the child, under a later entry than the one in which it was sent."""
    await rig.delete("normal", await send(rig, store))
    stranger = await rig.add("normal", fields())
    lease = await take(store)
    await rig.delete("normal", stranger)

    assert await store.flow_lost(QUEUE, [CHILD]) == []
    await store.settle(QUEUE, settlement([lease]))
    assert await store.flow_lost(QUEUE, [CHILD]) == [CHILD.marker]


async def test_nobody_is_sought_among_too_many(
    rig: Rig, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (flows, flows_model):
        monkeypatch.setattr(module, "SOUGHT_AMONG_MAX", 1)
    await rig.delete("normal", await send(rig, store))
    await rig.delay(2**50, packed())
    extra = await rig.add("low", fields())

    assert await store.flow_lost(QUEUE, [CHILD]) == []
    await rig.delete("low", extra)
    assert await store.flow_lost(QUEUE, [CHILD]) == [CHILD.marker]


async def test_nobody_is_sought_among_large_jobs(
    rig: Rig, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(rig, MemoryRig):
        pytest.skip("the model keeps no count of bytes")
    monkeypatch.setattr(flows, "SOUGHT_BYTES_MAX", 100_000)
    await rig.delete("normal", await send(rig, store))
    large = await rig.add("low", fields(data=b"x" * 200_000))

    assert await store.flow_lost(QUEUE, [CHILD]) == []
    await rig.delete("low", large)
    assert await store.flow_lost(QUEUE, [CHILD]) == [CHILD.marker]


async def test_one_engine_at_a_time_goes_through_a_queues_flows(rig: Rig, store: Store) -> None:
    assert [await store.flow_sweep(QUEUE, ms=5_000) for _ in range(2)] == [True, False]


async def test_flows_are_gone_through_by_name(rig: Rig, store: Store) -> None:
    opened = [
        Opened(f"p/n-{n}-0", [b"job", packed("low"), b"states", b"s", b"redrives", b"0"])
        for n in (3, 1, 2)
    ]
    await rig.add("normal", fields())
    await store.settle(QUEUE, settlement([await take(store)], opened=opened))

    first = await store.flows_after(QUEUE, "", count=2)
    rest = await store.flows_after(QUEUE, first[-1].flow, count=2)

    assert [task.flow for task in (*first, *rest)] == ["p/n-1-0", "p/n-2-0", "p/n-3-0"]
    assert {task.states for task in (*first, *rest)} == {"s"}
