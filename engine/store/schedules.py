"""
Records of schedules ⇄ what is in ``mq:{Q}:schedules``, and the jobs that their ticks make.

Anybody may write a record, by hand with ``HSET`` too, so reading one judges all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import msgspec

from engine.core.schedule import check
from engine.errors import Malformed, ScheduleError
from engine.wire.codec import META, Limits, parse
from engine.wire.payload import payload_decoder
from schemas.rules import LANES, SCHEDULE_NAME
from schemas.schedule import CatchUp, Schedule

RECORD_BYTES_MAX = 2 * 1_048_576

OURS = frozenset(("type", "data", "id", "schedule", "tick", META.decode()))
MOMENTS = frozenset(("at", "expires"))

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_decoder = msgspec.json.Decoder(Schedule)
_encode = msgspec.json.encode
_any_object = payload_decoder(dict[str, object])


def read_schedule(name: bytes, raw: bytes) -> tuple[str, Schedule]:
    """
    Read a record and judge it; returns the schedule with its name.

    Raises:
        ScheduleError: Something about it is wrong.
    """
    text = name.decode("utf-8", "replace")
    if len(raw) > RECORD_BYTES_MAX:
        raise ScheduleError(f"the record has {len(raw)} bytes, over {RECORD_BYTES_MAX}")
    try:
        spec = _decoder.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ScheduleError(f"the record cannot be read: {str(error)[:200]}") from None
    check_schedule(text, spec)
    return text, spec


def check_schedule(name: str, spec: Schedule, limits: Limits | None = None) -> None:
    """
    Judge a schedule: its name, its times, and the jobs that it would make.

    Raises:
        ScheduleError: Something about it is wrong.
    """
    if not SCHEDULE_NAME.fullmatch(name):
        raise ScheduleError(f"schedule name {name[:120]!r} must match {SCHEDULE_NAME.pattern}")
    check(spec)
    if spec.lane not in LANES:
        raise ScheduleError(f"lane {spec.lane!r} is none of {', '.join(LANES)}")
    for field in spec.fields:
        if field in OURS or field in MOMENTS:
            why = "is set by the schedule" if field in OURS else "is one moment, for many jobs"
            raise ScheduleError(f"the field {field!r} {why}")
    try:
        parse(job_fields(name, spec, 1), entry_ms=1, limits=limits or Limits())
        _any_object(bytes(spec.data))
    except (Malformed, UnicodeEncodeError) as error:
        raise ScheduleError(f"its jobs would be malformed: {error}") from None


def moment_ms(at: datetime | int) -> int:
    """
    Return a moment as Unix ms.

    Raises:
        ScheduleError: It names no time zone.
    """
    if not isinstance(at, datetime):
        return at
    if at.tzinfo is None:
        raise ScheduleError("the moment must carry its time zone")
    return (at - _EPOCH) // _MILLISECOND


def new_schedule(
    name: str,
    *,
    payload: Any,
    decode: Callable[[bytes], Any] | None = None,
    version: int = 1,
    at: datetime | int = 0,
    **settings: Any,
) -> Schedule:
    """
    Build a schedule and judge it.

    Args:
        name: Its name.
        payload: What its jobs carry: a struct, a mapping, or bytes that hold a JSON object.
        decode: Judges the payload, where its type is known.
        version: The payload's version.
        at: The only tick.
        settings: The other fields of :class:`schemas.schedule.Schedule`.

    Raises:
        ScheduleError: Something about it is wrong.
    """
    try:
        data = payload if isinstance(payload, bytes) else _encode(payload)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise ScheduleError(f"the payload is no JSON: {str(error)[:200]}") from None
    fields = dict(settings.pop("fields", None) or {})
    if version != 1:
        fields.setdefault("v", str(version))
    spec = Schedule(data=msgspec.Raw(data), at=moment_ms(at), fields=fields, **settings)
    check_schedule(name, spec)
    if decode is not None:
        try:
            decode(data)
        except Malformed as error:
            raise ScheduleError(f"the payload does not fit {spec.type}: {error}") from None
    if spec.catch_up not in get_args(CatchUp):
        raise ScheduleError(f"catch-up {spec.catch_up!r} is none of none, last, all")
    return spec


def encode_schedule(spec: Schedule) -> bytes:
    """Encode a record."""
    return _encode(spec)


def job_id(name: str, tick: int) -> str:
    """Return the id of the job that a tick makes: the same whoever fires it."""
    return f"{name}:{tick}"


def job_fields(name: str, spec: Schedule, tick: int, *, own_id: str = "") -> list[bytes]:
    """Return the stream fields of the job that a tick makes."""
    fields = [
        *(b"type", spec.type.encode(), b"data", bytes(spec.data)),
        *(b"id", (own_id or job_id(name, tick)).encode()),
        *(b"schedule", name.encode(), b"tick", b"%d" % tick),
    ]
    for field, value in spec.fields.items():
        fields += (field.encode(), value.encode())
    return fields
