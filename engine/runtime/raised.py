"""
What a handler raised, shortened for storage.

A job that fails may do so thousands of times a second, so what is the same for each (the name of a
class, a frame's place in its file) is put together once.
"""

from __future__ import annotations

import traceback
from types import TracebackType

from schemas.job import ErrorRecord

MESSAGE_CHARS_MAX = 500
TRACEBACK_MAX = 4_000
LINE_CHARS_MAX = 500
FRAMES_MAX = 8
REMEMBERED_MAX = 1_000
"""Classes, and frames, that are remembered; a handler may make new ones without end."""

_Known = dict[tuple[int, int], tuple[object, str]]
# By the id of a class, or of a frame's code and the place in it. What has the id is kept beside the
# text, so that the id is not given to another.
_names: _Known = {}
_frames: _Known = {}


def error_record(error: BaseException, *, full: bool) -> ErrorRecord:
    """
    Shorten an exception for storage.

    Args:
        error: What the handler raised.
        full: With source lines and causes, which costs tens of microseconds: for the last attempt.
    """
    # The first frame is the worker's own.
    frames = error.__traceback__.tb_next if error.__traceback__ is not None else None
    story = _story(error, frames) if full else "\n".join(_lines(frames))
    return ErrorRecord(
        kind=_name(type(error)),
        message=text_of(error),
        traceback=_storable(story[-TRACEBACK_MAX:]),
    )


def text_of(error: BaseException) -> str:
    """Shorten an exception's text; one that cannot even say what it is counts as empty."""
    try:
        return _storable(str(error)[:MESSAGE_CHARS_MAX])
    except BaseException:  # noqa: BLE001 - a handler's own __str__ may raise anything
        return ""


def _story(error: BaseException, frames: TracebackType | None) -> str:
    """Tell the frames with source lines and causes; long lines are cut, lest they crowd out."""
    try:
        told = traceback.format_exception(type(error), error, frames, limit=-FRAMES_MAX)
    except BaseException:  # noqa: BLE001 - an exception may fail to show itself
        told = _lines(frames)
    return "\n".join(line[:LINE_CHARS_MAX] for line in "".join(told).split("\n"))


def _name(kind: type) -> str:
    known = _names.get((id(kind), 0))
    if known is None:
        name = kind.__qualname__
        if kind.__module__ != "builtins":
            name = f"{kind.__module__}.{name}"
        known = _remember(_names, (id(kind), 0), kind, _storable(name[:200]))
    return known[1]


def _lines(at: TracebackType | None) -> list[str]:
    lines = []
    while at is not None:
        code = at.tb_frame.f_code
        place = (id(code), at.tb_lasti)
        known = _frames.get(place)
        if known is None:
            text = f"{code.co_filename}:{at.tb_lineno} in {code.co_name}"
            known = _remember(_frames, place, code, text)
        lines.append(known[1])
        at = at.tb_next
    return lines[-FRAMES_MAX:]


def _remember(known: _Known, key: tuple[int, int], owner: object, text: str) -> tuple[object, str]:
    if len(known) >= REMEMBERED_MAX:
        known.clear()
    known[key] = owner, text
    return known[key]


def _storable(text: str) -> str:
    """Lone surrogates cannot be written as UTF-8."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode()
