"""Jobs that an operator or a producer cancels, in every state, as the engine ends them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from engine import Cancel, Exponential, Job, Registry, Snooze
from engine.testing import EngineHarness
from engine.testing.clock import START_MS
from engine.wire.codec import META, encode_meta
from engine.wire.tombstones import mark
from schemas.job import DeadRecord, Meta
from tests.support.engines import NO_WAIT, QUEUE

HOUR_S = 3_600.0


class Desk:
    """Handlers that wait to be let go, each with its own manners when it is cancelled."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.gate = asyncio.Event()
        self.registry = Registry()
        for handler in (self.wait, self.return_all_the_same, self.raise_instead, self.ignore):
            name = handler.__name__.replace("_", "-")
            self.registry.job(name, queue=QUEUE, timeout_s=86_400, retry=NO_WAIT)(handler)

    async def wait(self, job: Job, payload: dict[str, Any]) -> None:
        self.started.append(job.id)
        await self.gate.wait()

    async def return_all_the_same(self, job: Job, payload: dict[str, Any]) -> str:
        self.started.append(job.id)
        with contextlib.suppress(asyncio.CancelledError):
            await self.gate.wait()
        return "done before it was told"

    async def raise_instead(self, job: Job, payload: dict[str, Any]) -> None:
        self.started.append(job.id)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            raise ValueError("cleaning up failed") from None

    async def ignore(self, job: Job, payload: dict[str, Any]) -> None:
        self.started.append(job.id)
        while not self.gate.is_set():
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                continue


def order(engine: EngineHarness, *ids: str, **fields: Any) -> None:
    for job_id in ids:
        engine.model.queue(QUEUE).cancel(job_id, who="ada@desk", reason="not wanted", **fields)


def tombstones(engine: EngineHarness) -> dict[str, bytes]:
    return engine.model.queue(QUEUE).cancelled


def check(record: DeadRecord, *, attempts: int) -> None:
    assert record.reason == "cancelled"
    assert record.error.message == "cancelled by ada@desk: not wanted"
    assert record.attempts == attempts
    assert [each.outcome for each in record.history] == ["cancelled"] * attempts


async def test_a_running_job_is_cancelled_within_a_second_and_recorded() -> None:
    desk = Desk()
    async with EngineHarness(desk.registry) as engine:
        job_id, other = engine.add("wait"), engine.add("wait")
        await engine.until(lambda: len(desk.started) == 2)
        order(engine, job_id)
        await engine.advance(0.3)
        await engine.until_ended(job_id)

        check(engine.dead()[job_id], attempts=1)
        assert other not in engine.dead()
        assert not tombstones(engine)
        assert engine.engine.meters.queues[QUEUE].cancelled == 1
        desk.gate.set()
        await engine.until_ended(other)
        assert other in engine.done()


async def test_what_somebody_cancelled_counts_as_no_failure_and_what_cancels_itself_does() -> None:
    registry = Registry()

    @registry.job("refuse", queue=QUEUE)
    async def refuse(job: Job, payload: dict[str, Any]) -> None:
        raise Cancel("no such order")

    async with EngineHarness(registry) as engine:
        unwanted = engine.add("refuse", delay=1_000)
        order(engine, unwanted)
        refused = engine.add("refuse")
        await engine.advance(0.3)
        await engine.until_ended(unwanted, refused)

        assert {each.reason for each in engine.dead().values()} == {"cancelled"}
        counted = engine.model.queue(QUEUE).stats
        assert {name: counted[name] for name in counted if name.endswith(":refuse")} == {
            "cancelled:refuse": 1,
            "dead:refuse": 1,
        }
        meter = engine.engine.meters.queues[QUEUE].of("refuse")
        assert (meter.cancelled, meter.dead) == (1, 1)


async def test_a_waiting_job_ends_when_its_turn_comes_and_never_starts() -> None:
    desk = Desk()
    async with EngineHarness(desk.registry, concurrency=1, prefetch_max=1) as engine:
        first = engine.add("wait")
        await engine.until(lambda: desk.started == [first])
        bare, named = engine.add("wait"), engine.add("wait", id="order-7")
        order(engine, bare, named)
        await engine.advance(0.3)
        desk.gate.set()
        await engine.until_ended(first, bare, named)

        assert desk.started == [first]
        check(engine.dead()[bare], attempts=0)
        check(engine.dead()["order-7"], attempts=0)
        assert not tombstones(engine)


@pytest.mark.parametrize("fields", [{"delay": 1_000_000}, {"at": int(START_MS) + 1_000_000}])
async def test_a_delayed_job_does_not_wait_for_its_time(fields: dict[str, Any]) -> None:
    desk = Desk()
    async with EngineHarness(desk.registry) as engine:
        job_id = engine.add("wait", **fields)
        await engine.until(lambda: len(engine.delayed()) == 1)
        order(engine, job_id)
        await engine.advance(0.6)
        await engine.until_ended(job_id)

        check(engine.dead()[job_id], attempts=0)
        assert not engine.delayed()


@pytest.mark.parametrize("marked", [mark(b'{"who":"ada@desk","reason":"not wanted"}'), "xyz"])
async def test_a_job_that_carries_its_tombstone_never_starts(marked: str) -> None:
    """Goal: it may come to an engine that has not heard of the order."""
    desk = Desk()
    async with EngineHarness(desk.registry) as engine:
        engine.model.queue(QUEUE).cancelled["n-1-1"] = b"{}"
        meta = encode_meta(Meta(id="n-1-1", enqueued_ms=1, attempts=2, cancelled=marked))
        engine.add_entry([b"type", b"wait", b"data", b"{}", META, meta])
        await engine.until_ended("n-1-1")

        assert not desk.started
        assert engine.dead()["n-1-1"].reason == "cancelled"
        assert engine.dead()["n-1-1"].attempts == 2
        assert not tombstones(engine)


async def test_a_job_of_a_held_type_ends_while_the_others_stay() -> None:
    desk = Desk()
    async with EngineHarness(desk.registry) as engine:
        engine.model.queue(QUEUE).control_hash["hold:wait"] = "by hand"
        await engine.advance(0.3)
        aside, stays = engine.add("wait"), engine.add("wait")
        await engine.until(lambda: engine.signals.counts["aside"] == 2)
        order(engine, aside)
        await engine.advance(0.6)
        await engine.until_ended(aside)

        check(engine.dead()[aside], attempts=0)
        assert len(engine.model.queue(QUEUE).held["wait"].entries) == 1
        assert stays not in engine.dead()


async def test_a_handler_that_returns_all_the_same_is_done() -> None:
    """Cancelling asks; work that was finished is not called undone."""
    desk = Desk()
    async with EngineHarness(desk.registry) as engine:
        job_id = engine.add("return-all-the-same")
        await engine.until(lambda: desk.started == [job_id])
        order(engine, job_id)
        await engine.advance(0.3)
        await engine.until_ended(job_id)

        assert job_id in engine.done()
        assert not tombstones(engine)


async def test_a_handler_that_raises_something_else_is_not_tried_again() -> None:
    desk = Desk()
    async with EngineHarness(desk.registry) as engine:
        job_id = engine.add("raise-instead")
        await engine.until(lambda: desk.started == [job_id])
        order(engine, job_id)
        await engine.advance(0.3)
        await engine.until_ended(job_id)

        check(engine.dead()[job_id], attempts=1)


async def test_a_handler_that_ignores_its_cancelling_is_given_up_after_the_grace() -> None:
    desk = Desk()
    async with EngineHarness(desk.registry, cancel_grace_ms=500) as engine:
        job_id = engine.add("ignore")
        await engine.until(lambda: desk.started == [job_id])
        order(engine, job_id)
        await engine.advance(0.3)
        assert job_id not in engine.dead()
        await engine.advance(2.0)
        await engine.until_ended(job_id)

        check(engine.dead()[job_id], attempts=1)
        assert engine.engine.meters.stuck == 1
        desk.gate.set()


async def test_a_job_that_is_put_off_just_before_the_engine_knows_ends_all_the_same() -> None:
    registry = Registry()

    @registry.job("later", queue=QUEUE, retry=NO_WAIT)
    async def later(job: Job, payload: dict[str, Any]) -> None:
        # The order comes while it runs, and the engine has not looked since.
        order(engine, job.id)
        raise Snooze(10_000_000)

    async with EngineHarness(registry) as engine:
        job_id = engine.add("later")
        await engine.until(lambda: len(engine.delayed()) == 1)
        await engine.advance(0.6)
        await engine.until_ended(job_id)

        assert engine.dead()[job_id].reason == "cancelled"


async def test_an_id_that_is_used_again_after_the_cancel_runs() -> None:
    desk = Desk()
    desk.gate.set()
    async with EngineHarness(desk.registry) as engine:
        order(engine, "order-7")
        await engine.advance(1.0)
        engine.add("wait", id="order-7")
        await engine.until_ended("order-7")

        assert "order-7" in engine.done()


@pytest.mark.parametrize("raw", [b"{}", b"by hand", b'{"ahead":true}', b"\xff", b"7"])
async def test_a_tombstone_by_hand_stops_the_job_whatever_it_says(raw: bytes) -> None:
    desk = Desk()
    desk.gate.set()
    async with EngineHarness(desk.registry) as engine:
        tombstones(engine)["order-7"] = raw
        await engine.advance(1.0)
        engine.add("wait", id="order-7")
        await engine.until_ended("order-7")

        assert engine.dead()["order-7"].reason == "cancelled"
        assert not tombstones(engine)


async def test_a_tombstone_without_a_job_is_forgotten_after_an_hour() -> None:
    desk = Desk()
    async with EngineHarness(desk.registry) as engine:
        order(engine, "nobody")
        await engine.advance(10.0)
        assert "nobody" in tombstones(engine)
        engine.clock.move(HOUR_S)  # type: ignore[union-attr]
        await engine.advance(2.0)

        assert not tombstones(engine)


async def test_a_tombstone_is_kept_while_its_job_may_be_waiting() -> None:
    desk = Desk()
    async with EngineHarness(desk.registry, concurrency=1, prefetch_max=1) as engine:
        running = engine.add("wait")
        await engine.until(lambda: desk.started == [running])
        waiting = engine.add("wait")
        order(engine, waiting)
        await engine.advance(1.0)
        engine.clock.move(HOUR_S)  # type: ignore[union-attr]
        await engine.advance(2.0)

        assert waiting in tombstones(engine)


async def test_bare_jobs_are_plain_again_once_nothing_is_cancelled() -> None:
    desk = Desk()
    async with EngineHarness(desk.registry) as engine:
        (runner,) = engine.engine.runners.values()
        order(engine, "nobody")
        await engine.advance(0.3)
        assert not runner._admission.types["wait"].plain
        tombstones(engine).clear()
        await engine.advance(0.3)
        assert runner._admission.types["wait"].plain


async def test_a_job_behind_a_key_ends_without_its_turn_and_the_next_goes_on() -> None:
    desk = Desk()
    async with EngineHarness(desk.registry) as engine:
        ids = [engine.add("wait", id=f"k{n}", key="k") for n in range(3)]
        await engine.until(lambda: desk.started == ids[:1])
        parked = engine.model.queue(QUEUE).parked["normal"]
        await engine.until(lambda: len(parked) == 2)
        order(engine, ids[1])
        await engine.advance(0.6)
        await engine.until_ended(ids[1])

        check(engine.dead()[ids[1]], attempts=0)
        assert desk.started == ids[:1]
        desk.gate.set()
        await engine.until_ended(*ids)
        assert desk.started == [ids[0], ids[2]]
        assert not engine.model.queue(QUEUE).busy["normal"]


async def test_a_job_that_keeps_its_key_over_its_backoff_gives_it_away_when_cancelled() -> None:
    registry = Registry()
    started: list[str] = []

    @registry.job("flaky", queue=QUEUE, retry=Exponential(attempts=3, base_s=600, cap_s=600))
    async def flaky(job: Job, payload: dict[str, Any]) -> None:
        started.append(job.id)
        if job.id == "k0":
            raise ValueError("not yet")

    async with EngineHarness(registry) as engine:
        ids = [engine.add("flaky", id=f"k{n}", key="k") for n in range(2)]
        await engine.until(lambda: len(engine.delayed()) == 1)
        order(engine, "k0")
        await engine.advance(0.6)
        await engine.until_ended(*ids)

        assert (engine.dead()["k0"].reason, engine.dead()["k0"].attempts) == ("cancelled", 1)
        assert started == ids
        assert not engine.model.queue(QUEUE).busy["normal"]
