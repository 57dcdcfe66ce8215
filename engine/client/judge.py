"""
New jobs, judged before they are sent.

The fields are judged by :func:`engine.wire.codec.parse`, which engines use as well, so that the
rules stand once. A registry that knows the type also has its say about the payload.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from engine.client.full import WhenFull, checked, choices
from engine.client.jobs import NewJob
from engine.client.trees import TreeWriter
from engine.errors import JobRefused, Malformed
from engine.registry import Registry
from engine.store.batches import Outgoing, outgoing
from engine.wire.codec import Limits, parse
from engine.wire.flows import CHILDREN, RESULTS
from engine.wire.payload import payload_decoder
from schemas.rules import LANES, QUEUE_NAME

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_BYTES = (bytes, bytearray, memoryview)
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
    ("tracestate", b"tracestate"),
    ("key", b"key"),
    ("unique", b"unique"),
    ("window_ms", b"window"),
    ("debounce_ms", b"debounce"),
    ("debounce_max_ms", b"debounce-max"),
    ("throttle_ms", b"throttle"),
)


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
        self._encode = msgspec.json.Encoder().encode
        self._any_object = payload_decoder(dict[str, Any])
        # Types that have been judged before; of their bare jobs the payload is left to look at.
        self._known: dict[str, _Known] = {}

    def outgoing(self, job: NewJob, *, now_ms: int) -> tuple[str, Outgoing]:
        """
        Return a job's queue and what is sent.

        Raises:
            JobRefused: It breaks a rule.
        """
        return self.bare(job) or self.whole(job, now_ms=now_ms)

    def bare(self, job: NewJob) -> tuple[str, Outgoing] | None:
        """Judge a bare job of a type that was judged before; None where this is another one."""
        if not is_bare(job):
            return None
        known = self._known.get(job.type)
        when_full = self._when_full.get(job.lane)
        if known is None or when_full is None:
            return None
        data = self._data(job.payload)
        if len(data) > self._limits.data_bytes_max:
            return None
        try:
            known.decode(data)
        except Malformed as error:
            raise _refusal(error) from None
        fields = [b"type", known.name, b"data", data, *known.rest]
        return known.queue, Outgoing(job.lane, fields, False, known.size + len(data), when_full)

    def whole(self, job: NewJob, *, now_ms: int) -> tuple[str, Outgoing]:
        """Judge all of a job."""
        queue = self._queue(job)
        fields = self._fields(job)
        if job.children is not None:
            fields += self._family(job, now_ms)
        self._judge(job, fields, now_ms)
        when_full = checked(job.when_full) if job.when_full else self._when_full[job.lane]
        sent = outgoing(job.lane, fields, ordered=job.key is not None, when_full=when_full)
        if is_bare(job):
            decode, size = self._decoder(job.type), sent.size - len(fields[3])
            self._known[job.type] = _Known(queue, fields[1], fields[4:], decode, size)
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
        fields = [b"type", _text(job.type), b"data", self._data(job.payload)]
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

    def _data(self, payload: Any) -> bytes:
        if isinstance(payload, _BYTES):
            return bytes(payload)
        try:
            data = self._encode(payload)
        except RecursionError:
            raise JobRefused("data-nesting", detail="nested too deeply") from None
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
            raise JobRefused("data-json", detail=str(error)[:300]) from None
        if b"null" in data:
            _refuse_nan(payload)
        return data

    def _judge(self, job: NewJob, fields: list[bytes], now_ms: int) -> None:
        headers = job.headers or {}
        try:
            found = parse(fields, entry_ms=now_ms, limits=self._limits).headers
            self._decoder(job.type)(fields[3])
        except Malformed as error:
            raise _refusal(error) from None
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


class _Known(msgspec.Struct, frozen=True):
    """
    What was found out about a type.

    Attributes:
        queue: Its queue.
        name: What stands in the field ``type``.
        rest: The fields behind ``data``.
        decode: Judges a payload.
        size: Bytes that a job adds to a batch, without its payload.
    """

    queue: str
    name: bytes
    rest: list[bytes]
    decode: Callable[[bytes], Any]
    size: int


def is_bare(job: NewJob) -> bool:
    """Tell whether a job has but a type, a payload and a lane."""
    return (
        job.queue is None
        and job.id is None
        and job.delay_ms is None
        and job.at is None
        and job.ttl_ms is None
        and job.expires is None
        and job.attempts is None
        and job.version is None
        and job.reply is None
        and job.traceparent is None
        and job.key is None
        and job.unique is None
        and job.window_ms is None
        and job.debounce_ms is None
        and job.debounce_max_ms is None
        and job.throttle_ms is None
        and job.headers is None
        and job.when_full is None
        and job.children is None
    )


def _refusal(error: Malformed) -> JobRefused:
    return JobRefused(error.rule, path=error.path, detail=error.detail)


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
