"""
New jobs and what becomes of them, judged before they are sent.

The fields are judged by :func:`engine.wire.codec.parse`, which engines use as well, so that the
rules stand once. A registry that knows the type also has its say about the payload.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from engine.client.full import Shed, WhenFull, checked, choices
from engine.client.trees import TreeWriter
from engine.errors import EnqueueError, EnqueueUnsure, JobRefused, Malformed, QueueFull
from engine.registry import Registry
from engine.store.batches import Outgoing, outgoing
from engine.store.pressure import Dropped
from engine.wire.codec import Limits, parse
from engine.wire.flows import CHILDREN, RESULTS
from engine.wire.payload import payload_decoder
from schemas.flow import OnFailure
from schemas.rules import LANES, QUEUE_NAME

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_OPTIONS = (
    ("id", b"id"),
    ("delay_ms", b"delay"),
    ("at", b"at"),
    ("ttl_ms", b"ttl"),
    ("expires", b"expires"),
    ("attempts", b"attempts"),
    ("version", b"v"),
    ("reply", b"reply"),
    ("traceparent", b"traceparent"),
    ("key", b"key"),
    ("unique", b"unique"),
    ("window_ms", b"window"),
    ("debounce_ms", b"debounce"),
    ("debounce_max_ms", b"debounce-max"),
    ("throttle_ms", b"throttle"),
)


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


class Judge:
    """
    Turns new jobs into what is sent, or refuses them.

    Args:
        registry: Job types whose queues and payloads are known.
        queues: Queues of further types, by type.
        limits: What the engines accept.
        when_full: What is done where a queue has no room.

    Raises:
        SettingsError: ``when_full`` cannot be read.
    """

    def __init__(
        self,
        registry: Registry | None,
        queues: Mapping[str, str] | None,
        limits: Limits,
        *,
        when_full: WhenFull = "wait",
    ) -> None:
        self._when_full = choices(when_full)
        self._types = registry.types if registry else {}
        self._queues = dict(queues or {})
        self._limits = limits
        self._decoders: dict[str, Callable[[bytes], Any]] = {}
        self._any_object = payload_decoder(dict[str, Any])
        # Types whose names and queues have been judged before.
        self._judged: dict[str, str] = {}

    def outgoing(self, job: NewJob, *, now_ms: int) -> tuple[str, Outgoing]:
        """
        Return a job's queue and what is sent.

        Raises:
            JobRefused: It breaks a rule.
        """
        queue = (job.queue is None and self._judged.get(job.type)) or self._queue(job)
        fields = self._fields(job)
        if job.children is not None:
            fields += self._family(job, now_ms)
        self._judge(job, fields, now_ms)
        if job.queue is None:
            self._judged[job.type] = queue
        when_full = checked(job.when_full) if job.when_full else self._when_full[job.lane]
        sent = outgoing(job.lane, fields, ordered=job.key is not None, when_full=when_full)
        return queue, sent

    def _family(self, job: NewJob, now_ms: int) -> list[bytes]:
        """Build the fields of a job that waits for others; each of these is judged, too."""
        assert job.children is not None

        def fields_of(child: NewJob) -> list[bytes]:
            fields = self._fields(child)
            self._judge(child, fields, now_ms)
            return fields

        fields = [CHILDREN, TreeWriter(fields_of, self._queue).write(job.children)]
        return [*fields, RESULTS, b"1"] if job.results else fields

    def _fields(self, job: NewJob) -> list[bytes]:
        if job.lane not in LANES:
            raise JobRefused("lane-name", detail=f"{job.lane!r} is none of {', '.join(LANES)}")
        fields = [b"type", _text(job.type), b"data", self._data(job)]
        for name, field in _OPTIONS:
            value = getattr(job, name)
            if value is not None:
                fields += (field, _text(value))
        if job.version is None and job.type in self._types:
            version = self._types[job.type].version
            if version != 1:
                fields += (b"v", b"%d" % version)
        for name, value in (job.headers or {}).items():
            fields += (_text(name), _text(value))
        return fields

    def _queue(self, job: NewJob) -> str:
        known = self._types.get(job.type)
        queue = job.queue or self._queues.get(job.type) or (known.queue if known else "")
        if not queue:
            close = difflib.get_close_matches(str(job.type), [*self._types, *self._queues], 1)
            hint = f"did you mean {close[0]}? else " if close else ""
            hint += "give its queue (--queue)"
            raise JobRefused("queue-unknown", detail=f"no queue is known for {job.type!r}; {hint}")
        if not QUEUE_NAME.fullmatch(queue):
            raise JobRefused("queue-name", detail=f"{queue!r} must match {QUEUE_NAME.pattern}")
        return queue

    def _data(self, job: NewJob) -> bytes:
        if isinstance(job.payload, bytes | bytearray | memoryview):
            return bytes(job.payload)
        try:
            data = msgspec.json.encode(job.payload)
        except RecursionError:
            raise JobRefused("data-nesting", detail="nested too deeply") from None
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
            raise JobRefused("data-json", detail=str(error)[:300]) from None
        if b"null" in data:
            _refuse_nan(job.payload)
        return data

    def _judge(self, job: NewJob, fields: list[bytes], now_ms: int) -> None:
        headers = job.headers or {}
        found: Mapping[str, str] = headers
        data = fields[3]
        try:
            # Of a job without options, a type that was judged before leaves the size to look at.
            is_plain = len(fields) == 4 and job.type in self._judged
            if not is_plain or len(data) > self._limits.data_bytes_max:
                found = parse(fields, entry_ms=now_ms, limits=self._limits).headers
            self._decoder(job.type)(data)
        except Malformed as error:
            raise JobRefused(error.rule, path=error.path, detail=error.detail) from None
        if len(found) != len(headers):
            raise JobRefused("header-name", detail="a header has the name of a field of the wire")

    def _decoder(self, job_type: str) -> Callable[[bytes], Any]:
        known = self._types.get(job_type)
        if known is None:
            return self._any_object
        decoder = self._decoders.get(job_type)
        if decoder is None:
            decoder = self._decoders[job_type] = payload_decoder(known.payload)
        return decoder


def enqueued(queue: str, lane: str, own_id: str | None, answer: str | Dropped) -> Enqueued | Shed:
    """Name a job that the server has taken, or that was dropped on purpose."""
    if isinstance(answer, Dropped):
        return Shed(own_id or "", queue, lane, answer.why)
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


def _text(value: Any) -> bytes:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise JobRefused("at-number", detail="a datetime must carry its time zone")
        value = (value - _EPOCH) // _MILLISECOND
    # What has no encoding is passed on, for the rule of its field to refuse.
    return str(value).encode("utf-8", "surrogatepass")


def _refuse_nan(payload: Any) -> None:
    """The encoder writes null for numbers that JSON does not have."""
    try:
        json.dumps(msgspec.to_builtins(payload), allow_nan=False)
    except ValueError:
        raise JobRefused("data-json", detail="NaN and infinity are no JSON numbers") from None
