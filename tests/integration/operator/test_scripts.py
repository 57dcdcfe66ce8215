"""The operator's scripts declare what they touch, and work on a cluster node."""

from __future__ import annotations

import pytest

from engine.admin import Admin
from engine.store.scripts import script
from schemas.job import Meta
from schemas.stats import DeadFilter
from tests.support.monitor import recorded
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter

SCRIPTS = ("redrive", "discard", "control", "audit", "cancel", "move")


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
    await admin.pause(QUEUE)
    await admin.resume(QUEUE)
    await admin.concurrency(QUEUE, 3)
    await admin.hold(QUEUE, TYPE, reason="x")
    await admin.release(QUEUE, TYPE)


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

    assert text.startswith(f"-- {name}: ")
    assert "-- KEYS[1]" in text
    assert "\n-- Returns " in text
