"""Cancel, reschedule, run now and change priority, in every state, on a real server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from engine.admin import Admin
from engine.errors import EngineError, NotFound, WrongState
from engine.store.gates import ticket_of
from engine.store.operator import OperatorStore
from engine.wire.codec import META
from engine.wire.packing import pack, unpack
from engine.wire.tombstones import TOMBSTONES_MAX, read_mark
from schemas.job import AttemptRecord, Meta, Tombstone
from schemas.story import JobOrder
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter, job_fields

HOUR_MS = 3_600_000
STORY = (AttemptRecord(number=1, at_ms=5, run_ms=7, engine="e1", outcome="failed"),)

Order = Callable[[Admin, str], Awaitable[JobOrder]]


async def later(admin: Admin, job_id: str) -> JobOrder:
    return await admin.reschedule(job_id, queue=QUEUE, in_ms=HOUR_MS)


async def now(admin: Admin, job_id: str) -> JobOrder:
    return await admin.run_now(job_id, queue=QUEUE)


async def ahead(admin: Admin, job_id: str) -> JobOrder:
    return await admin.change_priority(job_id, "critical", queue=QUEUE)


async def cancel(admin: Admin, job_id: str) -> JobOrder:
    return await admin.cancel(job_id, queue=QUEUE, reason="not wanted")


def put_off(queue: QueueWriter, job_id: str = "j1", *, lane: str = "low") -> None:
    meta = Meta(id=job_id, enqueued_ms=17, attempts=2, lost=1, why="backoff", history=STORY)
    queue.delay(queue.now_ms() + HOUR_MS, meta, lane=lane)


def meta_of(fields: list[bytes]) -> Meta:
    return msgspec.json.decode(fields[fields.index(META) + 1], type=Meta)


def delayed(queue: QueueWriter) -> dict[str, tuple[int, str, list[bytes]]]:
    """Jobs of the delayed set: id → due, lane, fields."""
    flat = queue.call("ZRANGE", queue.keys.delayed, 0, -1, "WITHSCORES")
    found = {}
    for member, due in zip(flat[::2], flat[1::2], strict=True):
        lane, *fields = unpack(member)
        found[meta_of(fields).id] = (int(due), lane.decode(), fields)
    return found


def tombstone(queue: QueueWriter, job_id: str) -> Tombstone | None:
    raw = queue.call("HGET", queue.keys.cancelled, job_id)
    return None if raw is None else msgspec.json.decode(raw, type=Tombstone)


# Cancel.


async def test_a_waiting_job_is_cancelled_where_it_is(admin: Admin, queue: QueueWriter) -> None:
    entry = queue.enqueue()
    queue.beat()

    order = await cancel(admin, f"n-{entry}")

    assert (order.changed, order.state) == (True, "waiting")
    assert "when its turn comes" in order.told
    stone = tombstone(queue, f"n-{entry}")
    assert stone is not None
    assert (stone.who, stone.reason, stone.ahead) == ("ada@here", "not wanted", False)
    assert abs(stone.at_ms - queue.now_ms()) < 10_000
    assert len(queue.lane()) == 1
    (told,) = await admin.audit()
    assert (told.what, told.detail, told.reason) == (
        "cancel",
        {"id": f"n-{entry}", "state": "waiting"},
        "not wanted",
    )


async def test_a_job_tells_who_cancelled_it_until_it_ends(admin: Admin, queue: QueueWriter) -> None:
    queue.enqueue(job_fields(id="j1"))
    queue.beat()
    await cancel(admin, "j1")

    (story,) = (await admin.job("j1", queue=QUEUE)).found

    assert story.cancelled is not None
    assert (story.cancelled.who, story.cancelled.reason) == ("ada@here", "not wanted")
    assert story.why.startswith("cancelled by ada@here: not wanted")
    assert "when its turn comes" in story.why
    assert (await admin.queue(QUEUE)).cancelling == 1


async def test_a_cancel_without_engines_says_what_it_waits_for(
    admin: Admin, queue: QueueWriter
) -> None:
    queue.enqueue(job_fields(id="j1"))
    assert "none does now" in (await cancel(admin, "j1")).told
    (story,) = (await admin.job("j1", queue=QUEUE)).found
    assert "no engine serves" in story.why

    queue.enqueue(job_fields(id="j2"))
    queue.beat()
    await admin.pause(QUEUE)
    assert "once the queue is resumed" in (await cancel(admin, "j2")).told


async def test_a_second_cancel_changes_nothing(admin: Admin, queue: QueueWriter) -> None:
    queue.enqueue(job_fields(id="j1"))
    await cancel(admin, "j1")
    before = tombstone(queue, "j1")

    again = await admin.cancel("j1", queue=QUEUE, reason="another")

    assert not again.changed
    assert "was cancelled by ada@here: not wanted already" in again.told
    assert tombstone(queue, "j1") == before
    assert len(await admin.audit()) == 1


async def test_a_delayed_job_is_brought_to_its_lane(admin: Admin, queue: QueueWriter) -> None:
    put_off(queue)

    order = await cancel(admin, "j1")

    assert order.state == "delayed"
    ((_, fields),) = queue.lane("low")
    assert meta_of(fields).attempts == 2
    # Engines that have not heard of it must not start it.
    assert read_mark(meta_of(fields).cancelled).reason == "not wanted"
    assert not delayed(queue)
    assert tombstone(queue, "j1")


async def test_a_held_job_is_brought_to_its_lane(admin: Admin, queue: QueueWriter) -> None:
    queue.hold(TYPE)
    queue.set_aside(TYPE, Meta(id="j1", enqueued_ms=1), lane="high")

    queue.beat()

    order = await cancel(admin, "j1")

    assert order.state == "held"
    assert "comes to its lane at once" in order.told
    assert len(queue.lane("high")) == 1
    assert queue.call("EXISTS", queue.keys.held(TYPE)) == 0


async def test_a_parked_job_is_moved_like_any_that_waits(admin: Admin, queue: QueueWriter) -> None:
    queue.call("HSET", queue.keys.control, "gates", "1")
    for number in range(3):
        ticket = b"%015d-%010d" % (1, number)
        meta = b'{"ticket":"%b","id":"p%d","enqueued_ms":1}' % (ticket, number)
        packed = pack([b"k\0\0\0", *job_fields(key="k"), META, meta])
        queue.call("ZADD", queue.keys.parked("high"), 0, b"kk\0" + ticket + b"\0" + packed)
    queue.call("ZADD", queue.keys.parked("low"), 0, b"strange")

    order = await cancel(admin, "p1")

    assert (order.state, order.lane, order.changed) == ("parked", "high", True)
    assert tombstone(queue, "p1")
    assert queue.call("XLEN", queue.keys.lane("high:ready")) == 1
    with pytest.raises(NotFound):
        await cancel(admin, "p7")
    with pytest.raises(WrongState, match="parked: it cannot be run now; it waits behind key k"):
        await now(admin, "p2")
    assert (await ahead(admin, "p2")).lane == "critical"
    assert (await later(admin, "p0")).changed
    assert "ticket" not in str(delayed(queue)["p0"])


async def test_an_active_job_is_left_to_its_engine(admin: Admin, queue: QueueWriter) -> None:
    entry = queue.enqueue()
    queue.deliver()

    order = await cancel(admin, f"n-{entry}")

    assert order.state == "active"
    assert "handler" in order.told
    assert tombstone(queue, f"n-{entry}")


async def test_what_has_ended_is_not_cancelled(admin: Admin, queue: QueueWriter) -> None:
    queue.bury("d1")
    queue.finish(["d2"])

    assert await cancel(admin, "d1") == JobOrder(
        id="d1",
        queue=QUEUE,
        what="cancel",
        changed=False,
        state="dead",
        lane="normal",
        told="is dead already (exhausted)",
    )
    with pytest.raises(WrongState, match="d2 is done already"):
        await cancel(admin, "d2")
    assert queue.call("EXISTS", queue.keys.cancelled) == 0


async def test_a_job_that_is_not_there_is_cancelled_on_request_alone(
    admin: Admin, queue: QueueWriter
) -> None:
    with pytest.raises(NotFound):
        await cancel(admin, "j1")
    with pytest.raises(EngineError, match="which queue"):
        await admin.cancel("j1", even_if_absent=True)
    assert tombstone(queue, "j1") is None

    order = await admin.cancel("j1", queue=QUEUE, even_if_absent=True)

    assert (order.changed, order.state) == (True, "")
    stone = tombstone(queue, "j1")
    assert stone is not None
    assert stone.ahead


async def test_a_tombstone_of_an_earlier_job_is_replaced(admin: Admin, queue: QueueWriter) -> None:
    queue.call("HSET", queue.keys.cancelled, "j1", '{"who":"old","at_ms":5}')
    queue.enqueue(job_fields(id="j1"))

    assert (await cancel(admin, "j1")).changed

    stone = tombstone(queue, "j1")
    assert stone is not None
    assert stone.who == "ada@here"


async def test_there_is_a_bound_of_tombstones(admin: Admin, queue: QueueWriter) -> None:
    pairs = [part for number in range(TOMBSTONES_MAX) for part in (f"x{number}", "{}")]
    queue.call("HSET", queue.keys.cancelled, *pairs)
    queue.enqueue(job_fields(id="j1"))

    with pytest.raises(EngineError, match="10000 cancelled jobs"):
        await cancel(admin, "j1")
    assert queue.call("HLEN", queue.keys.cancelled) == TOMBSTONES_MAX


# Moves.


async def test_a_job_that_is_moved_leaves_its_turn_to_the_next(
    admin: Admin, queue: QueueWriter
) -> None:
    """Goal: nobody waits for ever behind a turn that went along to another lane."""
    queue.call("HSET", queue.keys.control, "gates", "1")
    entry = queue.enqueue(job_fields(id="back", key="k"))
    queue.deliver()
    queue.hand_back(entry)
    first, second = (f"{number:015}-{0:010}" for number in (1, 2))
    meta = Meta(id="retried", enqueued_ms=1, attempts=1, why="backoff", ticket=first)
    queue.call("HSET", queue.keys.busy("low"), "k", first)
    behind = f"kk\0{second}\0".encode() + pack([b"k\0\0\0", *job_fields(id="next", key="k")])
    queue.call("ZADD", queue.keys.parked("low"), 0, behind)
    due_ms = queue.now_ms() + HOUR_MS
    queue.delay(due_ms, meta, job_fields(key="k"), lane="low:ready")

    assert (await ahead(admin, "back")).lane == "critical"
    assert (await later(admin, "retried")).lane == "low"
    assert delayed(queue)["retried"][1] == "low"
    assert queue.call("XLEN", queue.keys.lane("low:ready")) == 1
    assert queue.call("HGET", queue.keys.busy("low"), "k").decode() == second
    assert (await cancel(admin, "retried")).state == "delayed"
    assert len(queue.lane("low")) == 1


async def test_a_waiting_job_is_put_off_and_stays_itself(admin: Admin, queue: QueueWriter) -> None:
    entry = queue.enqueue(job_fields(b'{"n":5}', key="k"), lane="high")
    enqueued_ms = int(entry.partition("-")[0])

    order = await later(admin, f"h-{entry}")

    assert (order.changed, order.state, order.lane) == (True, "waiting", "high")
    assert "starts in 1 h" in order.told
    assert not queue.lane("high")
    due_ms, lane, fields = delayed(queue)[f"h-{entry}"]
    assert due_ms == order.due_ms
    assert abs(due_ms - queue.now_ms() - HOUR_MS) < 10_000
    assert lane == "high"
    assert fields[:-2] == job_fields(b'{"n":5}', key="k")
    assert meta_of(fields) == Meta(id=f"h-{entry}", enqueued_ms=enqueued_ms, why="reschedule")
    (story,) = (await admin.job(f"h-{entry}", queue=QUEUE)).found
    assert "until the time that an operator set" in story.why


async def test_a_delayed_job_gets_another_time(admin: Admin, queue: QueueWriter) -> None:
    put_off(queue)
    at_ms = queue.now_ms() + 5_000

    for _ in range(2):
        order = await admin.reschedule("j1", queue=QUEUE, at_ms=at_ms)

    assert order.due_ms == at_ms
    due_ms, lane, fields = delayed(queue)["j1"]
    assert (due_ms, lane) == (at_ms, "low")
    meta = meta_of(fields)
    assert (meta.attempts, meta.lost, meta.history, meta.enqueued_ms) == (2, 1, STORY, 17)
    assert queue.call("ZCARD", queue.keys.delayed) == 1


async def test_a_time_beyond_the_life_of_a_job_is_pointed_out(
    admin: Admin, queue: QueueWriter
) -> None:
    queue.enqueue(job_fields(id="j1", ttl="1000"))
    queue.enqueue(job_fields(id="j2", expires=str(queue.now_ms() + 2 * HOUR_MS)))

    assert "expires before" in (await later(admin, "j1")).told
    assert "expires" not in (await later(admin, "j2")).told
    with pytest.raises(EngineError, match="within 366 d"):
        await admin.reschedule("j2", queue=QUEUE, in_ms=400 * 24 * HOUR_MS)


async def test_a_handed_back_job_keeps_its_lost_deliveries(
    admin: Admin, queue: QueueWriter
) -> None:
    entry = queue.enqueue()
    queue.deliver()
    queue.call(
        *("XCLAIM", queue.keys.lane("normal"), "engine", "released", 0, entry),
        *("RETRYCOUNT", 2, "JUSTID"),
    )

    assert (await ahead(admin, f"n-{entry}")).state == "waiting"

    ((_, fields),) = queue.lane("critical")
    assert meta_of(fields).lost == 2
    assert not queue.lane()
    assert queue.call("XPENDING", queue.keys.lane("normal"), "engine")[0] == 0


async def test_a_delayed_job_runs_now(admin: Admin, queue: QueueWriter) -> None:
    put_off(queue)

    order = await now(admin, "j1")

    assert order.told == "is in lane low now"
    ((_, fields),) = queue.lane("low")
    assert meta_of(fields) == Meta(
        id="j1", enqueued_ms=17, attempts=2, lost=1, why="backoff", history=STORY
    )
    assert not delayed(queue)


async def test_what_runs_or_waits_already_is_left_alone(admin: Admin, queue: QueueWriter) -> None:
    queue.enqueue(job_fields(id="j1"))
    queue.deliver()
    queue.enqueue(job_fields(id="j2"))

    assert not (await now(admin, "j1")).changed
    assert not (await now(admin, "j2")).changed
    assert await admin.audit() == []


async def test_a_job_goes_to_another_lane_wherever_it_waits(
    admin: Admin, queue: QueueWriter
) -> None:
    queue.enqueue(job_fields(id="j1"))
    put_off(queue, "j2")
    queue.hold(TYPE)
    queue.set_aside(TYPE, Meta(id="j3", enqueued_ms=1))
    before = delayed(queue)["j2"][0]

    orders = [await ahead(admin, job_id) for job_id in ("j1", "j2", "j3")]

    assert {order.lane for order in orders} == {"critical"}
    assert len(queue.lane("critical")) == 1
    assert delayed(queue)["j2"][:2] == (before, "critical")
    ((_, row),) = queue.call("XRANGE", queue.keys.held(TYPE), "-", "+")
    assert unpack(row[1])[0] == b"critical"
    assert not (await ahead(admin, "j1")).changed
    with pytest.raises(EngineError, match="no lane"):
        await admin.change_priority("j1", "urgent", queue=QUEUE)


@pytest.mark.parametrize("by", ["itself", "another"])
async def test_a_job_that_is_moved_before_it_was_judged_is_judged_where_it_comes(
    admin: Admin, queue: QueueWriter, by: str
) -> None:
    """Goal: its own id does not make it a duplicate there, should an engine have handed it back."""
    entry = queue.enqueue(job_fields(id="j1", delay="60000"))
    ticket = ticket_of(entry.encode() if by == "itself" else b"1-0")
    seen = f"normal/{ticket} {queue.now_ms() + HOUR_MS} 1 body"
    queue.call("HSET", queue.keys.unique, "ij1", seen)

    await ahead(admin, "j1")

    ((_, fields),) = queue.lane("critical")
    assert meta_of(fields).why == "moved"
    assert queue.call("HEXISTS", queue.keys.unique, "ij1") == (by == "another")


@pytest.mark.parametrize(
    ("order", "job_id", "message"),
    [
        (later, "running", "active: it cannot be rescheduled; cancel it instead"),
        (ahead, "running", "active: it cannot be moved to another lane; cancel it instead"),
        (later, "over", "done: it cannot be rescheduled; it has run"),
        (now, "over", "done"),
        (ahead, "over", "done"),
        (later, "buried", "dead: .* `dead retry message-delivery buried`"),
        (now, "buried", "dead retry"),
        (ahead, "buried", "dead retry"),
        (now, "aside", "held: .* `resume message-delivery --type send-message`"),
        (later, "stopped", "was cancelled by ada@here"),
        (now, "stopped", "was cancelled"),
        (ahead, "stopped", "was cancelled"),
    ],
)
async def test_orders_that_make_no_sense_are_refused(
    admin: Admin, queue: QueueWriter, order: Order, job_id: str, message: str
) -> None:
    queue.enqueue(job_fields(id="running"))
    queue.deliver()
    queue.enqueue(job_fields(id="stopped"))
    await cancel(admin, "stopped")
    queue.finish(["over"])
    queue.bury("buried")
    queue.hold(TYPE)
    queue.set_aside(TYPE, Meta(id="aside", enqueued_ms=1))

    with pytest.raises(WrongState, match=message):
        await order(admin, job_id)
    assert len(await admin.audit()) == 1


async def test_a_job_that_an_engine_takes_meanwhile_is_not_moved(
    admin: Admin, store: OperatorStore, queue: QueueWriter
) -> None:
    """Goal: the fence. What was read as waiting is with an engine when the script runs."""
    entry = queue.enqueue(job_fields(id="j1"))
    found = await store.jobs.at(QUEUE, "normal", entry)
    assert found is not None
    queue.deliver()

    assert await store.orders.to_delayed(found, 5, why="reschedule") == "active"
    assert await store.orders.change_lane(found, "low") == "active"

    assert [kept for kept, _ in queue.lane()] == [entry]
    queue.call("XACK", queue.keys.lane("normal"), "engine", entry)
    queue.call("XDEL", queue.keys.lane("normal"), entry)
    assert await store.orders.to_lane(found, "low") == "gone"
    assert not queue.lane("low")


async def test_what_the_target_refuses_stays_where_it_is(
    store: OperatorStore, queue: QueueWriter
) -> None:
    put_off(queue)
    entry = queue.enqueue(job_fields(id="j2"))
    queue.call("DEL", queue.keys.lane("critical"))
    queue.call("SET", queue.keys.lane("critical"), "not a stream")
    (page,) = (await store.jobs.find(QUEUE, "j1")).jobs
    waiting = await store.jobs.at(QUEUE, "normal", entry)
    assert waiting is not None

    for found in (page, waiting):
        with pytest.raises(EngineError, match="WRONGTYPE"):
            await store.orders.to_lane(found, "critical")

    assert delayed(queue).keys() == {"j1"}
    assert len(queue.lane()) == 1


async def test_of_many_who_move_a_job_at_once_one_does(redis_url: str, queue: QueueWriter) -> None:
    """Goal: no job is doubled or lost between two operators."""
    for number in range(20):
        put_off(queue, f"j{number}", lane="normal")
    admins = [Admin(redis_url, who=f"ada{n}") for n in range(4)]

    async def each(who: int, number: int) -> None:
        verb: Order = (now, ahead, later, now)[who]
        with contextlib.suppress(NotFound, WrongState):
            await verb(admins[who], f"j{number}")

    await asyncio.gather(*(each(who, number) for number in range(20) for who in range(4)))
    for one in admins:
        one.close()

    places = [
        meta_of(fields).id for lane in ("normal", "critical") for _, fields in queue.lane(lane)
    ]
    places += delayed(queue)
    assert sorted(places) == sorted(f"j{number}" for number in range(20))
