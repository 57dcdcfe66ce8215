"""
One handler, run once, without an engine around it.

    job = FakeJob(attempt=2)
    result = await run_handler(registry, "send-message", {"content": "hi"}, job=job, services=fakes)
    assert job.reports == [(50.0, "half")]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from engine.core.batch import Part, parts_of
from engine.core.children import Children
from engine.registry import App, JobType, Registry
from engine.runtime.batching import handle_of
from engine.runtime.calls import InProcess, call_of
from engine.runtime.jobs import LiveJob
from engine.wire.payload import payload_decoder


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
    tracestate: str = ""
    children: Children = Children()
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

    A batch handler is run on a batch of this one job; :func:`run_batch` gives it more.

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

    async def alone(job: LiveJob, payload: Any) -> Any:
        (part,) = await _run_batch(found, [job], [payload], services)
        if part.error is not None:
            raise part.error
        return part.result

    join = alone if found.batch is not None else None
    call = call_of(found, services, registry.middleware, InProcess(), join=join)
    return await call(cast(LiveJob, seen), payload)


async def run_batch(
    app: App | Registry,
    job_type: str,
    data: Sequence[Any],
    *,
    jobs: Sequence[FakeJob] | None = None,
    services: Any = None,
) -> list[Any]:
    """
    Run a batch handler once, on as many jobs as there are payloads.

    Middleware is left out: it goes around each job.

    Args:
        app: The app, or a registry alone.
        job_type: A type registered with :meth:`Registry.batch`.
        data: The payloads: mappings, structs, or bytes.
        jobs: The jobs that the handler sees; their type and queue are filled in.
        services: What the handler is given as services.

    Returns:
        What becomes of each job: its result, or the exception that it fails by. What the handler
        raises comes through.

    Raises:
        Malformed: A payload does not fit, so its job would be dead without being run.
        OutcomesMismatch: The handler returned something other than one outcome per job.
    """
    registry = app.registry if isinstance(app, App) else app
    found = registry.types[job_type]
    assert found.batch is not None, f"{job_type} takes one job at a time"
    decode = payload_decoder(found.payload)
    payloads = [
        decode(each if isinstance(each, bytes) else msgspec.json.encode(each)) for each in data
    ]
    given = jobs or [FakeJob(id=f"n-1763769600000-{number}") for number in range(len(data))]
    seen = [msgspec.structs.replace(job, type=found.name, queue=found.queue) for job in given]
    parts = await _run_batch(found, seen, payloads, services)
    return [part.result if part.error is None else part.error for part in parts]


async def _run_batch(
    found: JobType, jobs: Sequence[Any], payloads: Sequence[Any], services: Any
) -> list[Part]:
    handle = handle_of(found, services, InProcess())
    return parts_of(await handle(list(jobs), list(payloads)), len(jobs))
