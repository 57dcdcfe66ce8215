"""
Logs: named events with fields, one line each, for people or for machines.

Payloads are never logged: a field shows a plain, short value, and of anything else its type.
Strangers write ids and error texts, so control characters and whatever else steers a terminal or
starts a new line is written out. In an outage one event says itself a few times and is then
counted, so that the volume stays bounded.

Before :func:`set_up`, as in a program that merely enqueues, events go to :mod:`logging` under
``streamlane`` and follow that program's set-up.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO

import orjson

from engine.late import when_imported

TEXT_MAX = 500
TRACEBACK_MAX = 4_000
FIELDS_MAX = 40
EVENTS_MAX = 20
PERIOD_S = 10.0
"""Times that one event with one key is logged within a period."""

KEYS_MAX = 2_000

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
NEVER = frozenset({"payload", "data", "body", "content", "fields", "result"})
"""Fields that hold what belongs to the jobs' owners."""

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_TRACE_ID = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "31;1"}


class Times(Protocol):
    """The part of :class:`engine.clock.Clock` that logs need."""

    @property
    def monotonic(self) -> Callable[[], float]: ...

    def now_ms(self) -> int: ...


class Log:
    """
    A named source of events; costs next to nothing below the level that was set.

    The field ``limit_key``, else ``queue``, says what is counted apart when an event repeats.

    Args:
        name: Who speaks.
        bound: Fields that every event carries.
    """

    __slots__ = ("_bound", "_name")

    def __init__(self, name: str, bound: Mapping[str, Any] | None = None) -> None:
        self._name = name
        self._bound = dict(bound or {})

    def bind(self, **fields: Any) -> Log:
        """Return a log whose events carry these fields too."""
        return Log(self._name, {**self._bound, **fields})

    def says_debug(self) -> bool:
        """Tell whether debug events are told, before many are put together."""
        return _sink.level <= 10 and logging.getLogger(f"streamlane.{self._name}").isEnabledFor(10)

    def debug(self, event: str, **fields: Any) -> None:
        """Tell what helps to find a mistake."""
        if _sink.level <= 10:
            _sink.take("debug", event, {**self._bound, **fields}, self._name)

    def info(self, event: str, **fields: Any) -> None:
        """Tell what happens in the normal course of things."""
        if _sink.level <= 20:
            _sink.take("info", event, {**self._bound, **fields}, self._name)

    def warning(self, event: str, **fields: Any) -> None:
        """Tell what somebody should know of."""
        if _sink.level <= 30:
            _sink.take("warning", event, {**self._bound, **fields}, self._name)

    def error(self, event: str, **fields: Any) -> None:
        """Tell what somebody should do something about; ``exc_info=error`` adds the traceback."""
        if _sink.level <= 40:
            _sink.take("error", event, {**self._bound, **fields}, self._name)


def get_logger(name: str) -> Log:
    """Return the log of one part of the engine."""
    return Log(name)


def set_up(
    *,
    log_format: str = "auto",
    log_level: str = "info",
    clock: Times,
    stream: TextIO | None = None,
) -> None:
    """
    Take over this process' logs: the engine's, :mod:`logging`'s and structlog's.

    Args:
        log_format: ``console``, ``json``, or ``auto`` for console on a terminal.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
        clock: Dates the lines and bounds their number.
        stream: Where lines go; stderr if left out.
    """
    global _sink  # noqa: PLW0603 - a process has one log
    out = stream or sys.stderr
    is_terminal = out.isatty()
    is_console = log_format == "console" or (log_format == "auto" and is_terminal)
    has_colour = is_terminal and not os.environ.get("NO_COLOR")
    render = _Console(has_colour=has_colour) if is_console else _json
    _sink = _Lines(out, render, LEVELS[log_level], clock)
    logging.basicConfig(handlers=[_Foreign()], level=LEVELS[log_level], force=True)
    for noisy in ("asyncio", "aiohttp.access", "urllib3"):
        logging.getLogger(noisy).setLevel(max(LEVELS[log_level], logging.WARNING))
    when_imported("structlog", _take_structlog)


def flush() -> None:
    """Tell what was counted and not yet told; for the end of a process."""
    _sink.flush()


class Limiter:
    """
    Lets each event pass a few times in a period and counts the rest.

    Args:
        monotonic: A clock in seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        # (level, event, key) → [start of its period, times passed, times counted]
        self._seen: dict[tuple[str, str, str], list[float]] = {}
        self._sweep_at = monotonic() + PERIOD_S

    def admit(self, level: str, event: str, key: str) -> int:
        """Return how many like it were counted before, or -1 to leave this one out."""
        now = self._monotonic()
        place = (level, event, key)
        seen = self._seen.get(place)
        if seen is None:
            if len(self._seen) >= KEYS_MAX:
                # So many keys are an outage of their own: they share one count.
                place = (level, event, "")
            seen = self._seen.setdefault(place, [now, 0, 0])
        suppressed = 0
        if now - seen[0] >= PERIOD_S:
            suppressed = int(seen[2])
            seen[:] = [now, 0, 0]
        if seen[1] >= EVENTS_MAX:
            seen[2] += 1
            return -1
        seen[1] += 1
        return suppressed

    def over(self, *, every: bool = False) -> list[tuple[str, str, str, int]]:
        """Forget periods that are over, and return what was counted in them."""
        now = self._monotonic()
        if now < self._sweep_at and not every:
            return []
        self._sweep_at = now + PERIOD_S
        ended = [place for place, seen in self._seen.items() if every or now - seen[0] >= PERIOD_S]
        counted = [(*place, int(self._seen.pop(place)[2])) for place in ended]
        return [each for each in counted if each[3]]


class _Quiet:
    """Before the set-up: hand everything to :mod:`logging`."""

    level = 10

    def take(self, level: str, event: str, fields: dict[str, Any], name: str) -> None:
        log = logging.getLogger(f"streamlane.{name}")
        number = LEVELS[level]
        if log.isEnabledFor(number):
            raised = fields.pop("exc_info", None)
            fields.pop("limit_key", None)
            fields.pop("limit_as", None)
            log.log(number, "%s", _line(event, clean(fields)), exc_info=raised)

    def flush(self) -> None:
        """Nothing is counted."""


class _Lines:
    """After the set-up: one line an event."""

    def __init__(
        self, stream: TextIO, render: Callable[[dict[str, Any]], str], level: int, clock: Times
    ) -> None:
        self.level = level
        self._stream = stream
        self._render = render
        self._clock = clock
        self._limiter = Limiter(clock.monotonic)
        # Reentrant, since a finaliser may log while a line is written.
        self._lock = threading.RLock()

    def take(self, level: str, event: str, fields: dict[str, Any], name: str) -> None:
        place = fields.pop("limit_as", event)
        key = str(fields.pop("limit_key", fields.get("queue", "")))
        with self._lock:
            for over in self._limiter.over():
                self._summary(*over)
            suppressed = 0 if level == "debug" else self._limiter.admit(level, place, key)
            if suppressed < 0:
                return
            if suppressed:
                fields["suppressed"] = suppressed
            self._write(level, event, fields, name)

    def flush(self) -> None:
        with self._lock:
            for over in self._limiter.over(every=True):
                self._summary(*over)

    def _summary(self, level: str, event: str, key: str, suppressed: int) -> None:
        self._write(level, "log_suppressed", {"of": event, "key": key, "suppressed": suppressed})

    def _write(self, level: str, event: str, fields: dict[str, Any], name: str = "engine") -> None:
        raised = fields.pop("exc_info", None)
        now = datetime.fromtimestamp(self._clock.now_ms() / 1_000, UTC)
        line = {
            "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": level,
            "logger": name,
            "event": safe(event[:TEXT_MAX]),
            **clean(fields),
        }
        if error := _raised(raised):
            line["exception"] = _traceback(error)
        try:
            self._stream.write(self._render(line) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            # Nobody reads the log any more; the work goes on.
            pass


class _Foreign(logging.Handler):
    """Brings what libraries log into the same lines."""

    def emit(self, record: logging.LogRecord) -> None:
        level = next(
            (name for name, number in LEVELS.items() if record.levelno <= number), "critical"
        )
        # Messages differ each time; the line of code that they come from does not.
        fields: dict[str, Any] = {"limit_as": f"{record.name}:{record.lineno}"}
        if record.exc_info and record.exc_info[1]:
            fields["exc_info"] = record.exc_info[1]
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a message that does not fit its arguments
            message = str(record.msg)
        _sink.take(level, message, fields, record.name)


class _Console:
    """Lines for people."""

    def __init__(self, *, has_colour: bool) -> None:
        self._has_colour = has_colour

    def __call__(self, line: dict[str, Any]) -> str:
        level, event = line.pop("level"), line.pop("event")
        time, name = line.pop("time")[11:-1], line.pop("logger")
        trace = line.pop("exception", "")
        word = f"{level:<7}"
        if self._has_colour:
            word = f"\x1b[{_COLOURS[level]}m{word}\x1b[0m"
            event = f"\x1b[1m{event}\x1b[0m"
        who = "" if name == "engine" else f"{safe(name)}: "
        first = f"{time} {word} {who}{_line(event, line)}"
        # A traceback keeps its lines; the bar keeps them from being taken for events.
        rest = [f"    | {safe(each)}" for each in trace.split("\n") if each]
        return "\n".join([first, *rest])


def _json(line: dict[str, Any]) -> str:
    if "exception" in line:
        line["exception"] = "\n".join(map(safe, line["exception"].split("\n")))
    return orjson.dumps(line).decode()


def _line(event: str, fields: Mapping[str, Any]) -> str:
    parts = [event]
    for name, value in fields.items():
        text = str(value)
        if not text or " " in text or '"' in text or "=" in text:
            text = '"' + text.replace('"', '\\"') + '"'
        parts.append(f"{name}={text}")
    return " ".join(parts)


def clean(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what may be logged of fields: short, harmless, and no payloads."""
    cleaned: dict[str, Any] = {}
    for name, value in fields.items():
        if value is None or value == "" or len(cleaned) >= FIELDS_MAX:
            continue
        if name == "traceparent":
            found = _TRACE_ID.fullmatch(str(value))
            if found:
                cleaned["trace_id"] = found[1]
            continue
        cleaned[safe(name)] = "<left out>" if name in NEVER else _value(value)
    return cleaned


def safe(text: str) -> str:
    """Write out whatever starts a line or steers a terminal, and text that has no encoding."""
    return _UNSAFE.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    each = match[0]
    code = ord(each)
    return _NAMED.get(each) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def _value(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**53):
        return value
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, BaseException):
        value = f"{type(value).__name__}: {value}"
    if isinstance(value, int):
        value = str(value)
    if isinstance(value, str):
        return safe(value if len(value) <= TEXT_MAX else value[:TEXT_MAX] + "…")
    if isinstance(value, list | tuple | set | frozenset):
        shown = ",".join(str(_value(each)) for each in list(value)[:20])
        return shown if len(value) <= 20 else f"{shown},… ({len(value)})"
    # A struct's or a dict's text would show what is in it.
    return f"<{type(value).__name__}>"


def _raised(raised: Any) -> BaseException | None:
    if isinstance(raised, BaseException):
        return raised
    if isinstance(raised, tuple):
        return raised[1] if len(raised) > 1 else None
    return sys.exc_info()[1] if raised else None


def _traceback(error: BaseException) -> str:
    try:
        text = "".join(traceback.TracebackException.from_exception(error, limit=-12).format())
    except Exception:  # noqa: BLE001 - an error whose own text fails
        text = type(error).__name__
    return text if len(text) <= TRACEBACK_MAX else "…" + text[-TRACEBACK_MAX:]


def _take_structlog() -> None:
    """Bring what an app tells structlog into the same lines."""
    import structlog

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, _structlog],
        wrapper_class=structlog.make_filtering_bound_logger(_sink.level),
        cache_logger_on_first_use=False,
    )


def _structlog(_: Any, method: str, fields: MutableMapping[str, Any]) -> Any:
    """Take the events of code that uses structlog itself."""
    event = str(fields.pop("event", ""))
    level = method if method in LEVELS else {"exception": "error", "warn": "warning"}.get(method)
    _sink.take(level or "info", event, dict(fields), str(fields.pop("logger", "app")))
    import structlog

    raise structlog.DropEvent


_sink: _Quiet | _Lines = _Quiet()
