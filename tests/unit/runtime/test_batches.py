"""Batch handlers in a whole engine: when a batch begins, and what becomes of each of its jobs."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import pytest

from engine import Cancel, Hold, Job, Registry, Retry, Snooze
from engine.registry import CallNext
from engine.testing import EngineHarness
from tests.support.engines import NO_WAIT, QUEUE
from tests.unit.runtime.test_misbehaviour import Quiet, Unprintable

Jobs = list[Job]
Payloads = list[dict[str, Any]]


class Indexer:
    """
    A batch handler that keeps what it was given.

    Args:
        returns: Makes what it returns of the payloads.
        waits: It runs until :attr:`freed` is set.
        options: Of the registration.
    """

    def __init__(
        self,
        returns: Callable[[Payloads], Any] = lambda payloads: None,
        *,
        waits: bool = False,
        **options: Any,
    ) -> None:
        self.calls: list[list[int]] = []
        self.ended: list[str] = []
        self.freed = asyncio.Event()
        self.registry = Registry()
        chosen = {"size": 4, "wait_ms": 50, "retry": NO_WAIT, "timeout_s": 5, **options}

        @self.registry.batch("index", queue=QUEUE, **chosen)
        async def index(jobs: Jobs, payloads: Payloads) -> Any:
            self.calls.append([payload["n"] for payload in payloads])
            if waits:
                try:
                    await self.freed.wait()
                except asyncio.CancelledError:
                    self.ended.append("cancelled")
                    raise
            return returns(payloads)

    def add(self, engine: EngineHarness, count: int, **fields: Any) -> list[str]:
        return [engine.add("index", {"n": n}, **fields) for n in range(count)]

    async def gathered(self, engine: EngineHarness, count: int) -> None:
        (runner,) = engine.engine.runners.values()
        await engine.until(lambda: runner.batches.gathering == count, what=f"{count} gathered")

    async def called(self, engine: EngineHarness, times: int = 1) -> None:
        await engine.until(lambda: len(self.calls) == times, what=f"{times} calls")


async def _is_sound(engine: EngineHarness) -> None:
    (runner,) = engine.engine.runners.values()
    assert runner.workers.active == 0
    assert runner.settler.unsettled == 0
    assert runner.batches.gathering == 0
    assert all(each.waiting == 0 for each in runner.batches.batchers)


async def test_a_batch_begins_when_it_is_full_or_its_first_job_waited_long_enough() -> None:
    indexer = Indexer(lambda payloads: [payload["n"] for payload in payloads])
    async with EngineHarness(indexer.registry) as engine:
        ids = indexer.add(engine, 10)
        await engine.until_ended(*ids[:8])
        assert indexer.calls == [[0, 1, 2, 3], [4, 5, 6, 7]]

        await indexer.gathered(engine, 2)
        await engine.advance(0.049)
        assert len(indexer.calls) == 2
        await engine.advance(0.001)
        await engine.until_ended(*ids)

        assert indexer.calls[2:] == [[8, 9]]
        assert [engine.done()[job_id].result for job_id in ids] == [b"%d" % n for n in range(10)]
        # The wait for others is no part of the run.
        assert engine.done()[ids[9]].run_us == 0
        sizes = engine.engine.meters.queues[QUEUE].types["index"].batches
        assert sizes is not None
        assert (sizes.total, sizes.buckets()[-1]) == (10, ("+Inf", 3))
        await _is_sound(engine)


async def test_a_batch_begins_at_once_when_every_worker_waits_in_one() -> None:
    indexer = Indexer(size=100, wait_ms=60_000)
    async with EngineHarness(indexer.registry, concurrency=3) as engine:
        ids = indexer.add(engine, 9)
        await engine.until_ended(*ids)

        assert indexer.calls == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


async def test_the_fullest_batch_begins_when_every_worker_waits_in_one() -> None:
    indexer = Indexer(size=100, wait_ms=1_000)
    other = Indexer(size=100, wait_ms=1_000)
    indexer.registry.batch("other", queue=QUEUE, size=100, wait_ms=1_000)(
        other.registry.types["index"].function
    )
    async with EngineHarness(indexer.registry, concurrency=3) as engine:
        left = engine.add("other", {"n": 7})
        ids = indexer.add(engine, 2)
        await engine.until_ended(*ids)
        assert (indexer.calls, other.calls) == ([[0, 1]], [])

        await engine.advance(1)
        await engine.until_ended(left)
        assert other.calls == [[7]]


async def test_a_burst_does_not_wait_for_more() -> None:
    indexer = Indexer(size=100, wait_ms=60_000)
    engine = EngineHarness(indexer.registry)
    indexer.add(engine, 3)
    await engine.start(burst=True)

    assert await engine.ended() == 0
    assert indexer.calls == [[0, 1, 2]]
    assert len(engine.done()) == 3
    assert engine.clock.monotonic() < 30


async def test_each_job_has_its_own_end() -> None:
    ends = [None, {"ok": 1}, ValueError("no"), Retry(after_ms=0), Snooze(60_000), Cancel("stale")]
    indexer = Indexer(lambda payloads: [ends[payload["n"]] for payload in payloads], size=6)
    async with EngineHarness(indexer.registry) as engine:
        ids = indexer.add(engine, 6)
        await engine.until(lambda: len(engine.done()) == 2 and len(engine.dead()) == 1)
        assert engine.done()[ids[1]].result == b'{"ok":1}'
        assert engine.dead()[ids[5]].reason == "cancelled"
        assert engine.signals.counts["retried"] == 3

        await engine.advance(1)
        await engine.until(lambda: len(engine.dead()) == 3)
        assert [engine.dead()[ids[n]].error.kind for n in (2, 3)] == ["ValueError", "Retry"]
        assert [engine.dead()[ids[n]].attempts for n in (2, 3)] == [3, 3]
        assert len(engine.delayed()) == 1
        await _is_sound(engine)


@pytest.mark.parametrize("returned", [[1], "done", {}, True, [Retry, Retry]])
async def test_a_return_that_does_not_fit_fails_the_whole_batch(returned: Any) -> None:
    indexer = Indexer(lambda payloads: returned, size=2)
    async with EngineHarness(indexer.registry) as engine:
        ids = indexer.add(engine, 2, attempts=1)
        await engine.until_ended(*ids)

        for job_id in ids:
            error = engine.dead()[job_id].error
            assert error.kind == "engine.errors.OutcomesMismatch"
            assert error.message.startswith("returned ")
        await _is_sound(engine)


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (lambda: ValueError("all"), "ValueError"),
        (lambda: SystemExit(3), "SystemExit"),
        (KeyboardInterrupt, "KeyboardInterrupt"),
        (GeneratorExit, "GeneratorExit"),
        (asyncio.CancelledError, "CancelledError"),
        (StopIteration, "RuntimeError"),
        (Quiet, "Quiet"),
        (Unprintable, "Unprintable"),
    ],
)
@pytest.mark.parametrize("way", ["raises", "returns"])
async def test_whatever_is_raised_fails_each_job_by_its_own_policy(
    raised: Callable[[], BaseException], kind: str, way: str
) -> None:
    def end(payloads: Payloads) -> Any:
        if way == "raises":
            raise raised()
        return [raised()] * len(payloads)

    indexer = Indexer(end, size=2)
    async with EngineHarness(indexer.registry) as engine:
        ids = [engine.add("index", {"n": n}, attempts=n) for n in (1, 2)]
        await engine.drain()

        assert [engine.dead()[job_id].attempts for job_id in ids] == [1, 2]
        for job_id in ids:
            error = engine.dead()[job_id].error
            assert error.kind.rpartition(".")[2] == kind
            assert way == "returns" or "in end" in error.traceback
            assert error.traceback.count("in join") == 1
        await _is_sound(engine)


async def test_a_batch_may_hold_its_type() -> None:
    def hold(payloads: Payloads) -> None:
        raise Hold("no index")

    indexer = Indexer(hold)
    async with EngineHarness(indexer.registry) as engine:
        indexer.add(engine, 4)
        await engine.until(lambda: engine.signals.counts["aside"] == 4)
        await _is_sound(engine)


async def test_the_time_limit_is_that_of_the_call_and_ends_all_of_its_jobs() -> None:
    indexer = Indexer(waits=True, wait_ms=4_000)
    async with EngineHarness(indexer.registry) as engine:
        ids = indexer.add(engine, 2, attempts=1)
        await indexer.gathered(engine, 2)
        await engine.advance(4)
        await indexer.called(engine)
        await engine.advance(4.9)
        assert indexer.ended == []
        await engine.advance(0.2)
        await engine.until_ended(*ids)

        assert indexer.ended == ["cancelled"]
        for job_id in ids:
            dead = engine.dead()[job_id]
            assert (dead.reason, dead.error.kind) == ("timeout", "timeout")
            assert dead.error.message == "ran longer than its limit of 5 s"
            assert 5_000 <= dead.history[0].run_ms < 5_200
        await _is_sound(engine)


async def test_a_handler_that_swallows_its_cancellation_is_given_up_once() -> None:
    freed = asyncio.Event()
    registry = Registry()

    @registry.batch("index", queue=QUEUE, size=3, timeout_s=5, retry=NO_WAIT)
    async def index(jobs: Jobs, payloads: Payloads) -> None:
        while not freed.is_set():
            try:
                await freed.wait()
            except asyncio.CancelledError:
                continue

    async with EngineHarness(registry) as engine:
        ids = [engine.add("index", attempts=1) for _ in range(3)]
        await engine.until(lambda: engine.signals.counts["leased"] == 3)
        await engine.advance(5.5)
        assert not engine.dead()
        await engine.advance(1)
        await engine.until_ended(*ids)
        assert {engine.dead()[job_id].reason for job_id in ids} == {"timeout"}
        assert engine.engine.meters.stuck == 1
        await _is_sound(engine)

        freed.set()
        await engine.until(lambda: engine.engine.meters.stuck == 0)
        assert not engine.done()


async def test_a_handler_may_still_finish_while_it_is_cancelled() -> None:
    registry = Registry()

    @registry.batch("index", queue=QUEUE, size=2, timeout_s=5, retry=NO_WAIT)
    async def index(jobs: Jobs, payloads: Payloads) -> list[Any]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return ["saved", Retry()]
        return []

    async with EngineHarness(registry) as engine:
        ids = [engine.add("index", attempts=1) for _ in range(2)]
        await engine.drain()

        assert engine.done()[ids[0]].result == b'"saved"'
        assert engine.dead()[ids[1]].reason == "exhausted"


async def _lose(engine: EngineHarness, *ids: str) -> None:
    (runner,) = engine.engine.runners.values()
    runner.lost("normal", {job_id[2:].encode() for job_id in ids})
    await engine.advance(0)


async def test_a_job_that_loses_its_lease_leaves_the_batch_while_it_gathers() -> None:
    indexer = Indexer()
    async with EngineHarness(indexer.registry) as engine:
        ids = indexer.add(engine, 3)
        await indexer.gathered(engine, 3)
        await _lose(engine, ids[1])
        await indexer.gathered(engine, 2)

        await engine.advance(0.05)
        await engine.until_ended(ids[0], ids[2])
        assert indexer.calls == [[0, 2]]
        await _is_sound(engine)

        # The last one that leaves takes the batch along.
        (last,) = indexer.add(engine, 1)
        await indexer.gathered(engine, 1)
        await _lose(engine, last)
        await engine.advance(1)
        assert len(indexer.calls) == 1
        await _is_sound(engine)


async def test_the_others_ends_stand_when_one_leaves_a_running_batch() -> None:
    indexer = Indexer(lambda payloads: [payload["n"] for payload in payloads], waits=True, size=3)
    async with EngineHarness(indexer.registry) as engine:
        ids = indexer.add(engine, 3)
        await indexer.called(engine)
        await _lose(engine, ids[1])
        assert indexer.ended == []

        indexer.freed.set()
        await engine.until_ended(ids[0], ids[2])
        assert engine.done().keys() == {ids[0], ids[2]}
        await _is_sound(engine)


async def test_a_job_that_an_operator_cancels_leaves_its_batch_alone() -> None:
    indexer = Indexer(waits=True, size=3, wait_ms=10_000)
    async with EngineHarness(indexer.registry) as engine:
        queue = engine.model.queue(QUEUE)
        ids = indexer.add(engine, 2)
        await indexer.gathered(engine, 2)
        queue.cancel(ids[0], who="ada", reason="not wanted")
        await engine.advance(0.3)
        await engine.until_ended(ids[0])

        ids += indexer.add(engine, 2)
        await indexer.called(engine)
        queue.cancel(ids[2], who="ada", reason="not wanted")
        await engine.advance(0.3)
        await engine.until_ended(ids[2])
        assert indexer.ended == []
        indexer.freed.set()
        await engine.until_ended(*ids)

        assert {record.reason for record in engine.dead().values()} == {"cancelled"}
        assert engine.done().keys() == {ids[1], ids[3]}
        await _is_sound(engine)


async def test_the_handler_is_cancelled_when_all_have_left() -> None:
    indexer = Indexer(waits=True, size=3)
    async with EngineHarness(indexer.registry) as engine:
        ids = indexer.add(engine, 3)
        await indexer.called(engine)
        await _lose(engine, *ids)

        assert indexer.ended == ["cancelled"]
        assert not engine.done()
        assert engine.engine.meters.stuck == 0
        await _is_sound(engine)


@pytest.mark.parametrize("leave", ["before it begins", "as it begins"])
async def test_all_may_leave_before_the_handler_is_called(leave: str) -> None:
    indexer = Indexer(wait_ms=1_000)
    async with EngineHarness(indexer.registry) as engine:
        ids = indexer.add(engine, 2)
        await indexer.gathered(engine, 2)
        (runner,) = engine.engine.runners.values()
        steps = [
            lambda: runner.lost("normal", {job_id[2:].encode() for job_id in ids}),
            runner.batches.flush,
        ]
        for step in steps if leave == "before it begins" else reversed(steps):
            step()
        await engine.advance(10)

        assert indexer.calls == []
        assert engine.engine.meters.stuck == 0
        await _is_sound(engine)


async def test_a_job_whose_lease_ran_out_while_it_gathered_is_not_started_under_it() -> None:
    indexer = Indexer()
    async with EngineHarness(indexer.registry) as engine:
        ids = indexer.add(engine, 2)
        await indexer.gathered(engine, 2)
        (runner,) = engine.engine.runners.values()
        for worker in runner.workers.running():
            assert worker.job is not None
            worker.job.lease.batch.since = float("-inf")
        indexer.add(engine, 1)
        await indexer.gathered(engine, 3)
        await engine.advance(0.05)

        assert indexer.calls == [[0]]
        assert engine.signals.counts["released"] == 2
        assert ids


async def test_what_has_gathered_is_run_when_the_engine_stops() -> None:
    indexer = Indexer(wait_ms=60_000)
    engine = EngineHarness(indexer.registry)
    await engine.start()
    indexer.add(engine, 3)
    await indexer.gathered(engine, 3)

    assert await engine.stop() == 0
    assert indexer.calls == [[0, 1, 2]]
    assert len(engine.done()) == 3
    assert engine.clock.monotonic() < 5


@pytest.mark.parametrize("ends", ["cancelled", "finishes", "swallows"])
async def test_a_running_batch_is_handed_back_as_a_whole_when_the_engine_stops(ends: str) -> None:
    freed = asyncio.Event()
    registry = Registry()
    steps: list[str] = []

    @registry.batch("index", queue=QUEUE, size=20, wait_ms=60_000)
    async def index(jobs: Jobs, payloads: Payloads) -> None:
        steps.append("called")
        while not freed.is_set():
            try:
                await freed.wait()
            except asyncio.CancelledError:
                steps.append("cancelled")
                if ends == "finishes":
                    return
                if ends == "cancelled":
                    await asyncio.sleep(0)
                    steps.append(f"{engine.signals.counts['released']} were handed back before")
                    raise

    engine = EngineHarness(registry, cancel_grace_ms=500)
    await engine.start()
    for _ in range(20):
        engine.add("index")
    await engine.until(lambda: steps)

    assert await engine.stop() == 0
    freed.set()
    counts = engine.signals.counts
    assert (counts["done"], counts["released"]) == ((20, 0) if ends == "finishes" else (0, 20))
    assert engine.engine.meters.stuck == (1 if ends == "swallows" else 0)
    if ends == "cancelled":
        assert steps == ["called", "cancelled", "0 were handed back before"]


async def test_middleware_goes_around_each_job_and_its_context_stays_its_own() -> None:
    tenant = contextvars.ContextVar("tenant", default="none")
    seen: list[str] = []
    registry = Registry()

    @registry.around
    async def with_tenant(job: Job, payload: Any, call_next: CallNext) -> Any:
        if payload["n"] == 9:
            return "skipped"
        tenant.set(str(payload["n"]))
        result = await call_next()
        seen.append(f"{tenant.get()} {result}")
        return result + 100

    @registry.batch("index", queue=QUEUE, size=2)
    async def index(jobs: Jobs, payloads: Payloads) -> list[int]:
        seen.append(tenant.get())
        await asyncio.gather(*(job.progress(50, "half") for job in jobs))
        tenant.set("the batch's own")
        return [payload["n"] for payload in payloads]

    async with EngineHarness(registry) as engine:
        ids = [engine.add("index", {"n": n}) for n in (1, 9, 2)]
        await engine.until_ended(*ids)

        assert seen == ["none", "1 1", "2 2"]
        results = [engine.done()[job_id].result for job_id in ids]
        assert results == [b"101", b'"skipped"', b"102"]


async def test_a_batch_may_run_in_a_thread() -> None:
    registry = Registry()

    @registry.batch("index", queue=QUEUE, size=3, pool="thread")
    def index(payloads: Payloads) -> list[Any]:
        return [payload["n"] or ValueError("none") for payload in payloads]

    async with EngineHarness(registry) as engine:
        ids = [engine.add("index", {"n": n}, attempts=1) for n in (1, 0, 2)]
        await engine.until_ended(*ids)

        assert [engine.done()[ids[n]].result for n in (0, 2)] == [b"1", b"2"]
        assert engine.dead()[ids[1]].error.message == "none"
