"""A stream and its consumer group, as Redis keeps them, in plain dictionaries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

EntryId = tuple[int, int]
ZERO: EntryId = (0, 0)


def parse_id(entry: bytes) -> EntryId:
    """Turn ``ms-seq`` into numbers that compare."""
    ms, _, seq = entry.partition(b"-")
    return int(ms), int(seq)


def jobs_in(fields: Sequence[bytes]) -> int:
    """Jobs that one entry of the done stream stands for."""
    return int(dict(zip(fields[::2], fields[1::2], strict=True)).get(b"n", b"1"))


class Delivery(NamedTuple):
    """One entry as handed to a consumer, with its delivery count."""

    lane: str
    entry: bytes
    fields: list[bytes]
    deliveries: int


class Pending(msgspec.Struct):
    """
    One line of a group's pending list.

    Attributes:
        consumer: Who holds the entry.
        delivered_ms: The server's Unix ms at the last delivery or claim.
        deliveries: How often it was delivered.
    """

    consumer: str
    delivered_ms: float
    deliveries: int

    def idle_ms(self, now_ms: float) -> float:
        """Time since the last delivery by the server's clock, downtime included."""
        return max(0.0, now_ms - self.delivered_ms)


class GroupModel:
    """
    A consumer group.

    Args:
        start: Entries up to this id are not delivered.
    """

    def __init__(self, start: EntryId) -> None:
        self.last = start
        self.pending: dict[bytes, Pending] = {}
        # consumer → Unix ms at which it was last seen
        self.consumers: dict[str, float] = {}

    def held_by(self, consumer: str) -> list[bytes]:
        """Entries pending for one consumer, oldest id first."""
        held = (entry for entry, line in self.pending.items() if line.consumer == consumer)
        return sorted(held, key=parse_id)


class StreamModel:
    """A stream with at most one group."""

    def __init__(self) -> None:
        self.entries: dict[bytes, list[bytes]] = {}
        self.last: EntryId = ZERO
        self.group: GroupModel | None = None

    def add(self, fields: Sequence[bytes], now_ms: float) -> bytes:
        """XADD; ids rise even while the clock goes back."""
        fresh = (int(now_ms), 0)
        self.last = fresh if fresh > self.last else (self.last[0], self.last[1] + 1)
        entry = b"%d-%d" % self.last
        self.entries[entry] = list(fields)
        return entry

    def waiting(self) -> Iterator[bytes]:
        """Entries that no group member has been given, oldest first."""
        last = self.group.last if self.group else ZERO
        return (entry for entry in self.entries if parse_id(entry) > last)

    def trim_to(self, entries_max: int) -> None:
        """XTRIM MAXLEN."""
        for entry in list(self.entries)[: max(0, len(self.entries) - entries_max)]:
            del self.entries[entry]
