"""How a failed job comes back, and how it is judged then."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine import Exponential, Job, Registry, Retry, Snooze
from engine.core import outcome as was
from engine.errors import StoreRefused
from engine.runtime.attempt import Admission, Ask
from engine.runtime.jobs import unknown_type
from engine.store.base import Batch, Lease, Settlement
from engine.telemetry import QueueMeter
from engine.testing import EngineHarness
from engine.testing.clock import START_MS
from engine.testing.events import Settled
from engine.wire.codec import META, Limits, encode_meta
from schemas.job import AttemptRecord, ErrorRecord, Meta
from schemas.rules import LANES
from tests.simulation.jobs import bound_type
from tests.support.engines import NO_WAIT, QUEUE


class Boom(Exception):
    """A failure with a class of its own."""


def failing(times: int, error: Exception, **options: Any) -> Registry:
    registry, left = Registry(), [times]

    @registry.job("work", queue=QUEUE, **{"retry": NO_WAIT, **options})
    async def work(job: Job, payload: dict[str, Any]) -> None:
        if left[0]:
            left[0] -= 1
            raise error

    return registry


def settlements(engine: EngineHarness) -> list[Settlement]:
    return [event.settlement for event in engine.signals.seen if isinstance(event, Settled)]


@pytest.mark.parametrize("error", [Boom(), Retry(after_ms=0)])
async def test_a_job_without_a_delay_goes_to_the_end_of_its_lane(error: Exception) -> None:
    async with EngineHarness(failing(1, error), concurrency=1) as engine:
        job_id = engine.add("work", lane="high")
        await engine.until_ended(job_id)

        first, last = settlements(engine)
        assert (len(first.again), first.retries) == (1, [])
        assert last.ended != first.ended
        assert engine.model.queue(QUEUE).stats["retried:work"] == 1


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (Boom(), {"retry": Exponential(3, base_s=1, jitter=0)}),
        (Retry(after_ms=1_000), {}),
        # It spends no attempt, so nothing else bounds how often it comes back.
        (Snooze(after_ms=0), {}),
    ],
)
async def test_what_is_put_off_waits_in_the_delayed_set(
    error: Exception, options: dict[str, Any]
) -> None:
    async with EngineHarness(failing(1, error, **options)) as engine:
        job_id = engine.add("work")
        await engine.drain()

        first = settlements(engine)[0]
        assert (first.again, len(first.retries)) == ([], 1)
        assert job_id in engine.done()


async def test_a_keyed_job_comes_back_with_its_turn() -> None:
    async with EngineHarness(failing(1, Boom())) as engine:
        job_id = engine.add("work", key="k")
        await engine.drain()

        assert job_id in engine.done()
        assert all(not settlement.again for settlement in settlements(engine))


async def test_what_a_lane_does_not_take_back_is_put_off() -> None:
    refusals = []

    def refuse(verb: str, moment: str) -> None:
        if verb == "settle" and not refusals:
            refusals.append(moment)
            raise StoreRefused("full", "the lane is at its last id")

    async with EngineHarness(failing(1, Boom())) as engine:
        engine.store.faults = refuse
        job_id = engine.add("work", {"a": 1}, colour="red")
        await engine.drain()

        first, *_ = settlements(engine)
        assert (first.again, len(first.retries)) == ([], 1)
        assert job_id in engine.done()
        assert engine.model.queue(QUEUE).stats["retried:work"] == 1


# How an entry that comes back is judged.

STORY = AttemptRecord(
    number=1,
    at_ms=START_MS,
    run_ms=3,
    engine="a",
    outcome="failed",
    error=ErrorRecord(kind="Boom", message="no", traceback="a.py:1 in b"),
)
TOLD = Meta(id="n-1-0", enqueued_ms=START_MS - 9, attempts=1, why="backoff", history=(STORY,))


def told(**parts: Any) -> bytes:
    return encode_meta(msgspec.structs.replace(TOLD, **parts))


def admission() -> Admission:
    bound = bound_type()
    judge = Admission(
        {"work": bound},
        unknown_type(QUEUE, QueueMeter(["work"], LANES)),
        limits=Limits(data_bytes_max=100),
        reporter=None,  # type: ignore[arg-type] - nobody reports
        now_ms=lambda: START_MS,
    )
    judge.follow(held=())
    return judge


@pytest.mark.parametrize("deliveries", [1, 2])
@pytest.mark.parametrize("data", [b'{"n":1}', b"[]", b"{", b'{"n":"%s"}' % (b"x" * 100)])
@pytest.mark.parametrize(
    "meta",
    [
        told(),
        told(attempts=0, why="snooze", snoozes=3, history=()),
        told(attempts=7, lost=2, redrives=1),
        told(why="moved"),
        told(ticket="1763769600000000-1763769600000", why=""),
        told(cancelled="7b7d"),
        b'{"id":"x"}',
        b'{"id":"x","enqueued_ms":-1}',
        b"\xff",
    ],
)
def test_a_bare_job_that_comes_back_is_judged_like_any_other(
    meta: bytes, data: bytes, deliveries: int
) -> None:
    """Method: the same fields in another order are no bare job, and mean the same."""
    batch = Batch(lane="normal", since=0.0)
    bare = [b"type", b"work", b"data", data, META, meta]
    other = [META, meta, b"data", data, b"type", b"work"]
    judged = [
        admission().admit(Lease(batch, b"%d-0" % START_MS, fields, deliveries))
        for fields in (bare, other)
    ]

    assert [seen(*each) for each in judged[:1]] == [seen(*each) for each in judged[1:]]


def seen(job: Any, payload: Any, outcome: was.Outcome | Ask | None) -> dict[str, Any]:
    """What handlers and settlements see of a judged job."""
    names = ("id", "type", "attempt", "attempts_max", "enqueued_ms", "lost", "ticket", "headers")
    return {
        "payload": payload,
        "outcome": outcome,
        "envelope": job.envelope,
        "gated": job.lease.gated,
        **{name: getattr(job, name) for name in names},
    }


async def test_a_held_type_holds_what_comes_back() -> None:
    judge = admission()
    judge.follow(held={"work"})
    fields = [b"type", b"work", b"data", b"{}", META, told()]

    _, _, outcome = judge.admit(Lease(Batch(lane="normal", since=0.0), b"1-0", fields))

    assert outcome == was.Held()


@pytest.mark.parametrize(
    ("fields", "data", "word"),
    [
        ({}, b"{}", "done"),
        ({"unique": "v"}, b"{}", "done"),
        ({"expires": "1"}, b"{}", "dead"),
        ({"attempts": "many"}, b"{}", "dead"),
        ({}, b"[", "dead"),
        ({}, b"1", "dead"),
    ],
    ids=["done", "duplicate", "expired", "broken", "no-json", "no-payload"],
)
async def test_an_operation_is_told_of_each_end_of_its_jobs(
    fields: dict[str, str], data: bytes, word: str
) -> None:
    """Its canary, and its end, wait for all of them."""
    meta = Meta(id="back", enqueued_ms=START_MS, redrives=1, why="redrive", operation="op/1-1")
    async with EngineHarness(failing(0, Boom()), concurrency=1) as engine:
        engine.add("work", id="first", unique="v")
        engine.add("work", data, _engine=encode_meta(meta).decode(), **fields)
        await engine.drain()

        told = [each for one in settlements(engine) for each in one.brought_back]
        assert told == [(word, "op/1-1")]
