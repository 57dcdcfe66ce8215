"""Dead letters against a real server: exact, at most once, bounded."""

from __future__ import annotations

import asyncio
import tracemalloc

import msgspec
import pytest

from engine.admin import Admin
from engine.errors import NotFound
from engine.store.operator import OperatorStore
from engine.wire.codec import META
from schemas.job import AttemptRecord, ErrorRecord, Meta
from schemas.stats import BulkResult, DeadFilter
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter, job_fields
from tests.support.servers import StartRedis

HOSTILE = [
    b"type", TYPE.encode(),
    b"data", bytes(range(256)) + b"\r\n$-1\r\n*0\r\n" + "\N{PILE OF POO}".encode(),
    b"", b"",
    b"_dead", b"not the engine's",
    b"x\x00y", b"\xff" * 300,
    b"twice", b"1",
    b"twice", b"2",
    b"_engine", b"forged",
]  # fmt: skip
EVERY = DeadFilter()


def meta_of(fields: list[bytes]) -> Meta:
    assert fields[-2] == META
    return msgspec.json.decode(fields[-1], type=Meta)


async def test_a_job_comes_back_with_its_own_fields_byte_for_byte(
    admin: Admin, queue: QueueWriter
) -> None:
    history = (AttemptRecord(number=5, at_ms=1, run_ms=2, engine="e1", outcome="failed"),)
    queue.bury("j1", HOSTILE, lane="high", redrives=2, history=history)
    before_ms = queue.now_ms()

    result = await admin.retry_dead(QUEUE, EVERY)

    assert (result.matched, result.changed, result.complete) == (1, 1, True)
    ((_, fields),) = queue.lane("high")
    assert fields[:-2] == HOSTILE[:-2]
    meta = meta_of(fields)
    assert (meta.id, meta.attempts, meta.redrives, meta.lost) == ("j1", 0, 3, 0)
    assert meta.enqueued_ms >= before_ms
    assert meta.history == history
    assert queue.dead() == []
    assert queue.groups() == {}


async def test_a_past_expiry_is_dropped_and_a_future_one_kept(
    admin: Admin, queue: QueueWriter
) -> None:
    later = str(queue.now_ms() + 60_000)
    queue.bury("past", job_fields(expires="1000", ttl="5"))
    queue.bury("future", job_fields(expires=later))

    await admin.retry_dead(QUEUE, EVERY)

    (_, past), (_, future) = queue.lane()
    assert b"expires" not in past
    assert past[4:6] == [b"ttl", b"5"]
    assert future[4:6] == [b"expires", later.encode()]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"cut": 5_000_000, "sha256": "00"}, "too large"),
        ({"reason": "trimmed"}, "trimmed"),
    ],
)
async def test_a_death_without_its_body_stays_and_is_said_so(
    admin: Admin, queue: QueueWriter, changed: dict[str, object], why: str
) -> None:
    queue.bury("j1", [], **changed)

    result = await admin.retry_dead(QUEUE, EVERY)

    assert (result.matched, result.changed, sum(result.unable.values())) == (1, 0, 1)
    assert why in next(iter(result.unable))
    assert len(queue.dead()) == 1
    assert (await admin.discard_dead(QUEUE, EVERY)).changed == 1


FILTERS = [
    (DeadFilter(), {"a", "b", "c", "d"}),
    (DeadFilter(ids=("a", "c", "nope")), {"a", "c"}),
    (DeadFilter(type="other-type"), {"b"}),
    (DeadFilter(reason="malformed"), {"c"}),
    (DeadFilter(fingerprint="f" * 12), {"d"}),
    (DeadFilter(text="NEEDLE"), {"a"}),
    (DeadFilter(text="no such USER"), {"a", "b", "d"}),
    (DeadFilter(type=TYPE, reason="exhausted"), {"a", "d"}),
    (DeadFilter(after_ms=2_000_000_000_000), {"d"}),
    (DeadFilter(before_ms=2_000_000_000_000), {"a", "b", "c"}),
]


@pytest.mark.parametrize(("wanted", "expected"), FILTERS)
@pytest.mark.parametrize("action", ["retry", "discard"])
async def test_a_dry_run_says_what_the_run_then_does(
    admin: Admin, queue: QueueWriter, wanted: DeadFilter, expected: set[str], action: str
) -> None:
    queue.bury("a", job_fields(b'{"x":"needle"}'))
    queue.bury("b", type="other-type")
    queue.bury("c", reason="malformed", error=ErrorRecord(kind="Malformed"), rule="data-json")
    far_ms = 2_000_000_000_001
    queue.bury("d", fingerprint="f" * 12, died_ms=far_ms, entry=f"{far_ms}-0")
    verb = admin.retry_dead if action == "retry" else admin.discard_dead

    listed = await admin.dead_list(QUEUE, wanted)
    planned = await verb(QUEUE, wanted, dry_run=True)
    assert len(queue.dead()) == 4
    done = await verb(QUEUE, wanted)

    assert {job.id for job in listed.jobs} == expected
    assert planned.changed == done.changed == len(expected)
    assert msgspec.structs.replace(planned, dry_run=False) == done
    left = {(await admin.dead_show(QUEUE, entry)).job.id for entry, _ in queue.dead()}
    assert left == {"a", "b", "c", "d"} - expected
    assert len(queue.lane()) == (len(expected) if action == "retry" else 0)


async def test_ids_may_be_entry_ids(admin: Admin, queue: QueueWriter) -> None:
    queue.bury("1-1")
    entry = queue.bury("b")

    assert (await admin.retry_dead(QUEUE, DeadFilter(ids=(entry,)))).changed == 1
    assert (await admin.retry_dead(QUEUE, DeadFilter(ids=("1-1",)))).changed == 1
    with pytest.raises(NotFound, match="no dead letter"):
        await admin.dead_show(QUEUE, entry)


async def test_groups_shrink_with_what_leaves(admin: Admin, queue: QueueWriter) -> None:
    entries = [queue.bury(f"j{number}") for number in range(3)]
    queue.bury("k", fingerprint="f" * 12, reason="timeout", error=ErrorRecord(kind="Timeout"))

    analysis = await admin.dead_analysis(QUEUE)
    assert [(group.fingerprint, group.jobs) for group in analysis.groups] == [
        ("a" * 12, 3),
        ("f" * 12, 1),
    ]
    assert analysis.groups[0].sample == "j0"
    assert (analysis.by_reason, analysis.uncounted) == ({"exhausted": 3, "timeout": 1}, 0)

    await admin.retry_dead(QUEUE, DeadFilter(ids=tuple(entries[:2])))
    await admin.discard_dead(QUEUE, DeadFilter(reason="timeout"))
    (group,) = await admin.dead_groups(QUEUE)
    assert (group.fingerprint, group.jobs) == ("a" * 12, 1)


async def test_what_is_read_one_by_one_is_what_settlements_counted(
    admin: Admin, queue: QueueWriter
) -> None:
    queue.bury_many(1_200, job_fields())
    queue.bury("k", fingerprint="f" * 12, reason="timeout", error=ErrorRecord(kind="Timeout"))
    queue.call("XADD", queue.keys.dead, "*", "not", "ours")
    told: list[tuple[int, int]] = []

    counted = await admin.dead_analysis(QUEUE)
    read = await admin.dead_analysis(QUEUE, EVERY, progress=lambda *at: told.append(at))
    part = await admin.dead_analysis(QUEUE, DeadFilter(reason="timeout"))

    sums = [(group.fingerprint, group.jobs) for group in read.groups]
    assert sums == [(group.fingerprint, group.jobs) for group in counted.groups]
    assert [group.sample for group in read.groups] == ["j0", "k"]
    assert (read.by_reason, read.by_type) == ({"exhausted": 1_200, "timeout": 1}, {TYPE: 1_201})
    assert (read.dead, read.matched, read.uncounted) == (1_202, 1_202, 1)
    assert told[-1] == (1_202, 1_202)
    assert (part.dead, part.matched, part.searched) == (1_202, 1, 1_202)
    assert [group.reason for group in part.groups] == ["timeout"]


async def test_deaths_beyond_the_bound_of_groups_lower_the_common_one(
    admin: Admin, queue: QueueWriter
) -> None:
    queue.bury("j1")
    queue.call("DEL", queue.keys.dead_groups)
    queue.call("HSET", queue.keys.dead_groups, "other:n", 5)

    await admin.retry_dead(QUEUE, EVERY)

    assert queue.groups() == {"other:n": "4"}


async def test_what_no_engine_wrote_lowers_no_group(admin: Admin, queue: QueueWriter) -> None:
    """Nobody counted it when it came."""
    queue.bury("j1", fingerprint="other")
    entry = queue.call("XADD", queue.keys.dead, "*", "whatever", "1").decode()
    groups = queue.groups()

    await admin.discard_dead(QUEUE, DeadFilter(ids=(entry,)))

    assert len(queue.dead()) == 1
    assert queue.groups() == groups


async def test_two_operators_bring_each_job_back_once(
    admin: Admin, queue: QueueWriter, redis_url: str
) -> None:
    queue.bury_many(500, job_fields())
    async with Admin(redis_url, who="bob") as other:
        results = await asyncio.gather(
            *(each.retry_dead(QUEUE, EVERY) for each in (admin, other, admin, other))
        )

    assert sum(result.changed for result in results) == 500
    ids = [meta_of(fields).id for _, fields in queue.lane("low")]
    assert len(ids) == len(set(ids)) == 500
    assert queue.groups() == {}


async def test_what_dies_meanwhile_is_left_out(admin: Admin, queue: QueueWriter) -> None:
    """Goal: a retry ends although what it brings back dies again at once."""
    queue.bury_many(150, job_fields())

    def die_again(result: BulkResult) -> None:
        if result.changed:
            queue.bury("again")

    result = await admin.retry_dead(QUEUE, EVERY, progress=die_again)

    assert result.changed == 150
    assert queue.dead()


async def test_a_limit_takes_the_oldest_and_says_so(admin: Admin, queue: QueueWriter) -> None:
    queue.bury_many(10, job_fields())

    result = await admin.retry_dead(QUEUE, EVERY, limit=4)

    assert (result.changed, result.complete) == (4, False)
    assert [meta_of(fields).id for _, fields in queue.lane("low")] == ["j0", "j1", "j2", "j3"]
    assert (await admin.retry_dead(QUEUE, EVERY, limit=6)).complete


class PacedClock:
    """A clock whose sleeps pass at once."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def now_ms(self) -> int:
        return round(self.now_s * 1000)

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def draw(self) -> float:
        return 0.5


async def test_a_rate_spreads_a_retry(queue: QueueWriter, redis_url: str) -> None:
    queue.bury_many(100, job_fields())
    clock = PacedClock()
    at: list[tuple[float, int]] = []

    async with Admin(redis_url, who="ada", clock=clock) as admin:
        await admin.retry_dead(
            QUEUE,
            EVERY,
            rate=20,
            progress=lambda result: at.append((clock.now_s - 100, result.changed)),
        )

    assert clock.now_s - 100 == pytest.approx(4.9)
    assert all(changed <= 20 * passed + 2.01 for passed, changed in at)


async def test_a_lane_that_refuses_loses_nothing(admin: Admin, queue: QueueWriter) -> None:
    queue.call("DEL", queue.keys.lane("normal"))
    queue.call("SET", queue.keys.lane("normal"), "not a stream")
    queue.bury("j1", HOSTILE)
    before = queue.dead()[0][1]

    result = await admin.retry_dead(QUEUE, EVERY)

    assert (result.changed, result.unable) == (0, {"its lane refused it": 1})
    ((_, fields),) = queue.dead()
    assert fields == before
    assert queue.groups()["aaaaaaaaaaaa:n"] == "1"


async def test_a_full_server_still_lets_operators_act(start_redis: StartRedis) -> None:
    server = start_redis(config={"maxmemory-policy": "noeviction"})
    queue = QueueWriter(server.url)
    queue.open()
    queue.bury("j1", job_fields(b"x" * 1000))
    queue.bury("j2")
    queue.call("CONFIG", "SET", "maxmemory", "1mb")
    async with Admin(server.url, who="ada") as admin:
        report = await admin.health([], backlog_age_ms_max=1000)
        assert "memory" in {finding.check for finding in report.findings}
        assert (await admin.retry_dead(QUEUE, DeadFilter(ids=("j1",)))).changed == 1
        assert (await admin.discard_dead(QUEUE, EVERY)).changed == 1
        assert (await admin.pause(QUEUE)).changed
        assert {each.what for each in await admin.audit()} == {
            "dead-retry",
            "dead-discard",
            "pause",
        }
    queue.close()


async def test_a_full_server_still_lets_an_engine_drive_operations(start_redis: StartRedis) -> None:
    server = start_redis(config={"maxmemory-policy": "noeviction", "maxmemory": "1mb"})
    store = OperatorStore(server.url)

    assert await store.operations.lease(QUEUE, "one", ms=60_000)
    assert await store.operations.lease(QUEUE, "one", ms=60_000)
    assert not await store.operations.lease(QUEUE, "two", ms=60_000)
    store.close()


async def test_every_change_of_dead_letters_is_audited(admin: Admin, queue: QueueWriter) -> None:
    queue.bury("j1")

    await admin.retry_dead(QUEUE, DeadFilter(ids=("j1",)), dry_run=True)
    await admin.retry_dead(QUEUE, DeadFilter(ids=("j1",)), reason="mended")
    await admin.retry_dead(QUEUE, DeadFilter(ids=("j1",)))

    (audited,) = await admin.audit()
    assert (audited.what, audited.reason, audited.detail["jobs"]) == ("dead-retry", "mended", 1)


async def test_twenty_thousand_dead_letters_stream_through(
    admin: Admin, queue: QueueWriter
) -> None:
    """Goal: a large dead stream is gone through without holding it in memory."""
    queue.bury_many(20_000, job_fields(b'{"x":"' + b"y" * 1000 + b'"}'))
    tracemalloc.start()
    try:
        planned = await admin.retry_dead(QUEUE, EVERY, dry_run=True)
        listed = await admin.dead_list(QUEUE, DeadFilter(text="nowhere"))
        analysis = await admin.dead_analysis(QUEUE, EVERY)
        done = await admin.retry_dead(QUEUE, EVERY)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert planned.changed == done.changed == analysis.searched == 20_000
    assert (listed.jobs, listed.searched) == ([], 20_000)
    assert queue.call("XLEN", queue.keys.lane("low")) == 20_000
    assert peak < 12_000_000


async def test_large_entries_are_read_a_few_at_a_time(admin: Admin, queue: QueueWriter) -> None:
    queue.bury_many(100, job_fields(b"x" * 1_000_000))
    tracemalloc.start()
    try:
        result = await admin.retry_dead(QUEUE, EVERY)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert result.changed == 100
    assert peak < 120_000_000
