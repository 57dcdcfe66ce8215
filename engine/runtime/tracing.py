"""
Spans of attempts, where ``ENGINE_TRACING=otel`` wants them.

A middleware like any other: each attempt is a span of its own, a child of the one that enqueued the
job, and current while the handler runs, so that what the handler enqueues or asks of others goes on
in the same trace. Where it is off, neither it nor OpenTelemetry is there.
"""

from __future__ import annotations

import asyncio
import re
import threading
from typing import TYPE_CHECKING, Any, cast

from engine.clock import SystemClock
from engine.core import outcome as was
from engine.errors import SettingsError
from engine.registry import CallNext, Job, Registry
from engine.runtime.attempt import outcome_of, timed_out
from engine.runtime.raised import MESSAGE_CHARS_MAX
from engine.version import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Link, Span

    from engine.runtime.jobs import LiveJob

SCOPE = "streamlane"
OUTCOME = "streamlane.job.outcome"
FLUSH_S_MAX = 2.0
"""Time for which a stopping engine waits for spans to arrive."""

WELL = (was.Snoozed, was.Held, was.Limited, was.Interrupted)
"""How attempts end that did nothing wrong."""


class Tracing:
    """
    The tracing of one engine process.

    Args:
        engine: The engine's name.

    Raises:
        SettingsError: OpenTelemetry is not installed.
    """

    def __init__(self, engine: str) -> None:
        try:
            self._provider = _provider(engine)
        except ImportError:
            raise SettingsError(
                "ENGINE_TRACING=otel needs OpenTelemetry: pip install 'streamlane[otel]'"
            ) from None

    def put_around(self, registry: Registry) -> None:
        """Put spans around all handlers, outside of what is there."""
        Spans().put_around(registry)

    async def stop(self) -> None:
        """Send what is left, for a short time; a receiver that is away keeps nobody from ending."""
        if self._provider is not None:
            last = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
            last.start()
            await asyncio.to_thread(last.join, FLUSH_S_MAX)


def _provider(engine: str) -> TracerProvider | None:
    """
    Set up the SDK by the standard ``OTEL_*`` variables.

    Returns None where the app, or ``opentelemetry-instrument``, has set it up already.
    """
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return None
    resource = Resource.create({"service.instance.id": engine, "service.version": __version__})
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "streamlane"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


class Spans:
    """
    Spans of attempts and of batches, by the tracer provider that is set.

    Each job of a batch has a span of its own, in its own trace. The one call for all of them has
    another: a trace of its own, as OpenTelemetry's conventions for messaging want it, with a link
    to what enqueued each job, and linked to from each attempt.
    """

    def __init__(self) -> None:
        from opentelemetry import trace
        from opentelemetry.context import Context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace = trace
        self._nothing = Context()
        self._tracer = trace.get_tracer(SCOPE, __version__)
        self._extract = TraceContextTextMapPropagator().extract
        self._now = SystemClock().monotonic
        self._open: dict[int, Span] = {}
        """By the identity of jobs, each as long as its attempt."""

    def put_around(self, registry: Registry) -> None:
        """Put spans around all handlers of a registry, outside of what is there."""
        registry.middleware.insert(0, self.attempt)
        registry.batch_middleware.insert(0, self.batch)

    async def attempt(self, job: Job, _payload: Any, call_next: CallNext) -> Any:
        """Run an attempt within a span."""
        with self._tracer.start_as_current_span(
            f"process {job.type}",
            # Not what is current in the worker: each job has a trace of its own.
            context=self._from(job),
            kind=self._trace.SpanKind.CONSUMER,
            attributes=_attributes(job),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            started = self._now()
            self._open[id(job)] = span
            try:
                result = await call_next()
            except BaseException as error:
                _note(span, _outcome(cast("LiveJob", job), error, self._now() - started), error)
                raise
            finally:
                del self._open[id(job)]
            span.set_attribute(OUTCOME, "done")
            return result

    async def batch(self, jobs: list[Job], call_next: CallNext) -> Any:
        """Run a call of a batch handler within a span; that of its job where there is but one."""
        first = jobs[0]
        own = [self._open[id(job)] for job in jobs if id(job) in self._open]
        if len(jobs) == 1 and own:
            with self._trace.use_span(
                own[0], record_exception=False, set_status_on_exception=False
            ):
                return await call_next()
        with self._tracer.start_as_current_span(
            f"process {first.type}",
            context=self._nothing,
            kind=self._trace.SpanKind.CONSUMER,
            attributes={
                "messaging.system": "streamlane",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.destination.name": first.queue,
                "messaging.batch.message_count": len(jobs),
                "streamlane.job.type": first.type,
            },
            links=[self._link(job) for job in jobs],
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            for each in own:
                each.add_link(span.get_span_context())
            try:
                return await call_next()
            except asyncio.CancelledError:
                # At its time limit, or since all jobs left; the attempts say which.
                raise
            except BaseException as error:
                _note(span, outcome_of(error, cast("LiveJob", first)), error)
                raise

    def _from(self, job: Job) -> Context:
        carrier = {"traceparent": job.traceparent, "tracestate": job.tracestate}
        return self._extract(carrier, self._nothing)

    def _link(self, job: Job) -> Link:
        """Link to what enqueued a job, or where nothing tells that, to its attempt."""
        context = self._trace.get_current_span(self._from(job)).get_span_context()
        if not context.is_valid and id(job) in self._open:
            context = self._open[id(job)].get_span_context()
        return self._trace.Link(context, {"messaging.message.id": job.id})


def _attributes(job: Job) -> dict[str, str | int]:
    return {
        "messaging.system": "streamlane",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": job.queue,
        "messaging.message.id": job.id,
        "streamlane.job.type": job.type,
        "streamlane.job.lane": job.lane,
        "streamlane.job.attempt": job.attempt,
        "streamlane.job.attempts_max": job.attempts_max,
        "streamlane.job.deliveries": job.deliveries,
    }


def _note(span: Span, outcome: was.Outcome, error: BaseException) -> None:
    """Say how a handler ended that raised; as an error only where it failed."""
    from opentelemetry.trace import StatusCode

    span.set_attribute(OUTCOME, _word(type(outcome).__name__))
    if not isinstance(outcome, WELL):
        span.set_attribute("error.type", type(error).__qualname__)
        span.record_exception(error)
        span.set_status(StatusCode.ERROR, str(error)[:MESSAGE_CHARS_MAX])


def _outcome(job: LiveJob, error: BaseException, seconds: float) -> was.Outcome:
    """Judge as the worker does, as far as this place knows."""
    if not isinstance(error, asyncio.CancelledError):
        return outcome_of(error, job)
    # By the time limit; else by a stop or by somebody's order, of which the job's record tells.
    return timed_out(job) if seconds >= job.bound.timeout_s else was.Interrupted()


def _word(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
