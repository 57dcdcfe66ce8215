"""The operator's scripts declare what they touch, and work on a cluster node."""

from __future__ import annotations

import pytest

from engine.admin import Admin
from engine.store.operator.operations import Step
from engine.store.scripts import script
from engine.wire.packing import pack, unpack
from schemas.job import Meta
from schemas.stats import DeadFilter
from tests.support.monitor import recorded
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter, job_fields

SCRIPTS = (
    *("redrive", "discard", "unblock", "control", "audit", "cancel", "move"),
    *("operation_set", "operation_lost", "lease", "put_off", "take_back", "drop", "audit_once"),
)


async def exercise(admin: Admin, queue: QueueWriter) -> None:
    """Call every verb that runs a script, through every branch that touches a key."""
    entry = queue.enqueue()
    await admin.reschedule(f"n-{entry}", queue=QUEUE, in_ms=60_000)
    await admin.run_now(f"n-{entry}", queue=QUEUE)
    await admin.change_priority(f"n-{entry}", "high", queue=QUEUE)
    await admin.cancel(f"n-{entry}", queue=QUEUE)
    queue.set_aside(TYPE, Meta(id="held", enqueued_ms=1))
    queue.hold(TYPE)
    await admin.change_priority("held", "high", queue=QUEUE)
    await admin.cancel("held", queue=QUEUE)
    for number in range(4):
        queue.bury(f"j{number}", lane=("critical", "high", "normal", "low")[number])
    queue.call("SET", queue.keys.lane("low"), "not a stream")
    await admin.retry_dead(QUEUE, DeadFilter())
    await admin.discard_dead(QUEUE, DeadFilter())
    await block(admin, queue)
    await operate(admin, queue)
    await admin.pause(QUEUE)
    await admin.resume(QUEUE)
    await admin.concurrency(QUEUE, 3)
    await admin.hold(QUEUE, TYPE, reason="x")
    await admin.release(QUEUE, TYPE)


async def operate(admin: Admin, queue: QueueWriter) -> None:
    """Drive a retry and a discard, undone from the delayed set and from a lane."""
    queue.call("DEL", queue.keys.dead, queue.keys.dead_groups, queue.keys.lane("low"))
    store = admin._store
    for action in ("retry", "discard"):
        for number in range(4):
            queue.bury(f"j{number}", job_fields(expires="1000"), ticket=f"{9:015}-{number:010}")
        plan = await admin.plan_operation(QUEUE, action, DeadFilter(), rate=100)
        operation = await admin.start_operation(plan.id)
        name = operation.record.id
        seen = await store.operations.look(QUEUE, name)
        assert seen is not None
        await store.operations.lease(QUEUE, "me", ms=10_000)
        jobs = [job async for part in store.dead.matching(QUEUE, DeadFilter()) for job in part.jobs]
        if action == "discard":
            await store.operations.drop(seen, "me", Step(jobs=jobs, cursor="1-1", complete=True))
            continue
        step = Step(jobs=jobs, dues=[2**50] * 4, cursor="1-1", unable={"x": 1})
        assert await store.operations.put_off(seen, "me", step) == (True, 4)
        assert await store.operations.lost(seen) == 0
        told = {"who": "me", "what": "x", "queue": QUEUE, "detail": {"n": 1}, "reason": ""}
        assert [await store.control.record_once(1, **told) for _ in range(2)] == [True, False]
        member = queue.call("ZPOPMIN", queue.keys.delayed)[0]
        queue.call("XADD", queue.keys.lane("low"), "*", *unpack(member)[1:])
        queue.call("XGROUP", "CREATE", queue.keys.lane("low"), "engine", "0")
        await store.operations.take_back(seen, "me", lease_ms=60_000)
        assert len(queue.dead()) == 4
        queue.call("DEL", queue.keys.dead)


async def block(admin: Admin, queue: QueueWriter) -> None:
    """Let a dead job keep its key, with another behind it, and let that go both ways."""
    await admin.order(QUEUE, "block")
    for number, lane in enumerate(("high", "low"), 1):
        ticket = f"{number:015}-{0:010}"
        behind = f"kK\0{number + 5:015}-{0:010}\0".encode() + pack([b"K\0\0\0", b"a", b"b"])
        queue.call("HSET", queue.keys.busy(lane), "K", f"!{ticket}")
        queue.call("ZADD", queue.keys.parked(lane), 0, behind)
        queue.bury("k", job_fields(key="K"), lane=lane, ticket=ticket)
        if lane == "high":
            await admin.discard_dead(QUEUE, DeadFilter())
    await admin.order(QUEUE, "continue")
    await admin.retry_dead(QUEUE, DeadFilter())
    assert queue.call("XLEN", queue.keys.lane("high:ready")) == 1


async def test_scripts_touch_only_keys_that_they_declare(admin: Admin, redis_url: str) -> None:
    queue = QueueWriter(redis_url)
    with recorded(redis_url) as recording:
        await exercise(admin, queue)
    queue.close()

    assert recording.undeclared == set()
    assert {script(name).sha.decode() for name in SCRIPTS} <= recording.ran


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_what_it_takes(name: str) -> None:
    text = script(name).text.decode()
    # Rules that it needs stand before it.
    text = text[text.index(f"-- {name}: ") :]

    assert "-- KEYS[" in text
    assert "\n-- Returns " in text
