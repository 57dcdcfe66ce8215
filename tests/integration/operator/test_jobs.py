"""Finding and browsing jobs against a real server."""

from __future__ import annotations

import pytest

from engine.admin import Admin
from engine.errors import EngineError, NotFound
from engine.store.operator import Budget, OperatorStore, Query
from engine.testing.clock import ManualClock
from schemas.job import AttemptRecord, ErrorRecord, JobState, Meta
from schemas.story import JobStory
from tests.support.queue_writer import QUEUE, TYPE, QueueWriter, job_fields


async def find(admin: Admin, job_id: str) -> JobStory:
    (story,) = (await admin.job(job_id, queue=QUEUE)).found
    return story


async def test_a_nameless_job_is_found_while_it_waits_and_runs(
    admin: Admin, queue: QueueWriter
) -> None:
    entry = queue.enqueue(lane="high")
    queue.beat()

    waiting = await find(admin, f"h-{entry}")
    queue.deliver(lane="high")
    queue.call("HSET", queue.keys.progress, f"h-{entry}", '{"percent":40,"atMs":1}')
    running = await find(admin, f"h-{entry}")

    assert waiting.job.state == "waiting"
    assert "lane high" in waiting.why
    assert waiting.payload == {"n": 1}
    assert running.job.state == "active"
    assert running.deliveries == 1
    assert "e1-ab" in running.why
    assert running.progress == {"percent": 40, "atMs": 1}


async def test_the_same_entry_id_in_two_lanes_is_two_jobs(admin: Admin, queue: QueueWriter) -> None:
    queue.enqueue(lane="high", entry="5-1")
    queue.enqueue(lane="normal", entry="5-1")

    assert (await find(admin, "n-5-1")).job.lane == "normal"
    assert (await find(admin, "h-5-1")).job.lane == "high"


async def test_a_retried_job_is_found_by_its_first_id(admin: Admin, queue: QueueWriter) -> None:
    error = ErrorRecord(kind="KeyError", message="'x'")
    attempt = AttemptRecord(number=1, at_ms=5, run_ms=7, engine="e1", outcome="failed", error=error)
    meta = Meta(id="n-1-1", enqueued_ms=1, attempts=1, why="backoff", history=(attempt,))
    queue.delay(queue.now_ms() + 38_000, meta)

    story = await find(admin, "n-1-1")

    assert story.job.state == "delayed"
    assert story.job.error == "KeyError: 'x'"
    assert story.history[0].outcome == "failed"
    assert story.why.startswith("waits 3")
    assert "for its retry, after 1 attempt" in story.why


async def test_a_promoted_job_is_found_in_its_lane_by_its_first_id(
    admin: Admin, queue: QueueWriter
) -> None:
    meta = b'{"id":"n-1-1","enqueued_ms":1}'
    queue.enqueue([*job_fields(), b"_engine", meta])

    assert (await find(admin, "n-1-1")).job.state == "waiting"


@pytest.mark.parametrize("state", ["waiting", "active", "delayed", "held", "done", "dead"])
async def test_a_named_job_is_found_in_every_state(
    admin: Admin, queue: QueueWriter, state: JobState
) -> None:
    meta = Meta(id="order-1", enqueued_ms=1, attempts=2)
    match state:
        case "waiting" | "active":
            queue.enqueue(job_fields(id="order-1"))
            if state == "active":
                queue.deliver()
        case "delayed":
            queue.delay(queue.now_ms() + 1000, meta)
        case "held":
            queue.hold(TYPE)
            queue.set_aside(TYPE, meta)
        case "done":
            queue.finish(["other", "order-1"], b'{"seq":9}')
        case "dead":
            queue.bury("order-1")

    story = await find(admin, "order-1")

    assert (story.job.id, story.job.state, story.job.type) == ("order-1", state, TYPE)
    assert story.why
    if state == "done":
        assert story.result == {"seq": 9}
        assert story.job.run_ms == 1.5


async def test_a_dead_letter_is_found_by_its_entry_too(admin: Admin, queue: QueueWriter) -> None:
    entry = queue.bury("x")

    story = await find(admin, entry)

    assert story.job.id == "x"
    assert story.dead is not None
    assert story.dead.error.message == "no such user 17"


async def test_what_is_nowhere_is_said_so(admin: Admin, queue: QueueWriter) -> None:
    with pytest.raises(NotFound, match="no job n-1-1 in message-delivery"):
        await admin.job("n-1-1", queue=QUEUE)


async def test_every_job_of_an_id_is_found_on_request(admin: Admin, queue: QueueWriter) -> None:
    queue.enqueue(job_fields(id="twice"))
    queue.finish(["twice"])

    search = await admin.job("twice", queue=QUEUE, every=True)

    assert [story.job.state for story in search.found] == ["waiting", "done"]


async def test_bytes_that_are_no_text_are_shown_as_base64(admin: Admin, queue: QueueWriter) -> None:
    queue.enqueue([b"type", b"x\xff", b"data", b"\x00\xfe", b"id", b"odd"])

    story = await find(admin, "odd")

    assert story.job.type == "other"
    assert story.payload is None
    assert story.fields[1].encoding == "base64"


async def test_why_names_the_pause_the_hold_and_the_missing_engine(
    admin: Admin, queue: QueueWriter
) -> None:
    entry = queue.enqueue()
    job_id = f"n-{entry}"

    assert (await find(admin, job_id)).why == f"no engine serves queue {QUEUE}"
    queue.beat(types=["other-type"])
    assert "takes type send-message" in (await find(admin, job_id)).why
    queue.beat(state="draining")
    assert "stopping" in (await find(admin, job_id)).why
    queue.hold(TYPE, "wrong key")
    assert "is held: wrong key" in (await find(admin, job_id)).why
    await admin.pause(QUEUE, reason="tea")
    assert "is paused by ada@here" in (await find(admin, job_id)).why


STATES = ("waiting", "active", "delayed", "held", "done", "dead")


@pytest.mark.parametrize("newest", [True, False])
@pytest.mark.parametrize("state", STATES)
async def test_pages_cover_a_state_once(
    admin: Admin, queue: QueueWriter, state: JobState, newest: bool
) -> None:
    """Goal: paging with a cursor shows each job once, whatever the page's size."""
    expected = fill(queue, state)

    seen: list[str] = []
    cursor = ""
    while True:
        query = Query(limit=7, cursor=cursor, newest=newest)
        page = await admin.jobs(QUEUE, state, query)
        seen += [job.id for job in page.jobs]
        cursor = page.cursor
        if not cursor:
            break

    assert page.complete
    assert len(seen) == len(expected)
    assert set(seen) == expected
    if state in {"delayed", "dead"}:
        assert seen == sorted(seen, reverse=newest)


def fill(queue: QueueWriter, state: JobState) -> set[str]:
    """Put jobs into a state, more than one chunk of a reader holds; returns their ids."""
    ids = {f"j{number:03}" for number in range(90)}
    for number, job_id in enumerate(sorted(ids)):
        lane = ("critical", "high", "normal", "low")[number % 4]
        meta = Meta(id=job_id, enqueued_ms=1)
        if state in {"waiting", "active"}:
            queue.enqueue(job_fields(id=job_id), lane=lane)
        elif state == "delayed":
            # Ten share each due time.
            queue.delay(10**12 + number // 10, meta, job_fields(id=job_id))
        elif state == "held":
            queue.set_aside(TYPE, meta, lane)
        elif state == "dead":
            queue.bury(job_id)
    if state == "held":
        queue.hold(TYPE)
    if state == "active":
        for lane in ("critical", "high", "normal", "low"):
            queue.deliver(100, lane=lane)
    if state == "waiting":
        queue.deliver(3, lane="normal")
        (first, *_), *_ = queue.call("XPENDING", queue.keys.lane("normal"), "engine", "-", "+", 1)
        queue.hand_back(first.decode())
        running = queue.call("XPENDING", queue.keys.lane("normal"), "engine", "-", "+", 9, "e1-ab")
        bodies = dict(queue.lane("normal"))
        ids -= {bodies[row[0].decode()][5].decode() for row in running}
    if state == "done":
        ordered = sorted(ids)
        for begin in range(0, 90, 15):
            queue.finish(ordered[begin : begin + 15])
    return ids


async def test_filters_say_how_far_they_looked(admin: Admin, queue: QueueWriter) -> None:
    for number in range(60):
        queue.enqueue(job_fields(b'{"to":"%d"}' % number))

    page = await admin.jobs(QUEUE, "waiting", Query(text='"TO":"7"'))
    assert (len(page.jobs), page.searched, page.complete, page.total) == (1, 60, True, 60)

    short = await admin.jobs(QUEUE, "waiting", Query(text='"to":"7"', search_max=10))
    assert (len(short.jobs), short.searched, short.complete) == (0, 10, False)
    assert short.cursor
    rest = await admin.jobs(QUEUE, "waiting", Query(text='"to":"7"', cursor=short.cursor))
    assert (len(rest.jobs), rest.searched) == (1, 50)
    assert not (await admin.jobs(QUEUE, "waiting", Query(type="nope"))).jobs
    assert not (await admin.jobs(QUEUE, "waiting", Query(lanes=["low"]))).jobs


async def test_a_search_that_is_cut_short_goes_on_at_the_next_job(
    admin: Admin, queue: QueueWriter
) -> None:
    """
    Goal: a part ends at the time that it has, even within a chunk, and no job is passed over.

    Method: a clock that goes on by 1 ms whenever it is read, and 5 ms for each part.
    """
    for number in range(300):
        queue.delay(1_000 + number // 3, Meta(id=f"job-{number}", enqueued_ms=1))

    class Ticking(ManualClock):
        reads = 0

        def monotonic(self) -> float:
            self.reads += 1
            return self.reads / 1_000

    clock, cursor = Ticking(), ""
    seen: list[str] = []
    searched: list[int] = []
    while not searched or cursor:
        # Every job is decoded, since this text may be part of any id.
        query = Query(text="-", newest=False, limit=500, cursor=cursor)
        page = await admin.jobs(QUEUE, "delayed", query, budget=Budget(clock, 5))
        seen += [row.id for row in page.jobs]
        searched.append(page.searched)
        cursor = page.cursor

    assert sorted(seen) == sorted(f"job-{number}" for number in range(300))
    assert sum(searched) == 300
    assert max(searched) < 256


async def test_a_foreign_cursor_is_refused(admin: Admin, queue: QueueWriter) -> None:
    queue.delay(5, Meta(id="a", enqueued_ms=1))
    with pytest.raises(EngineError):
        await admin.jobs(QUEUE, "delayed", Query(cursor="1/x"))
    with pytest.raises(EngineError):
        await admin.jobs(QUEUE, "dead", Query(cursor="rubbish"))


async def test_broken_entries_are_shown_not_raised(
    store: OperatorStore, admin: Admin, queue: QueueWriter
) -> None:
    queue.call("ZADD", queue.keys.delayed, 5, b"\xff rubbish")
    queue.call("XADD", queue.keys.dead, "*", "_dead", "not json", "a", "b")
    queue.call("XADD", queue.keys.dead, "*", "hello", "there")
    queue.call("XADD", queue.keys.held(TYPE), "*", "job", b"\x00")
    queue.call("XADD", queue.keys.done, "*", "odd", "entry")
    queue.enqueue([b"_engine", b"{", b"type", b"\xff"])
    queue.hold(TYPE)

    for state in STATES:
        page = await admin.jobs(QUEUE, state, Query())
        assert page.complete
    dead = await admin.jobs(QUEUE, "dead", Query())
    assert [job.note for job in dead.jobs] == ["unreadable", "unreadable"]


async def test_a_queue_that_nobody_knows_is_not_found(
    admin: Admin, redis_url: str, queue: QueueWriter
) -> None:
    """Goal: a misspelt queue is not taken for an empty one, and an empty one not for unknown."""
    used, served = QueueWriter(redis_url, "used"), QueueWriter(redis_url, "served")
    used.open()
    served.beat()
    used.close()
    served.close()

    for known in (QUEUE, "used", "served"):
        assert (await admin.jobs(known, "dead", Query())).jobs == []
    with pytest.raises(NotFound, match="no queue nosuch"):
        await admin.jobs("nosuch", "waiting", Query())
