"""What a reader of one of a queue's states is asked for, and the order that all keep."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from engine.store.operator.sieve import Chunk
from engine.wire.keys import READY, QueueKeys
from schemas.job import JobState
from schemas.rules import LANES

Chunks = AsyncIterator[Chunk[Any]]

_ENTRY = r"[0-9]{1,19}-[0-9]{1,19}"
_POSITIONS: Mapping[JobState, re.Pattern[str]] = {
    "waiting": re.compile(rf"[a-z:]+/(fresh|back)/{_ENTRY}"),
    "active": re.compile(rf"[a-z:]+/{_ENTRY}"),
    "delayed": re.compile(r"-?([0-9]{1,20}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?|inf)/[0-9]{1,9}"),
    "held": re.compile(rf"[a-z0-9._-]+/{_ENTRY}"),
    "parked": re.compile(r"[a-z]+/[A-Za-z0-9_=-]+"),
    "waiting-children": re.compile(r"[^\0]{1,200}"),
    "done": re.compile(rf"{_ENTRY}/[0-9]{{1,9}}"),
    "dead": re.compile(_ENTRY),
}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a reader is asked for.

    Attributes:
        keys: The queue's keys.
        lanes: Lanes to read.
        streams: Streams to read for what waits or is active; empty for all of the lanes.
        types: Types whose held streams exist.
        newest: The newest first.
        position: Where an earlier reader stopped; empty to begin.
        after_ms: Unix ms before which nothing need be read; 0 for no bound.
        before_ms: Unix ms from which on nothing need be read; 0 for no bound.
    """

    keys: QueueKeys
    lanes: Sequence[str] = LANES
    streams: Sequence[str] = ()
    types: Sequence[str] = ()
    newest: bool = False
    position: str = ""
    after_ms: int = 0
    before_ms: int = 0

    def all_streams(self) -> Sequence[str]:
        """Name the streams; what gates let through starts before the rest of its lane."""
        if self.streams:
            return self.streams
        pairs = [(READY[lane], lane) for lane in self.lanes]
        return [name for pair in pairs for name in (pair[::-1] if self.newest else pair)]


def check_position(state: JobState, position: str) -> None:
    """
    Refuse what no reader of a state gave as a position.

    Raises:
        ValueError: It is none.
    """
    if position and not _POSITIONS[state].fullmatch(position):
        raise ValueError(position)


def entry_order(entry: str) -> tuple[int, int]:
    """Return the parts of an entry's id, which order it."""
    ms, _, number = entry.partition("-")
    return int(ms), int(number or 0)


def names_from(names: Sequence[str], name: str) -> Sequence[str]:
    """Return the names from the given one on."""
    return names[list(names).index(name) :] if name in names else names
