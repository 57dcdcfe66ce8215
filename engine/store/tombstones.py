"""The tombstones of one queue, as the control poll reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.store.link import Command
from engine.wire.tombstones import TOMBSTONES_MAX, read_tombstones
from schemas.job import Tombstone

PAGE = 1_000


class TombstonePages:
    """
    The tombstones of one queue, read in pages, so that no reply is long however many there are.

    What a round has brought so far counts at once; what it did not find again counts until its end.

    Attributes:
        is_complete: A whole round was read since the start.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self._cursor = b"0"
        self._known: dict[str, Tombstone] = {}
        self._fresh: dict[str, Tombstone] = {}

    def next(self, key: str) -> Command:
        """Ask for the next page; where no job is cancelled, that is one empty reply."""
        return (b"HSCAN", key, self._cursor, b"COUNT", PAGE)

    def note(self, page: Sequence[Any]) -> Mapping[str, Tombstone]:
        """Take a page, and return what is known by now."""
        self._cursor, flat = page
        if flat and len(self._fresh) < TOMBSTONES_MAX:
            self._fresh |= read_tombstones(flat)
        if self._cursor != b"0":
            return self._known | self._fresh
        self._known, self._fresh = self._fresh, {}
        self.is_complete = True
        return self._known
