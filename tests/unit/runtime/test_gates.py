"""Order by key, limits and uniqueness, as handlers see them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from engine import Exponential, Job, Registry
from engine.core import outcome as was
from engine.core.decide import decide
from engine.errors import Limited
from engine.runtime.attempt import Admission, Ask
from engine.runtime.endings import Ending
from engine.runtime.jobs import LiveJob
from engine.runtime.leaving import leaves_of
from engine.store.base import Batch, Lease
from engine.store.gates import ticket_of
from engine.testing import EngineHarness
from engine.testing.clock import START_MS
from engine.testing.gates_state import Head, Noted, Taken
from engine.wire.codec import Limits, encode_meta
from schemas.job import ErrorRecord, Meta
from tests.simulation.jobs import bound_type
from tests.support.engines import NO_WAIT, QUEUE


class Journal:
    """What handlers did, and how many ran side by side."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    async def run(self, job: Job, group: str, *, turns: int = 3) -> None:
        self.started.append(job.id)
        self.running[group] += 1
        self.most[group] = max(self.most[group], self.running[group])
        for _ in range(turns):
            await asyncio.sleep(0)
        self.running[group] -= 1


def app(journal: Journal, **options: Any) -> Registry:
    registry = Registry()

    @registry.job("work", queue=QUEUE, **{"retry": NO_WAIT, **options})
    async def work(job: Job, payload: dict[str, Any]) -> None:
        if payload.get("limit"):
            await job.limit(payload["limit"])
        await journal.run(job, payload.get("group", ""))
        if job.attempt <= payload.get("fails", 0):
            raise ValueError("not yet")

    return registry


async def test_jobs_of_a_key_run_one_at_a_time_in_order() -> None:
    """Retries keep the turn; other keys go on meanwhile."""
    journal = Journal()
    async with EngineHarness(app(journal)) as engine:
        for number in range(12):
            key = f"k{number % 3}"
            data = {"group": key, "fails": number % 2}
            engine.add("work", data, id=f"{key}-{number:02}", key=key)
        await engine.drain()

        assert len(engine.done()) == 12
    assert set(journal.most.values()) == {1}
    for key in ("k0", "k1", "k2"):
        first_starts = dict.fromkeys(each for each in journal.started if each.startswith(key))
        assert list(first_starts) == sorted(first_starts)


@pytest.mark.parametrize("broken", [b"", b"type", b"data", b"key"])
async def test_an_entry_of_a_key_and_no_more_is_judged_like_any_other(broken: bytes) -> None:
    """
    Goal: what skips the fields that it does not have breaks no rule.

    Method: the same entry with a header, which is looked at in full.
    """
    admission = Admission(
        {"work": bound_type()}, bound_type(), limits=Limits(), reporter=Silent(), now_ms=lambda: 0
    )
    short = [b"type", b"work", b"data", b"{}", b"key", b"k"]
    parts = {b"type": 1, b"data": 3, b"key": 5}
    if broken:
        short[parts[broken]] = b"\xff\xff"
    told = []
    for fields in (short, [*short, b"tenant", b"a"]):
        for admitted in (False, True):
            lease = Lease(Batch(lane="normal", since=0.0), b"1-1", fields, admitted=admitted)
            job, payload, outcome = admission.admit(lease)
            name = job.envelope.key if job.envelope else ""
            told.append((type(job.bound), job.type, name, payload, outcome, lease.gated))

    assert told[:2] == told[2:]


async def test_a_limit_holds_back_jobs_of_its_type() -> None:
    journal = Journal()
    registry = app(journal)
    registry.limit(QUEUE, "type:work", concurrency=2)
    async with EngineHarness(registry) as engine:
        for number in range(10):
            engine.add("work", {}, id=f"j{number}")
        await engine.drain()

        assert len(engine.done()) == 10
    assert journal.most[""] == 2
    assert journal.started == [f"j{number}" for number in range(10)]


async def test_a_job_that_waits_for_a_named_limit_keeps_its_others() -> None:
    """Goal: what has met one limit inside its handler does not slip past the limit of its type."""
    journal = Journal()
    registry = app(journal)
    registry.limit(QUEUE, "type:work", concurrency=3)
    registry.limit(QUEUE, "sms", concurrency=1)
    async with EngineHarness(registry) as engine:
        for number in range(12):
            engine.add("work", {"limit": "sms"} if number % 2 else {}, id=f"j{number}")
        await engine.drain()

        assert len(engine.done()) == 12
        assert not engine.model.queue(QUEUE).places
    assert journal.most[""] <= 3


@pytest.mark.parametrize("rule", [{"concurrency": 1}, {"rate": 1, "burst": 1}])
async def test_a_named_limit_lets_all_through_in_the_end(rule: dict[str, float]) -> None:
    """What a job was let through with serves for its first question, or it would wait on."""
    journal = Journal()
    registry = app(journal)
    registry.limit(QUEUE, "sms", **rule)  # type: ignore[arg-type]
    async with EngineHarness(registry) as engine:
        for number in range(5):
            engine.add("work", {"limit": "sms", "group": "sms"}, id=f"j{number}")
        await engine.drain()

        assert len(engine.done()) == 5
    assert journal.most["sms"] == 1
    assert journal.started == [f"j{number}" for number in range(5)]


async def test_a_job_that_says_limited_by_itself_is_not_lost() -> None:
    registry, tries = Registry(), []

    @registry.job("work", queue=QUEUE, retry=NO_WAIT)
    async def work(job: Job, payload: dict[str, Any]) -> None:
        tries.append(job.id)
        if len(tries) == 1:
            raise Limited("sms")

    async with EngineHarness(registry) as engine:
        job_id = engine.add("work", {})
        await engine.drain()

        assert list(engine.done()) == [job_id]
    assert tries == [job_id, job_id]


async def test_a_duplicate_is_done_without_running() -> None:
    journal = Journal()
    async with EngineHarness(app(journal)) as engine:
        for number in range(3):
            engine.add("work", {}, id=f"j{number}", unique="v")
        await engine.drain()

        assert journal.started == ["j0"]
        results = {job.id: job.result for job in engine.done().values()}
        told = b'{"duplicateOf":"j0"}'
        assert results == {"j0": b"", "j1": told, "j2": told}


async def test_a_throttled_job_that_is_tried_again_past_its_span_runs() -> None:
    """The value is another's by then, but it was let through before that one."""
    journal = Journal()
    registry = app(journal, retry=Exponential(attempts=3, base_s=60, jitter=0))
    async with EngineHarness(registry) as engine:
        engine.add("work", {"fails": 1}, id="first", unique="v", throttle=10_000)
        await engine.until(engine.delayed)
        await engine.advance(11)
        engine.add("work", {}, id="second", unique="v", throttle=600_000)
        engine.add("work", {}, id="third", unique="v", throttle=600_000)
        await engine.until_ended("second", "third")
        await engine.drain()

        assert journal.started == ["first", "second", "first"]
        assert engine.done()["third"].result == b'{"duplicateOf":"second"}'


@pytest.mark.parametrize("fields", [{"ttl": "soon"}, {"debounce": "x"}])
async def test_a_malformed_job_gives_back_the_value_that_its_client_took(
    fields: dict[str, str],
) -> None:
    journal = Journal()
    async with EngineHarness(app(journal)) as engine:
        week_ms = START_MS + 604_800_000
        engine.model.queue(QUEUE).taken["uv"] = Taken("odd", week_ms, START_MS, "0")
        engine.add("work", {}, id="odd", unique="v", **fields)
        await engine.until_ended("odd")
        engine.add("work", {}, id="next", unique="v")
        await engine.drain()

    assert journal.started == ["next"]


async def test_a_malformed_job_keeps_its_key_where_deaths_do() -> None:
    journal = Journal()
    async with EngineHarness(app(journal)) as engine:
        model = engine.model.queue(QUEUE)
        model.control_hash["on_dead"] = "block"
        # As if another engine had asked for a later job of the key.
        ticket = ticket_of(b"%d-0" % START_MS).encode()
        model.busy["normal"][b"k"] = ticket
        model.admitted["normal", b"%d-0" % START_MS] = Noted("r", Head(key=b"k"), ticket)
        engine.add("work", {}, id="odd", key="k", ttl="soon")
        await engine.until_ended("odd")

        # By this place, `dead discard` and `dead retry` find what the death keeps.
        assert model.busy["normal"] == {b"k": b"!" + ticket}
        assert engine.dead()["odd"].ticket == ticket.decode()


@pytest.mark.parametrize(
    "ended",
    [was.Trimmed(), was.Broken(rule="key-name", path="", error=ErrorRecord(kind="key-name"))],
)
def test_a_death_that_tells_no_key_keeps_none(ended: was.Outcome) -> None:
    """Goal: nobody could bring the job back or discard it, so those behind it must not wait."""
    lease = Lease(Batch(lane="normal", since=0.0), b"%d-0" % START_MS, [])
    job = LiveJob(lease, bound_type(), 1, 1, Silent())
    decision = decide(job, ended, job.bound.policy, now_ms=START_MS, draw=0.5)

    (left,) = leaves_of([], [Ending(job, ended, decision, START_MS, 0)], gates=True)

    assert (left.how, left.key) == ("free", "")


async def test_a_moved_job_is_judged_like_a_new_one() -> None:
    journal = Journal()
    moved = encode_meta(Meta(id="moved", enqueued_ms=START_MS, why="moved")).decode()
    async with EngineHarness(app(journal), id_window_ms=600_000) as engine:
        engine.add("work", {}, id="first", unique="v", debounce=5_000)
        await engine.until(engine.delayed)
        await engine.advance(1)
        engine.add("work", {}, id="moved", unique="v", debounce=5_000, _engine=moved)
        engine.add("work", {}, id="moved", _engine=moved)
        engine.add("work", {}, id="later", delay=9_000, _engine=moved.replace("moved", "later", 1))
        await engine.until(lambda: len(engine.delayed()) == 3)
        await engine.drain()

        assert journal.started == ["moved", "later"]
        assert engine.dead() == {}


async def test_a_job_whose_time_comes_while_it_asks_asks_for_the_rest() -> None:
    """Before its time it claims its value alone; its turn and its limits it asks for later."""
    now_ms = [START_MS]
    bound = bound_type()
    admission = Admission(
        {"work": bound}, bound, limits=Limits(), reporter=Silent(), now_ms=lambda: now_ms[0]
    )
    fields = [b"type", b"work", b"data", b"{}", b"delay", b"10", b"key", b"k", b"unique", b"v"]
    lease = Lease(Batch(lane="normal", since=0.0), b"%d-0" % START_MS, fields)

    questions = []
    for _ in range(2):
        _, _, ask = admission.admit(lease)
        assert isinstance(ask, Ask)
        questions.append((ask.question.unique, ask.question.key))
        lease.admitted = True
        now_ms[0] += 11

    assert questions == [("v", ""), ("v", "k")]
    assert admission.admit(lease)[2] is None


class Silent:
    def progressed(self, job: LiveJob, percent: float, message: str) -> None:
        """Nobody listens."""


@pytest.mark.parametrize("how", ["by a rule that is gone", "by an engine before"])
async def test_a_job_that_asks_for_its_id_alone_gives_back_what_was_taken_for_it(how: str) -> None:
    """
    Goal: a place is not kept for ever by a job that asks for nothing but its id when it starts.

    Method: it is let through by a limit whose rule goes meanwhile, or another engine had noted it.
    """
    journal = Journal()
    engine = EngineHarness(app(journal))
    queue = engine.model.queue(QUEUE)
    queue.open()
    consumer = "before"
    entry = queue.add("normal", [b"type", b"work", b"data", b"{}", b"id", b"j1"])
    if how == "by an engine before":
        queue.read(consumer, "normal", 1)
        queue.streams["normal"].group.pending[entry].delivered_ms -= 10**12  # type: ignore[union-attr]
        place = ("normal", entry)
    else:
        fields = queue.streams["normal"].entries.pop(entry)
        queue._use_gates()
        meta = Meta(id="j1", enqueued_ms=START_MS, ticket=ticket_of(entry))
        fields = [*fields, b"_engine", encode_meta(meta)]
        place = ("normal:ready", queue.add("normal:ready", fields))
    queue._use_gates()
    queue.places[b"sms"] = 1
    head = Head(job_id=b"j1", limits=b"sms")
    queue.admitted[place] = Noted("a", head, ticket_of(entry).encode())

    async with engine:
        # Far enough for a look at lost jobs.
        await engine.advance(5)
        await engine.until_ended("j1")

    assert (dict(queue.places), queue.admitted) == ({}, {})
