"""New jobs, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from engine.client.full import Shed
from engine.errors import EnqueueError, EnqueueUnsure, JobRefused, QueueFull
from engine.store.pressure import Dropped
from schemas.flow import OnFailure


class _Work(msgspec.Struct, frozen=True):
    type: str
    payload: Any


class NewJob(_Work, frozen=True, kw_only=True):
    """
    One job to enqueue.

    Attributes:
        type: The job's type; with the payload, the only part that has to be given.
        payload: A msgspec struct, a dict, a dataclass, or bytes that hold a JSON object.
        queue: Its queue; left out, the client's tables say it.
        lane: ``critical``, ``high``, ``normal`` or ``low``.
        id: The producer's own id; the same one again within the queue's window is a duplicate.
        delay_ms: Not before so many ms from now.
        at: Not before this moment: an aware datetime, or Unix ms.
        ttl_ms: Ends dead as expired if it has not started so many ms from now.
        expires: The same as a moment.
        attempts: Overrides the type's maximum, 1 to 100.
        version: Payload version; left out, the one that the registry names, or 1.
        reply: A stream that gets the outcome.
        traceparent: W3C trace context.
        tracestate: What tracing systems add to it; it means nothing by itself.
        key: Ordering key: jobs of one key run one at a time, in the order of their enqueuing.
        unique: Ends as a duplicate while another job with this value is under way.
        window_ms: With ``unique``: also for so many ms from the first job.
        debounce_ms: With ``unique``: waits so many ms, and a later job takes its place.
        debounce_max_ms: The longest that the first job of a burst waits.
        throttle_ms: With ``unique``: one in so many ms.
        headers: Further fields for the handler.
        when_full: What is done where its queue has no room: ``wait``, ``fail`` or ``shed``; left
            out, the client's setting says it.
        children: Jobs that it waits for; see :mod:`engine.client.flows`.
        results: Whether its handler is given their results.
        on_failure: As a child of another job: what becomes of that one if this one ends dead.
    """

    queue: str | None = None
    lane: str = "normal"
    id: str | None = None
    delay_ms: int | None = None
    at: datetime | int | None = None
    ttl_ms: int | None = None
    expires: datetime | int | None = None
    attempts: int | None = None
    version: int | None = None
    reply: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    key: str | None = None
    unique: str | None = None
    window_ms: int | None = None
    debounce_ms: int | None = None
    debounce_max_ms: int | None = None
    throttle_ms: int | None = None
    headers: Mapping[str, str] | None = None
    when_full: str | None = None
    children: Sequence[NewJob] | None = None
    results: bool = False
    on_failure: OnFailure = "fail"


class Enqueued(msgspec.Struct, frozen=True):
    """
    An accepted job.

    Attributes:
        id: Its id: the producer's own, else lane initial and entry id.
        queue: Its queue.
        lane: Its lane.
        entry: Its stream entry id; empty for a duplicate.
        duplicate_of: Of a duplicate, which was not added, the job that stands for it.
        replaces: The job whose place it takes, where a burst is debounced.
    """

    id: str
    queue: str
    lane: str
    entry: str
    duplicate_of: str = ""
    replaces: str = ""


class Refusal(msgspec.Struct, frozen=True):
    """
    A job that was not accepted.

    Attributes:
        index: Its place among the jobs, from 0.
        error: Why: :class:`JobRefused` where it breaks a rule,
            :class:`~engine.errors.QueueFull` where its queue has no room,
            :class:`~engine.errors.EnqueueError` where the server took it not,
            :class:`~engine.store.batches.EnqueueUnsure` where that is not known.
    """

    index: int
    error: EnqueueError


Result = Enqueued | Shed | Refusal
"""What became of one job of many."""


def stops(result: Result) -> bool:
    """Tell whether a result ends the enqueuing of many: the server or a full queue was given up."""
    if not isinstance(result, Refusal) or isinstance(result.error, JobRefused):
        return False
    return not isinstance(result.error, QueueFull) or result.error.waited


class EnqueueReport(msgspec.Struct):
    """
    What became of many jobs.

    Attributes:
        accepted: Jobs that the server has.
        refused: Jobs that broke a rule.
        unsent: Jobs that the server did not take; other than 0 only after it was given up.
        unsure: Jobs of which that is not known; likewise.
        shed: Jobs that were dropped on purpose, since their queue is full.
        full: Jobs that were not accepted since their queue is full.
        refusals: The first hundred that were not accepted.
    """

    accepted: int = 0
    refused: int = 0
    unsent: int = 0
    unsure: int = 0
    shed: int = 0
    full: int = 0
    refusals: list[Refusal] = msgspec.field(default_factory=list)


class EnqueueStopped(EnqueueError):
    """
    The server, or a full queue, was given up before all jobs were read.

    Attributes:
        report: What is known of the jobs that were read.
    """

    def __init__(self, why: str, report: EnqueueReport) -> None:
        super().__init__(
            f"{why}; {report.accepted} jobs were accepted, {report.refused} refused, "
            f"{report.unsent} not sent, {report.unsure} may have been accepted or not"
            + (f", {report.shed} shed" if report.shed else "")
            + (f", {report.full} found their queue full" if report.full else "")
        )
        self.report = report


def enqueued(queue: str, lane: str, own_id: str | None, answer: str | Dropped) -> Enqueued | Shed:
    """Name a job that the server has taken, or that was dropped on purpose."""
    if isinstance(answer, Dropped):
        return Shed(own_id or "", queue, lane, answer.why)
    if answer[0] != "=" and ">" not in answer:
        return Enqueued(own_id or f"{lane[0]}-{answer}", queue, lane, answer)
    entry, _, replaces = answer.partition(">")
    if entry.startswith("="):
        return Enqueued(entry[1:], queue, lane, "", duplicate_of=entry[1:])
    return Enqueued(own_id or f"{lane[0]}-{entry}", queue, lane, entry, replaces=replaces)


def count(report: EnqueueReport, result: Result) -> None:
    """Add one result to a report."""
    if isinstance(result, Enqueued):
        report.accepted += 1
        return
    if isinstance(result, Shed):
        report.shed += 1
        return
    if isinstance(result.error, QueueFull):
        report.full += 1
    elif isinstance(result.error, JobRefused):
        report.refused += 1
    elif isinstance(result.error, EnqueueUnsure):
        report.unsure += 1
    else:
        report.unsent += 1
    if len(report.refusals) < 100:
        report.refusals.append(result)
