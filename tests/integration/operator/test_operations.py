"""Bulk operations against a real server: planned, paced, fenced, stopped, taken back exactly."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from engine.admin import Admin, Query
from engine.clock import SystemClock
from engine.core.operations import AHEAD_MS
from engine.errors import NotFound, StoreUnavailable, WrongState
from engine.runtime.operations import OperationDriver
from engine.runtime.outage import Outage
from engine.store.operator import OperatorStore
from engine.store.redis import RedisStore
from engine.telemetry import Meters
from engine.wire.codec import META
from engine.wire.packing import unpack
from schemas.job import Meta
from schemas.operations import Operation, Plan, Verb
from schemas.stats import DeadFilter
from tests.integration.operator.test_dead import HOSTILE
from tests.support.queue_writer import QUEUE, QueueWriter, job_fields

EVERY = DeadFilter()


class Engines:
    """Drivers of a queue's operations, without the engines around them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stores: list[OperatorStore] = []

    def driver(self, token: str) -> OperationDriver:
        store = OperatorStore(self.url)
        self.stores.append(store)
        clock = SystemClock()
        outage = Outage(clock, Meters(()), wait_ms_max=1, on_change=lambda *_: None)
        return OperationDriver(store, QUEUE, token, clock, outage=outage, stopping=lambda: False)

    async def turn(self, driver: OperationDriver) -> float:
        """Let a driver do what there is to do, as an engine does that has read the control hash."""
        driver.follow(tuple(await self.stores[0].operations.live(QUEUE)))
        return await driver.turn()


@pytest.fixture
async def engines(redis_url: str) -> AsyncIterator[Engines]:
    """Give drivers of the queue's operations."""
    made = Engines(redis_url)
    yield made
    for store in made.stores:
        store.close()


async def started(admin: Admin, plan: Plan, **options: Any) -> Operation:
    return await admin.start_operation(plan.id, **options)


def delayed(queue: QueueWriter) -> list[tuple[list[bytes], int]]:
    """What waits for its time: the packed stream and fields, and when."""
    flat = queue.call("ZRANGE", queue.keys.delayed, 0, -1, "WITHSCORES")
    return [(unpack(flat[at]), int(flat[at + 1])) for at in range(0, len(flat), 2)]


def entries(queue: QueueWriter) -> list[list[bytes]]:
    """The fields of all dead letters."""
    return [fields for _, fields in queue.dead()]


async def test_a_plan_counts_what_the_operation_does(
    admin: Admin, queue: QueueWriter, engines: Engines
) -> None:
    for number in range(130):
        queue.bury(f"a{number}")
    queue.bury("other", fingerprint="f" * 12)
    queue.bury("cut", cut=9_000_000, sha256="00")
    before = queue.dead()

    plan = await admin.plan_operation(QUEUE, "retry", DeadFilter(fingerprint="a" * 12), rate=10_000)

    assert (plan.count, plan.estimate, plan.complete) == (130, 130, True)
    assert plan.unable == {"its body was too large to keep": 1}
    assert (plan.searched, len(plan.samples), plan.duration_ms) == (132, 5, 13)
    assert queue.dead() == before
    queue.bury("late")
    operation = await started(admin, plan, reason="provider is back")
    driver = engines.driver("one")
    while operation.record.state == "releasing":
        await engines.turn(driver)
        operation = await admin.operation(QUEUE, operation.record.id)
    assert (operation.moved, operation.unable, operation.gone) == (130, plan.unable, 0)
    assert len(delayed(queue)) == 130
    assert len(queue.dead()) == 3
    assert operation.record.state == "following"


async def test_jobs_come_back_at_the_rate_with_their_operation(
    admin: Admin, queue: QueueWriter, engines: Engines
) -> None:
    for number in range(40):
        queue.bury(f"j{number}", HOSTILE if number == 0 else None, lane="high")
    plan = await admin.plan_operation(QUEUE, "retry", EVERY, rate=2)
    operation = await started(admin, plan)

    await engines.turn(engines.driver("one"))

    found = delayed(queue)
    dues = [due for _, due in found]
    # Only what is due soon is moved; the others stay dead letters for now.
    assert len(found) == AHEAD_MS // 1000 * 2 + 1
    assert [later - sooner for sooner, later in pairwise(dues)] == [500] * 20
    assert len(queue.dead()) == 40 - len(found)
    (stream, *fields), _ = found[0]
    assert stream == b"high"
    assert fields[:-2] == HOSTILE[:-2]
    meta = msgspec.json.decode(fields[-1], type=Meta)
    assert (fields[-2], meta.id, meta.redrives, meta.why) == (META, "j0", 1, "redrive")
    assert meta.operation.startswith(operation.record.id + "/")


async def test_undo_restores_what_has_not_started_exactly(
    admin: Admin, queue: QueueWriter, engines: Engines
) -> None:
    """
    Goal: dead letters that come back from the delayed set or their lane are as they were.

    Method: jobs with hostile fields and past expiries, one group that vanishes meanwhile; some
    wait for their time, some in their lane, one was delivered.
    """
    queue.bury("h", HOSTILE, fingerprint="c" * 12)
    for number in range(4):
        queue.bury(f"j{number}", job_fields(expires="1000", n=str(number)), attempts=number)
    queue.bury("keyed", job_fields(key="K"), ticket=f"{7:015}-{0:010}", lane="low")
    records, groups = entries(queue), queue.groups()
    plan = await admin.plan_operation(QUEUE, "retry", EVERY, rate=4)
    operation = await started(admin, plan)
    driver = engines.driver("one")
    await engines.turn(driver)
    assert (queue.dead(), queue.groups()) == ([], {})
    release(queue, 3)
    queue.deliver(1)

    undone = await admin.undo_operation(QUEUE, operation.record.id, reason="wrong key")
    await engines.turn(driver)

    assert undone.record.state == "undoing"
    after = await admin.operation(QUEUE, operation.record.id)
    assert (after.record.state, after.moved, after.undone, after.can) == ("undone", 6, 5, [])
    assert after.record.why == "not taken back: 1 that had started"
    # The first one was with an engine by then, and took its group with it.
    assert sorted(entries(queue)) == sorted(records[1:])
    assert queue.groups() == {k: v for k, v in groups.items() if not k.startswith("c" * 12)}
    assert (delayed(queue), len(queue.lane())) == ([], 1)
    assert [audit.what for audit in await admin.audit()] == [
        *("retry-undone", "retry-undo", "retry-start"),
    ]


async def test_an_undo_says_which_jobs_it_did_not_take_back(
    admin: Admin, queue: QueueWriter, engines: Engines
) -> None:
    """Goal: a job with a key that came to its place in the order stays there, and is counted."""
    for number in range(3):
        ticket = f"{number:015}-{0:010}"
        queue.bury(f"k{number}", job_fields(key="K"), ticket=ticket, lane="low")
    queue.bury("plain", lane="low")
    plan = await admin.plan_operation(QUEUE, "retry", EVERY, rate=10_000)
    name = (await started(admin, plan)).record.id
    driver = engines.driver("one")
    await engines.turn(driver)
    members = queue.call("ZRANGE", queue.keys.delayed, 0, -1)
    for member in [member for member in members if b"key" in unpack(member)][:2]:
        queue.call("ZREM", queue.keys.delayed, member)
        queue.call("XADD", queue.keys.lane("low:ready"), "*", *unpack(member)[1:])

    await admin.undo_operation(QUEUE, name)
    await engines.turn(driver)

    after = await admin.operation(QUEUE, name)
    why = "not taken back: 2 with an ordering key that had come to their place in its order"
    assert (after.undone, after.record.state, after.record.why) == (2, "undone", why)


async def test_an_undone_group_keeps_its_first_and_its_last_death(
    admin: Admin, queue: QueueWriter, engines: Engines
) -> None:
    queue.bury("old", died_ms=1_000)
    plan = await admin.plan_operation(QUEUE, "retry", EVERY, rate=1)
    operation = await started(admin, plan)
    driver = engines.driver("one")
    await engines.turn(driver)
    queue.bury("new", died_ms=2_000)

    await admin.undo_operation(QUEUE, operation.record.id)
    await engines.turn(driver)

    (group,) = await admin.dead_groups(QUEUE)
    assert (group.jobs, group.first_ms, group.last_ms, group.sample) == (2, 1_000, 2_000, "old")


async def test_an_undone_death_is_listed_by_its_time(
    admin: Admin, queue: QueueWriter, engines: Engines
) -> None:
    """Its entry is as young as the undoing, however long ago the job died."""
    queue.bury("old", died_ms=1_000, entry="1000-0")
    operation = await started(admin, await admin.plan_operation(QUEUE, "retry", EVERY, rate=1))
    driver = engines.driver("one")
    await engines.turn(driver)
    await admin.undo_operation(QUEUE, operation.record.id)
    await engines.turn(driver)

    page = await admin.jobs(QUEUE, "dead", Query(before_ms=2_000, newest=True))

    assert [row.id for row in page.jobs] == ["old"]


class Passing:
    """Lets time pass at each read of a stream, so that the lease of the driver runs out."""

    def __init__(self, store: OperatorStore, queue: QueueWriter) -> None:
        self._queue = queue
        self._stream = store._link.stream
        store._link.stream = self.stream  # type: ignore[method-assign]

    async def stream(self, key: str, **options: Any) -> AsyncIterator[Any]:
        async for entries in self._stream(key, **options):
            self._queue.call("DEL", self._queue.keys.operation_lease)
            yield entries


async def test_an_undo_ends_however_long_its_lanes_are(
    admin: Admin, queue: QueueWriter, engines: Engines
) -> None:
    """A look through a long lane takes longer than a lease; none must begin from the start."""
    for number in range(4):
        queue.bury(f"j{number}", lane="low" if number % 2 else "normal")
    operation = await started(admin, await admin.plan_operation(QUEUE, "retry", EVERY, rate=4))
    driver = engines.driver("one")
    await engines.turn(driver)
    release(queue, 4)
    Passing(engines.stores[-1], queue)

    await admin.undo_operation(QUEUE, operation.record.id)
    await engines.turn(driver)

    after = await admin.operation(QUEUE, operation.record.id)
    assert (after.record.state, after.undone) == ("undone", 4)


async def test_what_died_beyond_the_bound_of_groups_is_counted_together_again(
    admin: Admin, queue: QueueWriter, engines: Engines
) -> None:
    queue.bury("j1")
    key, names = queue.keys.dead_groups, (":n", ":first", ":last", ":sample")
    queue.call("RENAME", key, key + "x")
    for name in names:
        queue.call("HSET", key, f"other{name}", queue.call("HGET", key + "x", "a" * 12 + name))
    queue.call("DEL", key + "x")
    before = queue.groups()
    operation = await started(admin, await admin.plan_operation(QUEUE, "retry", EVERY))
    driver = engines.driver("one")
    await engines.turn(driver)
    assert queue.groups() == {}

    await admin.undo_operation(QUEUE, operation.record.id)
    await engines.turn(driver)

    assert queue.groups() == before


async def test_a_job_with_a_key_keeps_it_and_its_place_until_its_time(
    admin: Admin, queue: QueueWriter, engines: Engines, redis_url: str
) -> None:
    """
    Goal: order by key holds for jobs that come back by an operation as for all others.

    Method: what reaches the lane is what a plain retry puts there, at the head of its key; until
    then the dead job goes on keeping its key.
    """
    ticket = f"{7:015}-{0:010}"
    for _ in range(2):
        queue.bury("keyed", job_fields(key="K"), ticket=ticket, lane="high")
    queue.call("HSET", queue.keys.busy("high"), "K", f"!{ticket}")
    (first, _) = queue.dead()
    await admin.retry_dead(QUEUE, DeadFilter(ids=(first[0],)))
    (_, plain) = queue.lane("high:ready")[0]
    await started(admin, await admin.plan_operation(QUEUE, "retry", EVERY))
    await engines.turn(engines.driver("one"))
    assert queue.call("HGET", queue.keys.busy("high"), "K") == f"!{ticket}".encode()

    store = RedisStore.from_url(redis_url, consumer="e1")
    await store.promote(QUEUE, count=10)
    await store.close()

    (_, by_operation) = queue.lane("high:ready")[1]
    assert by_operation[:-1] == plain[:-1]
    metas = [msgspec.json.decode(each[-1], type=Meta) for each in (plain, by_operation)]
    assert [(meta.ticket, meta.redrives, meta.id) for meta in metas] == [(ticket, 1, "keyed")] * 2
    assert delayed(queue) == []


async def test_a_stopped_operation_moves_no_more_and_can_go_on(
    admin: Admin, queue: QueueWriter, engines: Engines
) -> None:
    for number in range(100):
        queue.bury(f"j{number}")
    plan = await admin.plan_operation(QUEUE, "retry", EVERY, rate=1)
    operation = await started(admin, plan)
    name = operation.record.id
    driver = engines.driver("one")
    await engines.turn(driver)
    moved = len(delayed(queue))

    stopped = await admin.stop_operation(QUEUE, name, reason="look first")
    driver.follow((name,))
    await driver.turn()

    assert stopped.record.state == "stopped"
    assert len(delayed(queue)) == moved == stopped.moved
    assert stopped.can == ["resume", "undo"]
    with pytest.raises(WrongState, match="cannot stop; it can be asked to resume or undo"):
        await admin.stop_operation(QUEUE, name)
    resumed = await admin.resume_operation(QUEUE, name)
    assert (resumed.record.state, resumed.left) == ("releasing", 100 - moved)
    with pytest.raises(NotFound, match="no operation x"):
        await admin.stop_operation(QUEUE, "x")


async def test_a_plan_starts_once(admin: Admin, queue: QueueWriter) -> None:
    queue.bury("j1")
    plan = await admin.plan_operation(QUEUE, "retry", EVERY)

    first = await started(admin, plan, reason="a")
    again = await started(admin, plan, reason="b")

    assert (again.record, again.record.reason) == (first.record, "a")
    assert [each.record for each in (await admin.operations()).operations] == [first.record]
    assert [each.what for each in await admin.audit()] == ["retry-start"]


async def test_a_plan_is_needed_and_ends(admin: Admin, queue: QueueWriter) -> None:
    plan = await admin.plan_operation(QUEUE, "retry", EVERY)
    with pytest.raises(WrongState, match="nothing to retry"):
        await started(admin, plan)
    queue.call("DEL", queue.keys.plan(plan.id.rpartition("/")[2]))
    with pytest.raises(NotFound, match="kept for 5 minutes"):
        await started(admin, plan)


@pytest.fixture
def full_server(queue: QueueWriter) -> Iterator[None]:
    """Let the server take nothing more, with three dead letters in it."""
    for number in range(3):
        queue.bury(f"j{number}")
    queue.call("CONFIG", "SET", "maxmemory", "1")
    yield
    queue.call("CONFIG", "SET", "maxmemory", "0")


@pytest.mark.usefixtures("full_server")
@pytest.mark.parametrize("action", ["retry", "discard"])
async def test_a_full_server_takes_an_operation(
    admin: Admin,
    queue: QueueWriter,
    engines: Engines,
    action: Verb,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Goal: dead letters are what one wants to be rid of when memory has run out."""
    monkeypatch.setattr("engine.core.operations.COMMIT_MS", 0)
    plan = await admin.plan_operation(QUEUE, action, EVERY, rate=10_000)
    name = (await started(admin, plan)).record.id

    await engines.turn(engines.driver("one"))

    ended = await admin.operation(QUEUE, name)
    assert (plan.count, ended.moved, queue.dead()) == (3, 3, [])
    assert ended.record.state == ("finished" if action == "discard" else "following")


async def test_a_count_that_takes_long_is_continued(
    admin: Admin, queue: QueueWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.admin.operations.PLAN_MS", 0)
    queue.bury_many(3_000, job_fields())
    queue.bury("other")
    plan = await admin.plan_operation(QUEUE, "retry", DeadFilter(fingerprint="b" * 12))
    assert (plan.complete, plan.count < 3_000, plan.estimate) == (False, True, 3_000)
    typed = await admin.plan_operation(QUEUE, "retry", DeadFilter(type="send-message"))
    assert (typed.complete, typed.estimate) == (False, 3_001)

    while not plan.complete:
        searched = plan.searched
        plan = await admin.continue_plan(plan.id)
        assert plan.searched > searched

    assert (plan.count, plan.searched, plan.total) == (3_000, 3_001, 3_001)
    slower = await admin.continue_plan(plan.id, rate=100, canary=1_000)
    assert (slower.count, slower.rate, slower.canary) == (3_000, 100, 1_000)
    assert (plan.duration_ms, slower.duration_ms) == (150_000, 20_000)


async def test_a_discard_waits_is_confirmed_and_drops_what_was_planned(
    admin: Admin, queue: QueueWriter, engines: Engines
) -> None:
    for number in range(101):
        queue.bury(f"j{number}")
    plan = await admin.plan_operation(QUEUE, "discard", EVERY, rate=10_000)
    assert plan.confirm
    with pytest.raises(WrongState, match=f"confirm with '{QUEUE}'"):
        await started(admin, plan)
    operation = await started(admin, plan, confirm=QUEUE, reason="spam")
    name = operation.record.id
    driver = engines.driver("one")
    await engines.turn(driver)
    assert (operation.record.state, operation.can) == ("waiting", ["stop", "undo"])
    assert len(queue.dead()) == 101
    queue.bury("late", fingerprint="e" * 12)

    commit_now(queue, name)
    while (await admin.operation(QUEUE, name)).record.state != "finished":
        await engines.turn(driver)

    assert [fields[0] for fields in entries(queue)] == [b"_dead"]
    assert {key.partition(":")[0] for key in queue.groups()} == {"e" * 12}
    assert (await admin.operation(QUEUE, name)).moved == 101
    assert [each.what for each in await admin.audit()] == ["discard-end", "discard-start"]


async def test_a_discard_is_taken_back_before_it_commits(
    admin: Admin, queue: QueueWriter, engines: Engines
) -> None:
    queue.bury("j1")
    plan = await admin.plan_operation(QUEUE, "discard", EVERY)
    operation = await started(admin, plan)

    undone = await admin.undo_operation(QUEUE, operation.record.id)
    commit_now(queue, operation.record.id)
    await engines.turn(engines.driver("one"))

    assert (undone.record.state, undone.moved, len(queue.dead())) == ("undone", 0, 1)


@pytest.mark.parametrize(
    ("done", "dead", "state"),
    [(9, 0, "watching"), (8, 2, "following"), (0, 3, "stopped")],
)
async def test_the_canary_decides(
    admin: Admin, queue: QueueWriter, engines: Engines, done: int, dead: int, state: str
) -> None:
    for number in range(12):
        queue.bury(f"j{number}")
    plan = await admin.plan_operation(QUEUE, "retry", EVERY, rate=10_000, canary=10)
    operation = await started(admin, plan)
    name = operation.record.id
    driver = engines.driver("one")
    await engines.turn(driver)
    watched = await admin.operation(QUEUE, name)
    assert (watched.record.state, watched.moved, watched.left) == ("watching", 10, 2)
    assert {due for _, due in delayed(queue)} == {delayed(queue)[0][1]}

    # As settlements count them.
    queue.call("HINCRBY", queue.keys.operation(name), ":done", done)
    queue.call("HINCRBY", queue.keys.operation(name), ":dead", dead)
    await engines.turn(driver)

    after = await admin.operation(QUEUE, name)
    assert after.record.state == state
    assert after.moved == (12 if state == "following" else 10)
    if state == "stopped":
        assert after.record.why == "the canary failed: 3 of 10 died again"
        assert (await admin.audit())[0].reason == after.record.why


@pytest.fixture
def look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what was deleted be noticed in the next turn."""
    monkeypatch.setattr("engine.runtime.operations.LOST_MS", 0)


@pytest.mark.usefixtures("look_at_once")
async def test_a_canary_that_somebody_deleted_stops_the_operation_and_says_so(
    admin: Admin, queue: QueueWriter, engines: Engines
) -> None:
    for number in range(12):
        queue.bury(f"j{number}")
    plan = await admin.plan_operation(QUEUE, "retry", EVERY, rate=10_000, canary=3)
    name = (await started(admin, plan)).record.id
    driver = engines.driver("one")
    for _ in range(2):
        # They are delayed, and then one waits in a lane without an id of its own.
        await engines.turn(driver)
        assert (await admin.operation(QUEUE, name)).record.state == "watching"
    member = queue.call("ZPOPMIN", queue.keys.delayed)[0]
    entry = queue.call("XADD", queue.keys.lane("low"), "*", *unpack(member)[1:])
    await engines.turn(driver)
    assert (await admin.operation(QUEUE, name)).record.state == "watching"

    queue.call("XDEL", queue.keys.lane("low"), entry)
    await engines.turn(driver)

    stopped = await admin.operation(QUEUE, name)
    why = "the canary cannot be judged: somebody deleted 1 of its 3 jobs"
    assert (stopped.record.state, stopped.record.why) == ("stopped", why)
    assert (await admin.audit())[0].reason == why
    await admin.resume_operation(QUEUE, name)
    await engines.turn(driver)
    assert (await admin.operation(QUEUE, name)).record.state == "following"


@pytest.mark.usefixtures("look_at_once")
async def test_an_operation_ends_though_somebody_deleted_its_jobs(
    admin: Admin, queue: QueueWriter, engines: Engines
) -> None:
    for number in range(3):
        queue.bury(f"j{number}")
    name = (await started(admin, await admin.plan_operation(QUEUE, "retry", EVERY))).record.id
    driver = engines.driver("one")
    await engines.turn(driver)
    queue.call("ZPOPMIN", queue.keys.delayed, 2)
    await engines.turn(driver)
    assert (await admin.operation(QUEUE, name)).record.state == "following"

    queue.call("HINCRBY", queue.keys.operation(name), ":done", 1)
    await engines.turn(driver)

    ended = await admin.operation(QUEUE, name)
    assert ended.record.state == "finished"
    assert ended.record.why == "2 of its jobs were deleted by somebody before they ended"


async def test_two_engines_at_once_move_each_job_once(
    admin: Admin, queue: QueueWriter, engines: Engines
) -> None:
    """
    Goal: an engine that lost its lease without noticing changes nothing.

    Method: two drivers take turns, and the lease goes to whoever asks.
    """
    for number in range(500):
        queue.bury(f"j{number}")
    plan = await admin.plan_operation(QUEUE, "retry", EVERY, rate=10_000)
    name = (await started(admin, plan)).record.id
    drivers = [engines.driver("one"), engines.driver("two")]
    for _ in range(30):
        for driver in drivers:
            queue.call("DEL", queue.keys.operation_lease)
            await engines.turn(driver)

    ids = [msgspec.json.decode(member[-1], type=Meta).id for member, _ in delayed(queue)]
    assert sorted(ids) == sorted(f"j{number}" for number in range(500))
    assert queue.dead() == []
    assert (await admin.operation(QUEUE, name)).moved == 500


async def test_the_lease_keeps_others_away_until_it_runs_out(
    admin: Admin, queue: QueueWriter, engines: Engines
) -> None:
    for number in range(300):
        queue.bury(f"j{number}")
    await started(admin, await admin.plan_operation(QUEUE, "retry", EVERY, rate=1))
    first, second = engines.driver("one"), engines.driver("two")
    await engines.turn(first)
    moved = len(delayed(queue))

    await engines.turn(second)
    assert len(delayed(queue)) == moved
    assert 0 < queue.call("PTTL", queue.keys.operation_lease) <= 4_000
    queue.call("DEL", queue.keys.operation_lease)
    await engines.turn(second)

    assert queue.call("GET", queue.keys.operation_lease) == b"two"


class Dying:
    """Lets an engine die at its n-th script: before the server runs it, or before the reply."""

    def __init__(self, store: OperatorStore, *, at: int, after: bool) -> None:
        self.left = at
        self.after = after
        self._script = store._link.script
        store._link.script = self.script  # type: ignore[method-assign]

    async def script(self, name: str, keys: Any, *arguments: Any) -> Any:
        self.left -= 1
        if self.left < 0 and not self.after:
            raise StoreUnavailable("closed", "died")
        reply = await self._script(name, keys, *arguments)
        if self.left < 0:
            raise StoreUnavailable("closed", "died")
        return reply


@pytest.mark.parametrize("after", [False, True], ids=["unsent", "unanswered"])
async def test_whoever_follows_a_dead_engine_goes_on_where_it_was(
    admin: Admin, queue: QueueWriter, engines: Engines, after: bool
) -> None:
    """
    Goal: between any two steps an engine may die; nothing is lost, doubled or left undone.

    Method: for each script in turn, an engine dies at it, first while the operation goes forth,
    then while it is taken back; another one, whose lease is free, finishes.
    """
    for number in range(150):
        queue.bury(f"j{number}", fingerprint="ab"[number % 2] * 12)
    records, groups = entries(queue), queue.groups()
    died = 0
    for at in range(40):
        plan = await admin.plan_operation(QUEUE, "retry", EVERY, rate=100, canary=0)
        name = (await started(admin, plan)).record.id
        died += await one_dies(admin, engines, queue, at, after, until=("following", "releasing"))
        moved = len(delayed(queue))
        assert moved == (await admin.operation(QUEUE, name)).moved
        assert moved + len(queue.dead()) == 150
        await admin.undo_operation(QUEUE, name)
        died += await one_dies(admin, engines, queue, at, after, until=("undone",))
        assert (await admin.operation(QUEUE, name)).undone == moved
        told = [each for each in await admin.audit() if each.what == "retry-undone"]
        assert [each.detail["operation"] for each in told].count(name) == 1
        assert await engines.stores[0].operations.live(QUEUE) == []
        assert delayed(queue) == []
        assert sorted(entries(queue)) == sorted(records)
        assert queue.groups() == groups
        if not died:
            break
        died = 0
    else:
        raise AssertionError("more scripts than this test can count")


async def one_dies(
    admin: Admin, engines: Engines, queue: QueueWriter, at: int, after: bool, until: tuple[str, ...]
) -> int:
    """Let an engine die at its n-th script, and another one finish; tells whether it died."""
    first = engines.driver("one")
    dying = Dying(engines.stores[-1], at=at, after=after)
    for _ in range(3):
        try:
            await engines.turn(first)
        except StoreUnavailable:
            break
    queue.call("DEL", queue.keys.operation_lease)
    second = engines.driver("two")
    for _ in range(5):
        await engines.turn(second)
    (latest, *_) = (await admin.operations()).operations
    assert latest.record.state in until
    queue.call("DEL", queue.keys.operation_lease)
    return int(dying.left < 0)


async def test_operations_that_are_over_are_forgotten_beyond_a_bound(
    admin: Admin, queue: QueueWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.admin.operations.KEPT_MAX", 3)
    monkeypatch.setattr("engine.admin.operations.LIVE_MAX", 2)
    queue.bury("j1")
    names = []
    for _ in range(5):
        plan = await admin.plan_operation(QUEUE, "discard", EVERY)
        names.append((await started(admin, plan)).record.id)
        await admin.undo_operation(QUEUE, names[-1])
    kept = await admin.operations(QUEUE)
    assert [each.record.id for each in kept.operations] == names[:1:-1]
    assert (await admin.operations(QUEUE, limit=1)).more == 2

    for _ in range(2):
        await started(admin, await admin.plan_operation(QUEUE, "retry", EVERY))
    with pytest.raises(WrongState, match="under way; stop one first"):
        await started(admin, await admin.plan_operation(QUEUE, "retry", EVERY))


def release(queue: QueueWriter, count: int) -> None:
    """Let the next jobs go to their lanes before their time, as if it had come."""
    for (stream, *fields), _ in delayed(queue)[:count]:
        queue.call("ZPOPMIN", queue.keys.delayed)
        queue.call("XADD", queue.keys.lane(stream.decode()), "*", *fields)


def commit_now(queue: QueueWriter, name: str) -> None:
    """Let the time pass in which a discard can be taken back."""
    raw = queue.call("HGET", queue.keys.operations, name)
    record = msgspec.json.decode(raw) | {"commitMs": 1}
    queue.call("HSET", queue.keys.operations, name, msgspec.json.encode(record))
