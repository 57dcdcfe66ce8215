"""Jobs that the server has are worked off while it has no memory for new ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from engine.core.limits import make_rule
from engine.store.base import Store
from tests.store.test_flows import FLOW, LEASE_MS, family, note, open_flow, opened
from tests.support.gates import Hand, ids, question
from tests.support.jobs import fields
from tests.support.rigs import QUEUE, Rig, ServerRig


@asynccontextmanager
async def full(rig: Rig) -> AsyncIterator[None]:
    if not isinstance(rig, ServerRig):
        pytest.skip("the model refuses nothing")
    await rig.call("CONFIG", "SET", "maxmemory", "1")
    try:
        yield
    finally:
        await rig.call("CONFIG", "SET", "maxmemory", "0")


async def test_gates_go_on(rig: Rig, store: Store) -> None:
    hand = Hand(rig, store)
    await rig.set_control("limit:sms", make_rule("sms", rate=1, burst=2).text())
    for name in ("j1", "j2", "j3"):
        await rig.add("normal", fields(id=name, key="k"))
    leases = await hand.take()

    async with full(rig):
        assert await hand.ask(*leases) == ["run", "parked", "parked"]
        await hand.end(leases[0])
        (second,) = await hand.let_through()
        assert await store.limit(QUEUE, "normal:ready", question(second), "sms") == "open"
        await hand.end(second)
        assert (await store.release(QUEUE, count=10)).moved == 0

        assert ids(await hand.let_through()) == ["j3"]


async def test_flows_end(rig: Rig, store: Store) -> None:
    await open_flow(rig, store, opened())

    async with full(rig):
        (task,) = await store.flow_tasks(QUEUE, count=1, lease_ms=LEASE_MS)
        marked = await store.flow_mark(QUEUE, FLOW, [0, 1, 2], until_ms=task.until_ms)
        assert marked == ""
        told = await store.flow_apply(QUEUE, FLOW, [note(0), note(1), note(2)])

        assert told.closed == "complete"
    assert (await family(rig)).states == "ddd"
