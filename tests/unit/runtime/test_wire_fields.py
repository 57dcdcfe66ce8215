"""The fields of the wire that steer a job, as handlers and callers see them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine import Cancel, Job, Registry
from engine.testing import EngineHarness
from engine.testing.clock import START_MS
from engine.wire.packing import pack
from tests.support.engines import NO_WAIT, QUEUE

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Seen(msgspec.Struct):
    """What handlers saw of their jobs."""

    jobs: list[Job] = []

    def at(self, index: int) -> Any:
        return self.jobs[index]


def seeing(seen: Seen, **options: Any) -> Registry:
    registry = Registry()

    @registry.job("work", queue=QUEUE, **{"retry": NO_WAIT, **options})
    async def work(job: Job, payload: dict[str, Any]) -> dict[str, Any]:
        seen.jobs.append(job)
        if payload.get("cancel"):
            raise Cancel("not wanted")
        return {"got": payload}

    return registry


@pytest.mark.parametrize("fields", [{"delay": 90_000}, {"at": START_MS + 90_000}])
async def test_a_job_waits_for_its_time(fields: dict[str, int]) -> None:
    seen = Seen()
    async with EngineHarness(seeing(seen)) as engine:
        job_id = engine.add("work", **fields)
        await engine.until(engine.delayed)
        await engine.advance(89.9)
        assert not seen.jobs

        await engine.advance(0.2)
        await engine.until_ended(job_id)
        assert seen.at(0).enqueued_ms == START_MS
        assert seen.at(0).attempt == 1


async def test_a_time_that_has_passed_is_now() -> None:
    async with EngineHarness(seeing(Seen())) as engine:
        job_id = engine.add("work", at=1)
        await engine.until_ended(job_id)

        assert job_id in engine.done()


async def test_due_jobs_start_in_the_order_of_their_times() -> None:
    seen = Seen()
    async with EngineHarness(seeing(seen), concurrency=1) as engine:
        late = engine.add("work", delay=3_000)
        early = engine.add("work", delay=1_000)
        # Due before what the promoter sleeps for.
        await engine.advance(0.5)
        first = engine.add("work", delay=100)
        await engine.advance(0.15)
        await engine.until_ended(first)
        assert engine.clock.now_ms() - START_MS < 700

        await engine.drain()
        assert [job.id for job in seen.jobs] == [first, early, late]


@pytest.mark.parametrize("fields", [{"ttl": 5_000}, {"expires": START_MS + 5_000}])
async def test_a_job_that_would_start_too_late_is_dead(fields: dict[str, int]) -> None:
    seen = Seen()
    async with EngineHarness(seeing(seen)) as engine:
        in_time = engine.add("work", **fields)
        await engine.until_ended(in_time)
        late = engine.add("work", delay=6_000, **fields)
        await engine.drain()

        assert len(seen.jobs) == 1
        dead = engine.dead()[late]
        assert (dead.reason, dead.attempts) == ("expired", 0)


@pytest.mark.parametrize("version", [1, 2])
async def test_the_present_version_and_the_one_before_are_taken(version: int) -> None:
    seen = Seen()
    async with EngineHarness(seeing(seen, version=2)) as engine:
        job_id = engine.add("work", v=version)
        await engine.until_ended(job_id)

        assert seen.at(0).version == version


async def test_an_unknown_version_waits_for_an_engine_that_knows_it_and_then_is_dead() -> None:
    seen = Seen()
    async with EngineHarness(seeing(seen)) as engine:
        job_id = engine.add("work", v=3)
        await engine.until(engine.delayed)
        await engine.advance(20)
        assert not engine.dead()

        await engine.drain()
        dead = engine.dead()[job_id]
        assert (dead.reason, dead.attempts, seen.jobs) == ("version-unknown", 0, [])
        assert 600_000 <= dead.died_ms - dead.enqueued_ms < 620_000


async def test_a_newer_engine_takes_what_an_older_one_did_not_know() -> None:
    seen = Seen()
    async with EngineHarness(seeing(seen)) as old:
        job_id = old.add("work", v=2)
        await old.until(old.delayed)
    async with EngineHarness(
        seeing(seen, version=2), clock=old.clock, model=old.model, name="engine-2"
    ) as new:
        await new.drain()

        assert job_id in new.done()


async def test_headers_trace_and_id_reach_the_handler() -> None:
    seen = Seen()
    async with EngineHarness(seeing(seen)) as engine:
        job_id = engine.add("work", id="order-7/ä", traceparent=TRACE, colour="rot", Größe="1")
        plain = engine.add("work", lane="critical")
        await engine.until_ended(job_id, plain)

        job = next(job for job in seen.jobs if job.id == "order-7/ä")
        assert job_id == "order-7/ä"
        assert job.headers == {"colour": "rot", "Größe": "1"}
        assert job.traceparent == TRACE
        assert job.queue == QUEUE
        assert plain.startswith("c-")
        assert next(job for job in seen.jobs if job.id == plain).headers == {}


async def test_an_outcome_is_told_on_the_reply_stream() -> None:
    reply = f"mq:{{{QUEUE}}}:reply:caller-1"
    async with EngineHarness(seeing(Seen())) as engine:
        done = engine.add("work", {"a": 1}, reply=reply)
        dead = engine.add("work", {"cancel": 1}, reply=reply)
        malformed = engine.add("work", b"[1]", reply=reply)
        await engine.until_ended(done, dead, malformed)

        told = [
            dict(zip(fields[::2], fields[1::2], strict=True))
            for fields in engine.model.queue(QUEUE).replies[reply].entries.values()
        ]
        by_id = {fields[b"id"].decode(): fields for fields in told}
        assert len(told) == 3
        assert by_id[done] == {
            b"id": done.encode(),
            b"type": b"work",
            b"attempt": b"1",
            b"outcome": b"done",
            b"result": b'{"got":{"a":1}}',
        }
        assert by_id[dead][b"outcome"] == b"dead"
        assert by_id[dead][b"reason"] == b"cancelled"
        assert by_id[dead][b"error"] == b"not wanted"
        assert by_id[malformed][b"reason"] == b"malformed"


@pytest.mark.parametrize(
    ("reply", "patterns", "allowed"),
    [
        ("mq:{other}:reply:x", (), False),
        ("mq:{other}:reply:x", ("app:*",), False),
        ("mq:{other}:reply:x", ("mq:{other}:reply:*",), True),
        ("app:answers", (), False),
        ("app:answers", ("app:*",), True),
        (f"mq:{{{QUEUE}}}:dead", (), False),
        (f"mq:{{{QUEUE}}}:reply:x", ("app:*",), True),
    ],
)
async def test_only_allowed_streams_are_written_to(
    reply: str, patterns: tuple[str, ...], allowed: bool
) -> None:
    async with EngineHarness(seeing(Seen()), reply_patterns=patterns) as engine:
        job_id = engine.add("work", reply=reply)
        await engine.until_ended(job_id)

        if allowed:
            assert job_id in engine.done()
            assert len(engine.model.queue(QUEUE).replies[reply].entries) == 1
        else:
            assert engine.dead()[job_id].rule == "reply-key"
            assert not engine.model.queue(QUEUE).replies


async def test_a_retried_job_keeps_its_fields() -> None:
    seen = Seen()
    registry = seeing(seen)

    @registry.around
    async def fail_once(job: Job, payload: Any, call_next: Any) -> Any:
        result = await call_next()
        if job.attempt == 1:
            raise ValueError("once")
        return result

    async with EngineHarness(registry) as engine:
        job_id = engine.add("work", {"a": 1}, id="x", colour="rot", attempts=2, traceparent=TRACE)
        await engine.drain()

        assert job_id in engine.done()
        first, second = seen.jobs
        assert (first.attempt, second.attempt) == (1, 2)
        for name in ("id", "headers", "traceparent", "enqueued_ms", "attempts_max", "lane"):
            assert getattr(first, name) == getattr(second, name)


async def test_garbage_in_the_delayed_set_is_buried_with_its_bytes() -> None:
    async with EngineHarness(seeing(Seen())) as engine:
        engine.model.queue(QUEUE).delayed[b"\x00garbage"] = 0
        engine.model.queue(QUEUE).delayed[pack([b"nolane", b"a", b"b"])] = 0
        await engine.drain()

        (first, second) = engine.model.queue(QUEUE).dead.entries.values()
        assert {first[3], second[3]} == {b"\x00garbage", pack([b"nolane", b"a", b"b"])}
        assert {record.rule for record in engine.dead().values()} == {"type-missing"}
