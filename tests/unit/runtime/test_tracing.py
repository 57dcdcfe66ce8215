"""Spans of attempts, and of what handlers enqueue."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from engine import Cancel, Hold, Job, Registry, Retry, Snooze
from engine.client import NewJob
from engine.client.tracing import Sending, sending_of
from engine.errors import SettingsError
from engine.runtime.calls import Pools
from engine.runtime.carrying import carried
from engine.runtime.child import outcome, run
from engine.runtime.tracing import Spans, Tracing
from engine.testing import EngineHarness, FakeJob
from tests.support.engines import NO_WAIT, QUEUE

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    yield exporter
    provider.shutdown()


def traced(handler: Any, **options: Any) -> Registry:
    registry = Registry()
    Spans().put_around(registry)
    registry.job("work", queue=QUEUE, **{"retry": NO_WAIT, **options})(handler)
    return registry


async def ended(spans: InMemorySpanExporter, handler: Any, **options: Any) -> list[ReadableSpan]:
    """Run one job to its end and return its spans."""
    async with EngineHarness(traced(handler, **options)) as engine:
        await engine.until_ended(engine.add("work", id="w-1", traceparent=PARENT))
    return list(spans.get_finished_spans())


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_an_attempt_is_a_child_of_the_span_that_enqueued_the_job(
    spans: InMemorySpanExporter,
) -> None:
    inside: list[int] = []

    async def work(job: Job, payload: dict[str, Any]) -> None:
        inside.append(trace.get_current_span().get_span_context().span_id)

    (span,) = await ended(spans, work)

    assert span.context is not None
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == PARENT[3:35]
    assert f"{span.parent.span_id:016x}" == PARENT[36:52]
    assert inside == [span.context.span_id]
    assert (span.name, span.kind) == ("process work", SpanKind.CONSUMER)
    assert attributes(span) == {
        "messaging.system": "streamlane",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": QUEUE,
        "messaging.message.id": "w-1",
        "streamlane.job.type": "work",
        "streamlane.job.lane": "normal",
        "streamlane.job.attempt": 1,
        "streamlane.job.attempts_max": 3,
        "streamlane.job.deliveries": 1,
        "streamlane.job.outcome": "done",
    }


@pytest.mark.parametrize(
    ("raised", "outcome", "failed"),
    [
        (RuntimeError("no"), "failed", True),
        (Retry(), "retried", True),
        (Cancel("never"), "cancelled", True),
        (Snooze(1), "snoozed", False),
        (Hold("no key"), "held", False),
    ],
)
async def test_an_attempt_says_how_it_ended_and_only_failures_are_errors(
    spans: InMemorySpanExporter, raised: Exception, outcome: str, failed: bool
) -> None:
    attempts: list[int] = []

    async def work(job: Job, payload: dict[str, Any]) -> None:
        attempts.append(job.attempt)
        if len(attempts) == 1:
            raise raised

    async with EngineHarness(traced(work)) as engine:
        engine.add("work", traceparent=PARENT)
        await engine.until(spans.get_finished_spans, what="the first attempt")
    first = spans.get_finished_spans()[0]

    assert attributes(first)["streamlane.job.outcome"] == outcome
    assert (first.status.status_code == StatusCode.ERROR) is failed
    assert [event.name for event in first.events] == (["exception"] if failed else [])
    assert attributes(first).get("error.type") == (type(raised).__name__ if failed else None)


async def test_children_carry_the_whole_trace_context_of_their_parent(
    spans: InMemorySpanExporter,
) -> None:
    carried: dict[str, tuple[str, str]] = {}

    async def work(job: Job, payload: dict[str, Any]) -> None:
        carried[job.id] = (job.traceparent, job.tracestate)

    async with EngineHarness(traced(work)) as engine:
        children = json.dumps([{"type": "work", "id": "child"}])
        fields = {"traceparent": PARENT, "tracestate": "a=1"}
        await engine.until_ended(engine.add("work", id="parent", children=children, **fields))

    assert carried == {"child": (PARENT, "a=1"), "parent": (PARENT, "a=1")}


async def test_jobs_without_a_trace_get_one_each(spans: InMemorySpanExporter) -> None:
    async def work(job: Job, payload: dict[str, Any]) -> None:
        return None

    async with EngineHarness(traced(work)) as engine:
        await engine.until_ended(engine.add("work"), engine.add("work"))
    found = {span.context.trace_id for span in spans.get_finished_spans() if span.context}

    assert len(found) == 2
    assert all(span.parent is None for span in spans.get_finished_spans())


async def test_an_attempt_that_is_stopped_is_no_failure(spans: InMemorySpanExporter) -> None:
    started = asyncio.Event()

    async def work(job: Job, payload: dict[str, Any]) -> None:
        started.set()
        await asyncio.Event().wait()

    async with EngineHarness(traced(work)) as engine:
        engine.add("work", traceparent=PARENT)
        await started.wait()
    (span,) = spans.get_finished_spans()

    assert attributes(span)["streamlane.job.outcome"] == "interrupted"
    assert span.status.status_code == StatusCode.UNSET


def batched(
    handler: Any, *, size: int = 2, wait_ms: int = 60_000, **options: Any
) -> tuple[Registry, list[int]]:
    """Build a registry of one batch handler that tells which spans it saw."""
    registry = Registry()
    seen: list[int] = []

    @registry.batch("work", queue=QUEUE, size=size, wait_ms=wait_ms, retry=NO_WAIT, **options)
    async def work(jobs: list[Job], payloads: list[dict[str, Any]]) -> Any:
        seen.append(trace.get_current_span().get_span_context().span_id)
        return await handler(jobs)

    Spans().put_around(registry)
    return registry, seen


def by_kind(spans: InMemorySpanExporter) -> tuple[list[ReadableSpan], list[ReadableSpan]]:
    """Return the spans of batches, and those of attempts."""
    found = spans.get_finished_spans()
    batches = [each for each in found if "messaging.batch.message_count" in attributes(each)]
    return batches, [each for each in found if each not in batches]


async def test_a_batch_is_linked_with_each_of_its_jobs(spans: InMemorySpanExporter) -> None:
    async def work(jobs: list[Job]) -> list[Any]:
        return [None, Cancel("no")]

    registry, seen = batched(work)
    async with EngineHarness(registry) as engine:
        first = engine.add("work", id="w-1", traceparent=PARENT, tracestate="a=1")
        await engine.until_ended(first, engine.add("work", id="w-2"))
    (batch,), attempts = by_kind(spans)
    by_id = {attributes(each)["messaging.message.id"]: each for each in attempts}

    assert batch.context is not None
    assert seen == [batch.context.span_id]
    assert batch.parent is None
    assert attributes(batch)["messaging.batch.message_count"] == 2
    told, untold = batch.links
    assert f"{told.context.trace_id:032x}-{told.context.span_id:016x}" == PARENT[3:52]
    assert told.context.trace_state.to_header() == "a=1"
    # Nobody told where the second one came from, so its attempt stands for that.
    assert untold.context == by_id["w-2"].context
    assert [dict(link.attributes or {}) for link in batch.links] == [
        {"messaging.message.id": "w-1"},
        {"messaging.message.id": "w-2"},
    ]
    for each in attempts:
        assert [link.context for link in each.links] == [batch.context]
    assert [attributes(by_id[each])["streamlane.job.outcome"] for each in ("w-1", "w-2")] == [
        "done",
        "cancelled",
    ]
    assert batch.status.status_code == StatusCode.UNSET


async def test_a_batch_of_one_runs_in_the_span_of_its_job(spans: InMemorySpanExporter) -> None:
    async def work(jobs: list[Job]) -> None: ...

    registry, seen = batched(work, size=1)
    async with EngineHarness(registry) as engine:
        await engine.until_ended(engine.add("work", traceparent=PARENT))
    (span,) = spans.get_finished_spans()

    assert span.context is not None
    assert seen == [span.context.span_id]
    assert span.links == ()


@pytest.mark.parametrize(("raised", "failed"), [(RuntimeError("no"), True), (Snooze(1), False)])
async def test_a_batch_that_raises_is_an_error_where_its_jobs_are(
    spans: InMemorySpanExporter, raised: Exception, failed: bool
) -> None:
    async def work(jobs: list[Job]) -> None:
        raise raised

    registry, _ = batched(work)
    async with EngineHarness(registry) as engine:
        engine.add("work")
        engine.add("work")
        await engine.until(lambda: len(by_kind(spans)[1]) >= 2, what="the first attempts")
    (batch, *_), attempts = by_kind(spans)

    assert (batch.status.status_code == StatusCode.ERROR) is failed
    assert {each.status.status_code for each in attempts[:2]} == {batch.status.status_code}


def current() -> tuple[str, str, str | None]:
    """Tell, in a process of the pool, in which trace a function runs, and what jobs then carry."""
    context = trace.get_current_span().get_span_context()
    sending = sending_of(None)
    assert sending is not None
    carried = sending.carrying(NewJob("work", {}))
    return f"{context.span_id:016x}", context.trace_state.to_header(), carried.traceparent


def test_what_runs_in_a_process_of_the_pool_is_within_the_span_of_its_job() -> None:
    parent = trace.NonRecordingSpan(
        trace.SpanContext(
            int(PARENT[3:35], 16),
            int(PARENT[36:52], 16),
            is_remote=False,
            trace_flags=trace.TraceFlags(1),
            trace_state=trace.TraceState([("a", "1")]),
        )
    )
    with trace.use_span(parent):
        carrier = carried()

    ran = outcome(run(lambda _: current(), None, carrier))

    assert ran == (PARENT[36:52], "a=1", PARENT)
    assert not trace.get_current_span().get_span_context().is_valid
    assert carried() == {}


async def test_the_pool_is_told_of_the_span(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pool:
        active = True

        def schedule(self, function: Any, args: list[Any], timeout: float) -> Future[bytes]:
            done: Future[bytes] = Future()
            done.set_result(function(*args))
            return done

    pools = Pools(1, on_stuck=lambda _: None)
    monkeypatch.setattr(pools, "_pool", Pool())
    parent = Spans()._from(FakeJob(traceparent=PARENT))
    with trace.use_span(trace.get_current_span(parent)):
        ran = await pools.in_process(lambda _: current(), None, 1.0)

    assert ran[2] == PARENT


def test_a_job_carries_the_span_in_which_it_is_enqueued(spans: InMemorySpanExporter) -> None:
    sending = Sending()
    with sending.span(NewJob("work", {})) as span:
        told = sending.carrying(NewJob("work", {})).traceparent
    context = span.get_span_context()
    ids = f"{context.trace_id:032x}-{context.span_id:016x}"

    assert told == f"00-{ids}-{context.trace_flags:02x}"
    (found,) = spans.get_finished_spans()
    assert (found.name, found.kind) == ("enqueue work", SpanKind.PRODUCER)


def test_a_job_keeps_the_trace_that_it_was_given_and_needs_none(
    spans: InMemorySpanExporter,
) -> None:
    sending = Sending()
    with sending.span(NewJob("work", {})):
        assert sending.carrying(NewJob("work", {}, traceparent=PARENT)).traceparent == PARENT
    assert sending.carrying(NewJob("work", {})).traceparent is None


def test_a_refused_job_fails_its_span(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="full"), Sending().span(NewJob("work", {})):
        raise ValueError("full")

    (span,) = spans.get_finished_spans()
    assert span.status.status_code == StatusCode.ERROR


def test_a_client_traces_where_the_program_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sending_of(None) is None
    assert sending_of(False) is None
    monkeypatch.setattr(trace, "get_tracer_provider", TracerProvider)
    assert sending_of(None) is not None
    assert sending_of(False) is None


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    with pytest.raises(SettingsError, match=r"streamlane\[otel\]"):
        sending_of(True)
    with pytest.raises(SettingsError, match=r"ENGINE_TRACING=otel .*streamlane\[otel\]"):
        Tracing("eng-1")


def test_without_the_extra_everything_else_works() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "import engine, engine.runtime, engine.cli\n"
        "engine.Client('redis://127.0.0.1:1'); engine.SyncClient('redis://127.0.0.1:1')\n"
        "engine.runtime.serve"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
