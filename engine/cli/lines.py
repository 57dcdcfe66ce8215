"""JSON lines from a file or a pipe, as new jobs."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import msgspec

from engine.client import NewJob

CHUNK_BYTES = 65_536
CHUNKS_MAX = 16
LINE_BYTES_MAX = 64 * 1_048_576

_UNITS_MS = {"": 1, "ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SPAN = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)(ms|s|m|h|d|)")


class LineError(ValueError):
    """
    A line that is no job.

    Attributes:
        rule: The rule that it breaks.
        path: Empty: it is not about the payload.
        detail: What is wrong.
    """

    path = ""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


class Line(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """
    One line: the fields of the wire, under the same names.

    Durations may be written ``500ms``, ``30s``, ``2h``; moments as ISO 8601 with their zone.
    """

    type: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    queue: str | None = None
    lane: str | None = None
    id: str | None = None
    delay: int | str | None = None
    at: int | str | None = None
    ttl: int | str | None = None
    expires: int | str | None = None
    attempts: int | None = None
    v: int | None = None
    reply: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    key: str | None = None
    unique: str | None = None
    window: int | str | None = None
    debounce: int | str | None = None
    debounce_max: int | str | None = msgspec.field(default=None, name="debounce-max")
    throttle: int | str | None = None
    headers: dict[str, str] | None = None


_decoder = msgspec.json.Decoder(Line)


def read_line(text: bytes, defaults: Line) -> NewJob:
    """
    Read one line; what it leaves out comes from the defaults.

    Raises:
        LineError: It is no job.
    """
    try:
        line = _decoder.decode(text)
    except msgspec.ValidationError as error:
        raise LineError("line-field", str(error)) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise LineError("line-json", str(error)[:200]) from None
    return new_job(line, defaults)


def new_job(line: Line, defaults: Line) -> NewJob:
    """
    Turn a line into a job.

    Raises:
        LineError: Its type or data are missing, or a time cannot be read.
    """
    given = {**msgspec.structs.asdict(defaults), **_said(line)}
    if given["type"] is None:
        raise LineError("type-missing", "give it in the line, or as TYPE for all lines")
    data = bytes(line.data)
    if not data:
        raise LineError("data-missing", "the field `data` is required")
    return NewJob(
        given["type"],
        data,
        queue=given["queue"],
        lane=given["lane"] or "normal",
        id=given["id"],
        delay_ms=span_ms("delay", given["delay"]),
        at=moment("at", given["at"]),
        ttl_ms=span_ms("ttl", given["ttl"]),
        expires=moment("expires", given["expires"]),
        attempts=given["attempts"],
        version=given["v"],
        reply=given["reply"],
        traceparent=given["traceparent"],
        tracestate=given["tracestate"],
        key=given["key"],
        unique=given["unique"],
        window_ms=span_ms("window", given["window"]),
        debounce_ms=span_ms("debounce", given["debounce"]),
        debounce_max_ms=span_ms("debounce-max", given["debounce_max"]),
        throttle_ms=span_ms("throttle", given["throttle"]),
        headers=given["headers"],
    )


def span_ms(field: str, value: int | str | None) -> int | None:
    """
    Read a duration.

    Raises:
        LineError: It is none.
    """
    if value is None or isinstance(value, int):
        return value
    found = _SPAN.fullmatch(value.strip())
    if found is None:
        raise LineError(f"{field}-number", f"{value!r} is neither ms nor such as 500ms, 30s, 2h")
    return round(float(found[1]) * _UNITS_MS[found[2]])


def moment(field: str, value: int | str | None) -> datetime | int | None:
    """
    Read a moment.

    Raises:
        LineError: It is none.
    """
    if value is None or isinstance(value, int):
        return value
    if value.strip().isdigit():
        return int(value)
    try:
        found = datetime.fromisoformat(value.strip())
    except ValueError:
        raise LineError(f"{field}-number", f"{value!r} is neither Unix ms nor ISO 8601") from None
    if found.tzinfo is None:
        raise LineError(f"{field}-number", f"{value!r} names no time zone, such as Z or +02:00")
    return found


def _said(line: Line) -> dict[str, Any]:
    return {
        name: value for name, value in msgspec.structs.asdict(line).items() if value is not None
    }


class LineSource:
    """
    Lines of a file descriptor, read in a thread so that a pipe which waits holds up nothing.

    Args:
        descriptor: What to read.

    Attributes:
        bytes_read: How far it is.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._chunks: asyncio.Queue[bytes | OSError] = asyncio.Queue()
        self._room = threading.Semaphore(CHUNKS_MAX)
        self._stopped = threading.Event()
        self.bytes_read = 0

    def stop(self) -> None:
        """End the lines here; what was handed out goes on."""
        self._stopped.set()
        self._chunks.put_nowait(b"")

    async def lines(self) -> AsyncIterator[bytes | None]:
        """
        Yield lines without their ends; None stands for one that is too long.

        Raises:
            OSError: It cannot be read.
        """
        loop = asyncio.get_running_loop()
        # A daemon, since nobody can end a thread that waits for a terminal.
        threading.Thread(target=self._read, args=(loop,), daemon=True).start()
        rest = _Rest()
        while not self._stopped.is_set():
            chunk = await self._chunks.get()
            if isinstance(chunk, OSError):
                raise chunk
            if not chunk:
                break
            self._room.release()
            self.bytes_read += len(chunk)
            first, *whole = chunk.split(b"\n")
            rest.add(first)
            for line in whole:
                if self._stopped.is_set():
                    return
                yield rest.take()
                rest.add(line)
        if rest.size and not self._stopped.is_set():
            yield rest.take()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        chunk: bytes | OSError = b"more"
        while chunk and not isinstance(chunk, OSError) and not self._stopped.is_set():
            self._room.acquire()
            try:
                chunk = os.read(self._descriptor, CHUNK_BYTES)
            except OSError as error:
                chunk = error
            try:
                loop.call_soon_threadsafe(self._chunks.put_nowait, chunk)
            except RuntimeError:
                # The loop has ended; nobody wants the rest.
                return


class _Rest:
    """The beginning of a line whose end has not come; kept in parts, since it may be long."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if self.size <= LINE_BYTES_MAX:
            self._parts.append(part)
        else:
            self._parts.clear()

    def take(self) -> bytes | None:
        line = b"".join(self._parts) if self.size <= LINE_BYTES_MAX else None
        self._parts.clear()
        self.size = 0
        return line
