"""How one queue's streams are read: commands packed once, replies made leases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import hiredis

from engine.store.base import Batch, Lease
from engine.store.faults import reply_fault
from engine.store.link import Argument, packed
from engine.store.marks import Mark
from engine.wire.keys import GROUP, QueueKeys

_COUNT = b"$5\r\nCOUNT\r\n"
_NONE = b"$1\r\n0\r\n"


class Reads:
    """
    The reads of one queue by one engine.

    Args:
        keys: The queue's keys.
        consumer: The engine's name in the groups.
    """

    def __init__(self, keys: QueueKeys, consumer: str) -> None:
        self._keys = keys
        self._consumer = consumer
        self._streams = {name.encode(): stream for stream, name in keys.streams.items()}
        self._parts: dict[tuple[Sequence[str], int], tuple[bytes, bytes]] = {}

    def command(self, streams: tuple[str, ...], count: int, block_ms: int = 0) -> bytes:
        """Read up to so many entries of each stream; all but the count is packed once."""
        parts = self._parts.get((streams, block_ms))
        if parts is None:
            parts = self._parts[streams, block_ms] = self._pack(streams, block_ms)
        head, tail = parts
        digits = b"%d" % count
        return b"%b$%d\r\n%b\r\n%b" % (head, len(digits), digits, tail)

    def _pack(self, streams: Sequence[str], block_ms: int) -> tuple[bytes, bytes]:
        words: list[Argument] = [b"XREADGROUP", b"GROUP", GROUP, self._consumer, b"COUNT", 0]
        if block_ms:
            words += (b"BLOCK", block_ms)
        words += (b"STREAMS", *map(self._keys.lane, streams), *(b">" for _ in streams))
        whole = packed(words)
        head, _, tail = whole.partition(_COUNT + _NONE)
        return head + _COUNT, tail

    def leases(
        self, replies: Sequence[Any], since: float, marks: Mapping[str, Mark | None]
    ) -> list[Lease]:
        """Turn the replies of reads into leases; what one read brought is never dropped."""
        leases: list[Lease] = []
        refused: list[str] = []
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                refused.append(str(reply))
                continue
            for name, entries in reply or ():
                stream = self._streams[name]
                batch = Batch(lane=stream, since=since, mark=marks[stream])
                leases += [Lease(batch, entry, fields) for entry, fields in entries]
        if refused and not leases:
            # Where another lane answered, its jobs are ours; the next read meets the error again.
            raise reply_fault(refused[0])
        return leases
