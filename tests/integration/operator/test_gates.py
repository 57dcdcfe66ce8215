"""Order by key and limits as operators see and steer them, against a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from engine.admin import Admin
from engine.core.limits import make_rule
from engine.errors import EngineError, NotFound
from engine.store.gates import ticket_of
from engine.store.operator import Query
from engine.store.redis import RedisStore
from engine.wire.packing import pack
from schemas.job import Meta
from schemas.stats import DeadFilter
from tests.support.gated import GatedEngine
from tests.support.queue_writer import QUEUE, QueueWriter, job_fields


@pytest.fixture
async def engine(redis_url: str, queue: QueueWriter) -> AsyncIterator[GatedEngine]:
    """Give an engine's side of the gates."""
    store = RedisStore.from_url(redis_url, consumer="e1-ab")
    await store.open(QUEUE)
    queue.beat("e1")
    yield GatedEngine(store, QUEUE)
    await store.close()


def add(queue: QueueWriter, *ids: str, key: str = "K", lane: str = "normal") -> None:
    for job_id in ids:
        queue.enqueue(job_fields(id=job_id, key=key), lane=lane)


async def why(admin: Admin, job_id: str) -> str:
    (story,) = (await admin.job(job_id, queue=QUEUE)).found
    return story.why


async def test_parked_jobs_are_counted_listed_and_found(
    admin: Admin, queue: QueueWriter, engine: GatedEngine
) -> None:
    add(queue, "a", "b", "c")
    add(queue, "x", key="L", lane="low")
    assert await engine.take() == ["a", "x"]

    stats = await admin.queue(QUEUE)
    page = await admin.jobs(QUEUE, "parked", Query(newest=False, limit=1))
    rest = await admin.jobs(QUEUE, "parked", Query(newest=False, cursor=page.cursor))
    newest = await admin.jobs(QUEUE, "parked", Query(limit=1))
    older = await admin.jobs(QUEUE, "parked", Query(cursor=newest.cursor))

    assert (stats.waiting, stats.active, stats.lanes["normal"].parked) == (2, 2, 2)
    assert stats.gates is not None
    assert (stats.gates.parked, stats.gates.by_key, stats.gates.by_limit) == (2, 2, 0)
    assert [job.id for job in (*page.jobs, *rest.jobs)] == ["b", "c"]
    assert [job.id for job in (*newest.jobs, *older.jobs)] == ["c", "b"]
    assert (page.total, page.jobs[0].note, page.jobs[0].lane) == (2, "behind key K", "normal")
    assert (await admin.job("b", queue=QUEUE)).found[0].job.state == "parked"
    with pytest.raises(EngineError, match="no cursor"):
        await admin.jobs(QUEUE, "parked", Query(cursor="normal/x"))


async def test_what_was_let_through_counts_for_its_lane(
    admin: Admin, queue: QueueWriter, engine: GatedEngine
) -> None:
    add(queue, "a", "b", "c")
    await engine.take()
    await engine.end("a")

    waiting = await admin.jobs(QUEUE, "waiting", Query())
    stats = await admin.queue(QUEUE)
    assert [(job.id, job.lane) for job in waiting.jobs] == [("b", "normal")]
    assert (stats.waiting, stats.active, stats.lanes["normal"].parked) == (2, 0, 1)

    assert await engine.take() == ["b"]
    active = await admin.jobs(QUEUE, "active", Query())
    stats = await admin.queue(QUEUE)
    assert [(job.id, job.lane) for job in active.jobs] == [("b", "normal")]
    assert (stats.waiting, stats.active) == (1, 1)


async def test_delayed_jobs_that_come_back_past_their_lane_show_it_alone(
    admin: Admin, queue: QueueWriter
) -> None:
    queue.delay(queue.now_ms() + 60_000, Meta(id="d", enqueued_ms=1), lane="high:ready")

    (row,) = (await admin.jobs(QUEUE, "delayed", Query(lanes=("high",)))).jobs

    assert (row.id, row.lane) == ("d", "high")


async def test_the_job_that_has_the_turn_is_named_with_what_it_does(
    admin: Admin, queue: QueueWriter, engine: GatedEngine
) -> None:
    add(queue, "a", "b", "c")
    await engine.take()
    assert await why(admin, "b") == "is parked behind job a of key K, which runs on e1-ab"
    assert (await why(admin, "c")).endswith("; 1 more job of the key come before it")

    await engine.end("a")
    assert "behind job b of key K, which waits in its lane for an engine" in await why(admin, "c")
    await engine.take()
    assert "behind job b of key K, which runs on e1-ab" in await why(admin, "c")


async def test_a_holder_that_waits_for_its_retry_is_found(
    admin: Admin, queue: QueueWriter, engine: GatedEngine
) -> None:
    add(queue, "a", "b")
    await engine.take()
    ticket = queue.call("HGET", queue.keys.busy("normal"), "K").decode()
    lease = engine.running["a"]
    meta = Meta(id="a", enqueued_ms=1, attempts=1, why="backoff", ticket=ticket)
    queue.call("XACK", queue.keys.lane("normal"), "engine", lease.entry)
    queue.call("XDEL", queue.keys.lane("normal"), lease.entry)
    queue.delay(queue.now_ms() + 60_000, meta, job_fields(id="a", key="K"), lane="normal:ready")

    assert "behind job a of key K, which waits 59 s for its retry, after 1 attempt" in await why(
        admin, "b"
    )
    assert "meanwhile it keeps the turn of its key K" in await why(admin, "a")


@pytest.mark.parametrize("mode", ["continue", "block"])
async def test_a_redriven_job_takes_its_place_at_the_head(
    admin: Admin, queue: QueueWriter, engine: GatedEngine, mode: str
) -> None:
    await admin.order(QUEUE, "block" if mode == "block" else "continue")
    add(queue, "a", "b", "c")
    await engine.take()
    await engine.end("a", "dead")
    ran = await engine.take()
    assert ran == ([] if mode == "block" else ["b"])

    assert (await admin.retry_dead(QUEUE, DeadFilter(ids=("a",)))).changed == 1
    order = []
    for _ in range(5):
        ran += await engine.take()
        for job_id in ran:
            order.append(job_id)
            await engine.end(job_id)
        ran = []

    assert order == (["a", "b", "c"] if mode == "block" else ["b", "a", "c"])


async def test_a_job_that_died_before_gates_were_used_comes_back(
    admin: Admin, queue: QueueWriter, engine: GatedEngine
) -> None:
    """It has a place in the order of its key, though no engine ever asked for its turn."""
    queue.bury("a", job_fields(id="a", key="K"), ticket=ticket_of(b"1-0"))

    assert (await admin.retry_dead(QUEUE, DeadFilter(ids=("a",)))).changed == 1

    assert await engine.take() == ["a"]


async def test_discarding_a_dead_job_lets_the_next_of_its_key_go(
    admin: Admin, queue: QueueWriter, engine: GatedEngine
) -> None:
    await admin.order(QUEUE, "block")
    add(queue, "a", "b")
    await engine.take()
    await engine.end("a", "dead")
    assert await engine.take() == []
    stats = await admin.queue(QUEUE)
    assert stats.gates is not None
    assert (stats.gates.blocked_keys, stats.gates.on_dead) == (1, "block")
    assert f"it blocks its key K: `dead retry {QUEUE} a` brings it back" in await why(admin, "a")
    assert f"which is dead and blocks it: `dead retry {QUEUE} a`" in await why(admin, "b")

    assert (await admin.discard_dead(QUEUE, DeadFilter(ids=("a",)))).changed == 1

    assert await engine.take() == ["b"]
    await engine.end("b")
    assert queue.call("EXISTS", queue.keys.busy("normal")) == 0


async def test_discarding_a_dead_job_that_keeps_no_key_moves_nothing(
    admin: Admin, queue: QueueWriter, engine: GatedEngine
) -> None:
    add(queue, "a", "b", "c")
    await engine.take()
    await engine.end("a", "dead")
    assert await engine.take() == ["b"]

    assert (await admin.discard_dead(QUEUE, DeadFilter())).changed == 1

    assert await engine.take() == []


async def test_the_key_of_a_dead_job_whose_body_was_cut_is_found(
    admin: Admin, queue: QueueWriter, engine: GatedEngine
) -> None:
    await admin.order(QUEUE, "block")
    add(queue, "a", "b")
    await engine.take()
    ticket = queue.call("HGET", queue.keys.busy("normal"), "K").decode()
    await engine.end("a", "dead")
    queue.call("DEL", queue.keys.dead)
    queue.bury("a", [], ticket=ticket, cut=9)

    await admin.discard_dead(QUEUE, DeadFilter())

    assert await engine.take() == ["b"]


async def test_going_back_to_continue_lets_blocked_keys_go_in_their_order(
    admin: Admin, queue: QueueWriter, engine: GatedEngine
) -> None:
    await admin.order(QUEUE, "block")
    for number in range(130):
        add(queue, f"a{number}", f"b{number}", key=f"K{number}")
    while ran := await engine.take():
        for job_id in ran:
            await engine.end(job_id, "dead")

    change = await admin.order(QUEUE, "continue", reason="mended")

    assert (change.before, change.after, change.keys_let_go) == ("block", "continue", 130)
    started = []
    while ran := await engine.take():
        started += ran
    assert sorted(started) == sorted(f"b{number}" for number in range(130))
    assert (await admin.order(QUEUE)).after == "continue"
    assert [each.what for each in await admin.audit()] == ["order", "order"]


async def test_no_job_overtakes_while_keys_are_being_let_go(
    admin: Admin, queue: QueueWriter, engine: GatedEngine
) -> None:
    """The mode has been changed, and the command was killed before it let the keys go."""
    await admin.order(QUEUE, "block")
    add(queue, "a", "b")
    await engine.take()
    await engine.end("a", "dead")
    queue.call("HDEL", queue.keys.control, "on_dead")

    add(queue, "late")
    assert await engine.take() == []
    assert await engine.take() == ["b"]
    await engine.end("b")
    assert await engine.take() == ["late"]


async def test_a_limit_is_told_with_its_usage_and_until_when(
    admin: Admin, queue: QueueWriter, engine: GatedEngine
) -> None:
    await admin.set_limit(QUEUE, "sms", make_rule("sms", concurrency=1))
    engine.limits = ("sms",)
    for job_id in ("a", "b", "c"):
        queue.enqueue(job_fields(id=job_id))
    assert await engine.take() == ["a"]
    (limit,) = await admin.limits(QUEUE)
    assert (limit.used, limit.places, limit.parked, limit.rule) == (1, 1, 2, "1 at a time")
    assert await why(admin, "c") == (
        "is parked behind limit sms, of which 1 of 1 places are taken; "
        "1 job of its line come before it"
    )

    await admin.shut_limit(QUEUE, "sms", for_ms=60_000)
    assert "behind limit sms, which is shut until" in await why(admin, "b")
    await engine.end("a")
    assert await engine.take() == []
    await admin.open_limit(QUEUE, "sms")
    await engine.store.release(QUEUE, count=10)
    assert await engine.take() == ["b"]

    await admin.set_limit(QUEUE, "sms", make_rule("sms", rate=1, per_s=60))
    await engine.store.release(QUEUE, count=10, every=True)
    await admin.set_limit(QUEUE, "sms", make_rule("sms", rate=1, per_s=60, burst=1))
    assert await engine.take() == ["c"]
    queue.enqueue(job_fields(id="d"))
    assert await engine.take() == []
    assert "which allows 1 per 60 s (burst 1): until" in await why(admin, "d")
    await admin.clear_limit(QUEUE, "sms")
    await engine.store.release(QUEUE, count=10, every=True)
    assert await engine.take() == ["d"]


async def test_shutting_a_limit_without_a_rule_makes_jobs_ask_for_it(
    admin: Admin, queue: QueueWriter
) -> None:
    await admin.shut_limit(QUEUE, "queue", for_ms=60_000, reason="stop")
    assert queue.call("HGET", queue.keys.control, "limit:queue") == b"0 1000 0 0"
    (limit,) = await admin.limits(QUEUE)
    assert limit.shut_until_ms > queue.now_ms()

    assert (await admin.open_limit(QUEUE, "queue")).changed
    assert not (await admin.open_limit(QUEUE, "queue")).changed
    assert await admin.limits(QUEUE) == []
    assert queue.call("EXISTS", queue.keys.control) == 0
    with pytest.raises(NotFound):
        await admin.clear_limit(QUEUE, "queue")
    with pytest.raises(EngineError, match="must match"):
        await admin.shut_limit(QUEUE, "a b")


async def test_a_parked_member_that_is_not_ours_is_shown_as_it_is(
    admin: Admin, queue: QueueWriter
) -> None:
    queue.call("HSET", queue.keys.control, "gates", "1")
    queue.call("ZADD", queue.keys.parked("low"), 0, b"\xff")
    queue.call("ZADD", queue.keys.parked("low"), 0, b"kK\0x\0" + pack([]))

    page = await admin.jobs(QUEUE, "parked", Query())

    assert {job.type for job in page.jobs} == {"other"}
    assert (await admin.queue(QUEUE)).waiting == 2


async def test_a_waiting_job_is_told_its_place_in_the_lane(
    admin: Admin, queue: QueueWriter
) -> None:
    queue.beat("e1", weights={"high": 16, "normal": 4, "low": 1})
    add(queue, "n0", "n1", key="")
    queue.enqueue(job_fields(id="l0"), lane="low")

    assert await why(admin, "n1") == (
        "waits in lane normal, behind 1 job; 1 engine will take it within a moment"
    )
    assert await why(admin, "l0") == (
        "waits in lane low, first in line; "
        "by weight lane low has 1 of 5 turns beside normal (2 waiting)"
    )


async def test_a_parked_job_is_cancelled_at_once_and_its_line_goes_on(
    admin: Admin, queue: QueueWriter, engine: GatedEngine
) -> None:
    add(queue, "a", "b", "c")
    await engine.take()

    await admin.cancel("b", queue=QUEUE)

    waiting = await admin.jobs(QUEUE, "waiting", Query())
    assert [job.id for job in waiting.jobs] == ["b"]
    assert "; it ends when its turn comes" in await why(admin, "b")
    await engine.end("a")
    assert [job.id for job in (await admin.jobs(QUEUE, "parked", Query())).jobs] == []


async def test_a_job_that_is_put_off_gives_its_turn_and_its_places_away(
    admin: Admin, queue: QueueWriter, engine: GatedEngine
) -> None:
    await admin.set_limit(QUEUE, "sms", make_rule("sms", concurrency=1))
    engine.limits = ("sms",)
    add(queue, "a", "b")
    queue.enqueue(job_fields(id="x"))
    assert await engine.take() == ["a"]
    await engine.end("a")
    # `b` has its key's turn and waits for the limit, or was let through by it.
    await engine.take()
    assert (await admin.limits(QUEUE))[0].used == 1
    (running,) = engine.running
    other = {"b": "x", "x": "b"}[running]

    order = await admin.reschedule(other, queue=QUEUE, in_ms=60_000)
    assert order.changed
    add(queue, "c")
    await engine.end(running)
    assert await engine.take() == ["c"]
    await engine.end("c")
    assert (await admin.limits(QUEUE))[0].used == 0
    assert queue.call("EXISTS", queue.keys.busy("normal")) == 0


async def test_a_parked_job_moves_to_another_lane_without_its_place(
    admin: Admin, queue: QueueWriter, engine: GatedEngine
) -> None:
    add(queue, "a", "b")
    await engine.take()

    assert (await admin.change_priority("b", "high", queue=QUEUE)).changed
    with pytest.raises(EngineError, match=r"is active"):
        await admin.change_priority("a", "high", queue=QUEUE)

    assert await engine.take() == ["b"]
    assert queue.call("HGET", queue.keys.busy("high"), "K") is not None


async def test_a_parked_job_is_not_run_out_of_its_order(
    admin: Admin, queue: QueueWriter, engine: GatedEngine
) -> None:
    add(queue, "a", "b")
    await engine.take()

    with pytest.raises(EngineError, match="it waits behind key K"):
        await admin.run_now("b", queue=QUEUE)
