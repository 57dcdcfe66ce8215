"""Keys that dead jobs keep, and what becomes of them when the queue lets go of such keys."""

from __future__ import annotations

from engine.store.base import Lease, Store
from tests.support.gates import admit, job_id, leave, question
from tests.support.jobs import fields, settlement
from tests.support.rigs import QUEUE, Rig


async def take(rig: Rig, store: Store, *ids: str) -> list[Lease]:
    """Add jobs of one key, and lease them."""
    for name in ids:
        await rig.add("normal", fields(id=name, key="K"))
    return (await store.fetch(QUEUE, {"normal": 10})).leases


async def run(store: Store, stream: str, leases: list[Lease]) -> list[str]:
    """Ask for jobs; returns those that may run. The others are parked now."""
    answers = await admit(store, stream, *map(question, leases))
    told = zip(leases, answers, strict=True)
    return [job_id(each) for each, answer in told if answer.word == "run"]


async def test_none_overtakes_those_behind_a_dead_job_once_its_key_is_free(
    rig: Rig, store: Store
) -> None:
    await rig.set_control("on_dead", "block")
    dead, waits = await take(rig, store, "dead", "waits")
    assert await run(store, "normal", [dead, waits]) == ["dead"]
    await store.settle(QUEUE, settlement([dead], leaves=[leave(dead, "dead")]))
    await rig.set_control("on_dead", None)

    (late,) = await take(rig, store, "late")
    assert await run(store, "normal", [late]) == []

    await store.control(QUEUE)
    (first,) = (await store.fetch(QUEUE, {"normal:ready": 10})).leases
    assert await run(store, "normal:ready", [first]) == ["waits"]
    ended = settlement([first], lane="normal:ready", leaves=[leave(first)], room=1)
    await store.settle(QUEUE, ended)
    assert [job_id(each) for each in ended.handed] == ["late"]


async def test_a_new_job_takes_a_key_that_nobody_else_waits_for(rig: Rig, store: Store) -> None:
    await rig.set_control("on_dead", "block")
    (dead,) = await take(rig, store, "dead")
    assert await run(store, "normal", [dead]) == ["dead"]
    await store.settle(QUEUE, settlement([dead], leaves=[leave(dead, "dead")]))
    await rig.set_control("on_dead", None)

    (late,) = await take(rig, store, "late")
    assert await run(store, "normal", [late]) == ["late"]
