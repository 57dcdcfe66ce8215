"""Counts, engines and controls against a real server."""

from __future__ import annotations

import msgspec
import pytest

from engine.admin import Admin, new_schedule
from engine.errors import EngineError, StoreUnavailable
from engine.store.redis import RedisStore
from schemas.job import Meta
from schemas.stats import QueueLoad
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter, job_fields

META = Meta(id="j", enqueued_ms=1)


async def test_a_queue_is_counted_by_state_and_lane(admin: Admin, queue: QueueWriter) -> None:
    now_ms = queue.now_ms()
    for lane in ("critical", "normal", "normal", "normal", "low"):
        queue.enqueue(lane=lane)
    queue.deliver(2)
    handed_back = queue.enqueue(lane="high")
    queue.deliver(lane="high")
    queue.hand_back(handed_back, lane="high")
    queue.delay(now_ms - 5_000, META)
    queue.delay(now_ms + 60_000, Meta(id="k", enqueued_ms=1))
    queue.hold(TYPE)
    queue.set_aside(TYPE, META)
    queue.bury("d1")
    queue.finish(["a", "b"])
    queue.beat()
    queue.beat("silent", silent_ms=11_000)

    stats = await admin.queue(QUEUE)

    assert (stats.waiting, stats.active) == (4, 2)
    assert {lane: each.waiting for lane, each in stats.lanes.items()} == {
        "critical": 1,
        "high": 1,
        "normal": 1,
        "low": 1,
    }
    assert (stats.delayed, stats.overdue, stats.dead, stats.done_kept) == (2, 1, 1, 2)
    assert [(held.type, held.jobs, held.reason) for held in stats.held] == [(TYPE, 1, "no key")]
    assert stats.totals["done"] == {TYPE: 2}
    assert stats.engines == ["e1"]


@pytest.mark.parametrize(
    "beat",
    [b"no json", b'{"name":"x"}', b'{"name":"\xff"}', b"[" * 10_000, b""],
    ids=["text", "lacking", "bytes", "deep", "empty"],
)
async def test_a_beat_that_no_engine_wrote_hides_nothing(
    admin: Admin, queue: QueueWriter, beat: bytes
) -> None:
    queue.beat()
    queue.call("HSET", "mq:engines", "stranger", beat)

    assert [engine.beat.name for engine in await admin.engines()] == ["e1"]
    assert [stats.queue for stats in await admin.queues()] == [QUEUE]


async def test_a_beat_that_names_no_queue_hides_nothing(admin: Admin, queue: QueueWriter) -> None:
    queue.beat()
    load = QueueLoad(running=0, buffered=0, concurrency=1, types=[])
    queue.beat("stranger", queues={"no {queue}": load})

    assert [stats.queue for stats in await admin.queues()] == [QUEUE]


async def test_counting_costs_as_much_at_any_length(
    admin: Admin, queue: QueueWriter, redis_url: str
) -> None:
    """Goal: page, gauges and bounds ask and are told as much, however many jobs there are."""
    store = RedisStore.from_url(redis_url, consumer="e1")

    def asked() -> tuple[int, int]:
        told = dict(
            line.split(b":") for line in queue.call("INFO", "stats").split() if b":" in line
        )
        return int(told[b"total_commands_processed"]), int(told[b"total_net_output_bytes"])

    async def look() -> None:
        await admin.queue(QUEUE)
        await store.gauges(QUEUE, [TYPE])
        await store.pressure(QUEUE, [TYPE])

    async def cost() -> tuple[int, int]:
        # Connections and scripts are there after the first time.
        await look()
        before = asked()
        await look()
        commands, size = asked()
        return commands - before[0], size - before[1]

    costs = []
    try:
        for length in (10, 3_000):
            for number in range(length):
                queue.enqueue()
                queue.delay(1 + number, Meta(id=f"j{length}-{number}", enqueued_ms=1))
            queue.bury_many(length, job_fields())
            queue.deliver(length // 2)
            costs.append(await cost())
    finally:
        await store.close()

    (few_commands, few_bytes), (many_commands, many_bytes) = costs
    assert many_commands == few_commands
    # Numbers with more digits, nothing else.
    assert many_bytes - few_bytes < 200


async def test_the_oldest_waiting_job_counts_not_the_running_one(
    admin: Admin, queue: QueueWriter
) -> None:
    now_ms = queue.now_ms()
    queue.enqueue(entry=f"{now_ms - 90_000}-0")
    queue.deliver()
    queue.enqueue(entry=f"{now_ms - 30_000}-0")

    stats = await admin.queue(QUEUE)

    assert 30_000 <= stats.oldest_ms < 60_000


async def test_a_queue_that_does_not_exist_is_empty(admin: Admin, redis_url: str) -> None:
    stats = await admin.queue("nobody")

    assert (stats.waiting, stats.active, stats.dead, stats.oldest_ms) == (0, 0, 0, 0)


async def test_a_lane_without_its_group_is_all_waiting(admin: Admin, redis_url: str) -> None:
    writer = QueueWriter(redis_url)
    writer.enqueue()
    writer.close()

    assert (await admin.queue(QUEUE)).waiting == 1


async def test_queues_of_the_app_and_of_engines_are_known(admin: Admin, queue: QueueWriter) -> None:
    other = msgspec.json.decode(b'{"running":0,"buffered":0,"concurrency":1,"types":["x"]}')
    queue.beat("e2", queues={"elsewhere": other})

    assert [stats.queue for stats in await admin.queues()] == ["elsewhere", QUEUE]


async def test_jobs_of_the_last_minutes_are_summed(admin: Admin, queue: QueueWriter) -> None:
    now_ms = queue.now_ms()
    queue.call("HSET", queue.keys.stats, f"done:{TYPE}", 100, f"dead:{TYPE}", 1)
    for back, count in ((0, 3), (2, 4), (30, 90)):
        at_ms = now_ms - back * 60_000
        key = queue.keys.minutes(at_ms)
        queue.call("HSET", key, f"{at_ms // 60_000}:done:{TYPE}", count)

    stats = await admin.queue(QUEUE)

    assert stats.recent["done"] == 7
    assert stats.recent["dead"] == 0


async def test_pause_and_resume_are_recorded(admin: Admin, queue: QueueWriter) -> None:
    assert (await admin.pause(QUEUE, reason="provider")).changed
    assert not (await admin.pause(QUEUE, reason="again")).changed
    stats = await admin.queue(QUEUE)
    assert stats.paused
    assert stats.paused_by is not None
    assert (stats.paused_by.who, stats.paused_by.reason) == ("ada@here", "provider")
    assert queue.call("HGET", queue.keys.control, "paused") == b"1"

    assert (await admin.resume(QUEUE)).changed
    assert not (await admin.resume(QUEUE)).changed
    assert queue.call("EXISTS", queue.keys.control) == 0

    audited = await admin.audit()
    assert [(each.what, each.queue, each.who) for each in audited] == [
        ("resume", QUEUE, "ada@here"),
        ("pause", QUEUE, "ada@here"),
    ]
    assert audited[1].reason == "provider"


async def test_concurrency_is_set_and_taken_back(admin: Admin, queue: QueueWriter) -> None:
    assert (await admin.concurrency(QUEUE, 7)).after == "7"
    assert (await admin.queue(QUEUE)).concurrency == 7
    change = await admin.concurrency(QUEUE, None)
    assert (change.before, change.changed) == ("7", True)
    assert (await admin.queue(QUEUE)).concurrency is None
    with pytest.raises(EngineError, match="1 to 10000"):
        await admin.concurrency(QUEUE, 0)


async def test_a_hold_keeps_its_first_reason_until_released(
    admin: Admin, queue: QueueWriter
) -> None:
    assert (await admin.hold(QUEUE, TYPE, reason="first")).changed
    assert not (await admin.hold(QUEUE, TYPE, reason="second")).changed
    queue.set_aside(TYPE, META)
    (held,) = (await admin.queue(QUEUE)).held
    assert (held.reason, held.by, held.held) == ("first", "ada@here", True)

    assert (await admin.release(QUEUE, TYPE)).changed
    (held,) = (await admin.queue(QUEUE)).held
    assert (held.jobs, held.held) == (1, False)


async def test_names_that_break_the_rules_are_refused(admin: Admin) -> None:
    with pytest.raises(EngineError, match="must match"):
        await admin.pause("a b")
    with pytest.raises(EngineError, match="must match"):
        await admin.hold(QUEUE, "No Type", reason="")


async def test_a_server_that_is_gone_is_said_so(unused_port: int) -> None:
    async with Admin(f"redis://127.0.0.1:{unused_port}", who="ada") as admin:
        with pytest.raises(StoreUnavailable):
            await admin.queues()
        report = await admin.health([QUEUE], backlog_age_ms_max=1000)
    assert not report.reachable
    assert not report.healthy
    assert report.findings[0].check == "reachable"


async def test_health_names_what_is_wrong_errors_first(admin: Admin, queue: QueueWriter) -> None:
    queue.enqueue(entry="1-0")
    queue.hold(TYPE)
    queue.beat("e1", silent_ms=20_000)

    report = await admin.health([QUEUE], backlog_age_ms_max=60_000)

    assert not report.healthy
    checks = [(finding.check, finding.severity) for finding in report.findings]
    assert checks == [
        ("served", "error"),
        ("backlog", "error"),
        ("held", "error"),
        ("persistence", "warning"),
        ("engine", "warning"),
    ]


async def test_warnings_leave_it_healthy(admin: Admin, queue: QueueWriter) -> None:
    queue.beat()
    queue.enqueue(entry="1-0")
    await admin.pause(QUEUE)

    report = await admin.health([QUEUE], backlog_age_ms_max=60_000)

    assert report.healthy
    assert {finding.check for finding in report.findings} == {"persistence", "paused"}


@pytest.mark.parametrize("part", ["normal", "delayed", "dead", "control", "stats", "held:mail"])
async def test_a_key_that_somebody_took_does_not_hide_the_queues(
    admin: Admin, queue: QueueWriter, part: str
) -> None:
    queue.enqueue(lane="high")
    queue.beat(types=["mail"])
    key = f"mq:{{{QUEUE}}}:{part}"
    queue.call("DEL", key)
    queue.call("SET", key, "not ours")

    stats = await admin.queue(QUEUE)

    assert stats.waiting == 1
    assert stats.broken == [key]


async def test_schedules_that_do_not_fire_are_found_among_those_that_do(
    admin: Admin, queue: QueueWriter
) -> None:
    queue.beat()
    for name, told in {
        "well": {"type": TYPE, "every_ms": 60_000},
        "paused": {"type": TYPE, "every_ms": 60_000},
        "late": {"type": TYPE, "every_ms": 60_000},
        "typeless": {"type": "nobody", "every_ms": 60_000},
    }.items():
        await admin.schedule_add(QUEUE, name, new_schedule(name, payload={}, **told))
    await admin.schedule_pause(QUEUE, "paused")
    written = queue.call("HGET", queue.keys.schedules, "late")
    due_ms = queue.now_ms() - 300_000
    late = msgspec.json.encode({**msgspec.json.decode(written), "next_ms": due_ms})
    queue.call("HSET", queue.keys.schedules, "late", late, "broken", b"{")

    stats = await admin.queues([QUEUE])
    found = await admin.schedule_problems(stats, await admin.engines(), await admin.now_ms())

    assert {each.name: each.state for each in found} == {
        "broken": "broken",
        "late": "on",
        "typeless": "on",
    }
    assert next(each for each in found if each.name == "late").problem.startswith(
        "it is late by 5 m"
    )
