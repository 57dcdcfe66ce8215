"""
One handler, run once, without an engine around it.

    job = FakeJob(attempt=2)
    result = await run_handler(registry, "send-message", {"content": "hi"}, job=job, services=fakes)
    assert job.reports == [(50.0, "half")]
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from engine.registry import App, Registry
from engine.runtime.calls import InProcess, call_of
from engine.runtime.jobs import LiveJob
from engine.wire.codec import payload_decoder


class FakeJob(msgspec.Struct, kw_only=True):
    """
    An :class:`engine.registry.Job` to call a handler with.

    Attributes:
        reports: What the handler told by :meth:`progress`, as (percent, message).
    """

    id: str = "n-1763769600000-0"
    type: str = ""
    queue: str = ""
    lane: str = "normal"
    attempt: int = 1
    attempts_max: int = 5
    deliveries: int = 1
    enqueued_ms: int = 1_763_769_600_000
    version: int = 1
    headers: dict[str, str] = {}
    traceparent: str = ""
    reports: list[tuple[float, str]] = []

    async def progress(self, percent: float, message: str = "") -> None:
        """Take note of a report."""
        self.reports.append((percent, message))


async def run_handler(
    app: App | Registry,
    job_type: str,
    data: Any = None,
    *,
    job: FakeJob | None = None,
    services: Any = None,
) -> Any:
    """
    Run a handler once, with its payload checked and the middleware around it.

    Args:
        app: The app, or a registry alone.
        job_type: A registered type.
        data: The payload: a mapping or a struct; bytes are taken as they are.
        job: The job that the handler sees; its type and queue are filled in.
        services: What the handler is given as services.

    Returns:
        What the handler returned. What it raises comes through, ``Retry`` and the like included.

    Raises:
        Malformed: The payload does not fit, so the job would be dead without being run.
    """
    registry = app.registry if isinstance(app, App) else app
    found = registry.types[job_type]
    encoded = data if isinstance(data, bytes) else msgspec.json.encode(data or {})
    payload = payload_decoder(found.payload)(encoded)
    seen = msgspec.structs.replace(job or FakeJob(), type=found.name, queue=found.queue)
    call = call_of(found, services, registry.middleware, InProcess())
    return await call(cast(LiveJob, seen), payload)
