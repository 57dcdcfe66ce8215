"""
Spans of enqueuing, for programs that use OpenTelemetry.

A job that is enqueued by itself gets a span, and carries it to its engine in the fields
``traceparent`` and ``tracestate``. Of many at once each carries the span that is current, for one
span each would cost more than the jobs. A job that has a ``traceparent`` keeps it. Nothing of
OpenTelemetry is imported unless the program has.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from engine.client.full import Shed
from engine.client.jobs import Enqueued, NewJob
from engine.errors import SettingsError
from engine.version import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import Span

SCOPE = "streamlane"
SYSTEM = "streamlane"


def sending_of(tracing: bool | None) -> Sending | None:
    """
    Return what traces the jobs of a client, or None for nothing.

    Args:
        tracing: Whether to; None for where the program has set up OpenTelemetry's SDK by now.

    Raises:
        SettingsError: OpenTelemetry is not installed.
    """
    if tracing is None:
        tracing = _is_set_up()
    if not tracing:
        return None
    try:
        return Sending()
    except ImportError:
        raise SettingsError("tracing needs OpenTelemetry: pip install 'streamlane[otel]'") from None


def _is_set_up() -> bool:
    """Tell whether the program uses the SDK, without importing what it has not."""
    sdk, api = sys.modules.get("opentelemetry.sdk.trace"), sys.modules.get("opentelemetry.trace")
    if api is None:
        return False
    if api.get_current_span().get_span_context().is_valid:
        # As in a process of the pool, which has the span of its job and no SDK.
        return True
    return sdk is not None and isinstance(api.get_tracer_provider(), sdk.TracerProvider)


class Sending:
    """Gives jobs the trace in which they are enqueued."""

    def __init__(self) -> None:
        from opentelemetry import trace

        self._trace = trace
        self._tracer = trace.get_tracer(SCOPE, __version__)

    @contextmanager
    def span(self, job: NewJob) -> Iterator[Span]:
        """Put a span around the enqueuing of one job; what is raised becomes its error."""
        with self._tracer.start_as_current_span(
            f"enqueue {job.type}",
            kind=self._trace.SpanKind.PRODUCER,
            attributes={
                "messaging.system": SYSTEM,
                "messaging.operation.name": "enqueue",
                "messaging.operation.type": "send",
                "streamlane.job.type": job.type,
                "streamlane.job.lane": job.lane,
            },
        ) as span:
            yield span

    def carrying(self, job: NewJob) -> NewJob:
        """Return a job that carries the current span, unless it carries one or there is none."""
        if job.traceparent is not None:
            return job
        context = self._trace.get_current_span().get_span_context()
        if not context.is_valid:
            return job
        ids = f"{context.trace_id:032x}-{context.span_id:016x}"
        return msgspec.structs.replace(
            job,
            traceparent=f"00-{ids}-{context.trace_flags:02x}",
            tracestate=context.trace_state.to_header() or None,
        )

    def note(self, span: Span, result: Enqueued | Shed) -> None:
        """Say on a job's span what became of its enqueuing."""
        span.set_attribute("messaging.destination.name", result.queue)
        if isinstance(result, Enqueued):
            span.set_attribute("messaging.message.id", result.id)
            if result.duplicate_of:
                span.set_attribute("streamlane.job.duplicate_of", result.duplicate_of)
        else:
            span.set_attribute("streamlane.job.shed", True)
