"""One trace from a producer through its job to the jobs of that job, at a receiver of spans."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from engine import Client, NewJob, SyncClient, fan_in
from engine.wire.keys import QueueKeys
from tests.support.daemon import Start
from tests.support.otlp import Span, receiver
from tests.support.servers import RedisTestServer
from tests.support.traced_app import QUEUE
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers

OTHER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
QUEUES = {"order": QUEUE, "mail": QUEUE, "pack": QUEUE}


@pytest.fixture
def produced(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Collect the spans of the producer, which is this process."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return exporter


async def test_a_trace_goes_from_the_producer_through_its_job_to_the_jobs_of_that_job(
    redis_url: str, start_daemon: Start, produced: InMemorySpanExporter
) -> None:
    async with receiver() as receives, Client(redis_url, queues=QUEUES) as client:
        daemon = start_daemon(
            redis_url,
            app="tests.support.traced_app:build",
            environ={
                "ENGINE_TRACING": "otel",
                "ENGINE_NAME": "eng-1",
                "OTEL_EXPORTER_OTLP_ENDPOINT": receives.url,
                # Nothing is sent before the engine ends, so its end has to send it.
                "OTEL_BSP_SCHEDULE_DELAY": "600000",
            },
        )
        await client.enqueue("order", {}, id="order-1")
        flow = fan_in(NewJob("pack", {}, id="pack-1"), [NewJob("mail", {}, id="mail-2")])
        await client.enqueue_flow(flow)
        await eventually(lambda: done(daemon) == 4, "all jobs done")
        daemon.terminate()
        await eventually(daemon.has_ended, "the engine's end")
        assert daemon.wait() == 0

    sent, packed = (ids(span) for span in produced.get_finished_spans())
    first, second = receives.named("process order")
    (mailing,) = receives.named("enqueue mail")
    mails = {
        span.attributes["messaging.message.id"]: span for span in receives.named("process mail")
    }
    (packing,) = receives.named("process pack")
    assert {span.trace for span in (first, second, mailing, mails["mail-1"])} == {sent[0]}
    assert (first.parent, second.parent, mailing.parent) == (sent[1], sent[1], second.id)
    assert mails["mail-1"].parent == mailing.id
    # Children of a flow are enqueued by what its parent carries.
    assert [(each.trace, each.parent) for each in (mails["mail-2"], packing)] == [packed, packed]
    assert (first.failed, first.events, outcome(first)) == (True, ["exception"], "failed")
    assert (second.failed, second.events, outcome(second)) == (False, [], "done")
    assert second.attributes["streamlane.job.attempt"] == 2
    assert {
        (each.resource["service.name"], each.resource["service.instance.id"])
        for each in receives.spans
    } == {("streamlane", "eng-1")}


def done(daemon: Any) -> float:
    """Count the jobs that are done."""
    try:
        return float(daemon.metric("engine_jobs_total", queue=QUEUE, outcome="done"))
    except OSError:
        return 0


def ids(span: Any) -> tuple[str, str]:
    """Return the ids of the trace and of the span."""
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def outcome(span: Span) -> str | int | bool:
    """Return how an attempt ended."""
    return span.attributes["streamlane.job.outcome"]


async def test_jobs_of_both_clients_carry_the_span_in_which_they_are_enqueued(
    redis_url: str, shared_redis: RedisTestServer, produced: InMemorySpanExporter
) -> None:
    def many() -> list[NewJob]:
        return [NewJob("mail", {}), NewJob("mail", {}, traceparent=OTHER)]

    def blocking() -> None:
        with SyncClient(redis_url, queues=QUEUES) as client:
            client.enqueue("order", {})
            client.enqueue_many(many())

    async with Client(redis_url, queues=QUEUES) as client:
        with trace.get_tracer("a program").start_as_current_span("outer") as outer:
            await client.enqueue("order", {})
            await client.enqueue_many(many())
            # In a thread with this context.
            await asyncio.to_thread(blocking)

    first, second, around = produced.get_finished_spans()
    assert [first.name, second.name, around.name] == ["enqueue order", "enqueue order", "outer"]
    assert {each.parent.span_id for each in (first, second) if each.parent} == {
        outer.get_span_context().span_id
    }
    entries = shared_redis.call("XRANGE", QueueKeys(QUEUE).lane("normal"), "-", "+")
    carried = [fields[b"traceparent"].decode() for _, fields in entries]
    of_outer = ids(around)
    assert [(each[3:35], each[36:52]) for each in carried] == [
        *(ids(first), of_outer, (OTHER[3:35], OTHER[36:52])),
        *(ids(second), of_outer, (OTHER[3:35], OTHER[36:52])),
    ]
