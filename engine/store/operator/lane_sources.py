"""Readers over what waits and runs in a queue's lanes, and behind their gates."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from functools import partial

from engine.store.link import Command
from engine.store.operator.counting import delivered_of
from engine.store.operator.entry import Found, parked_entry
from engine.store.operator.link import (
    CHUNK_ENTRIES_MAX,
    Entry,
    OperatorLink,
    Pace,
    entry_bytes,
    entry_ms,
)
from engine.store.operator.sieve import Chunk, entry_hay
from engine.store.operator.wanted import Chunks, Wanted, entry_order, names_from
from engine.wire.keys import GROUP, RELEASED, lane_of

PendingRow = tuple[bytes, bytes, int, int]
RELEASED_BY = RELEASED.encode()
PENDING_MAX = 20_000
"""Most pending entries of a lane that are put into another order than the server's."""


async def waiting(link: OperatorLink, wanted: Wanted) -> Chunks:
    """Jobs that no engine has, lane by lane; in each the handed-back ones are the oldest."""
    at_stream, _, rest = wanted.position.partition("/")
    at_part, _, at_entry = rest.partition("/")
    for stream in names_from(wanted.all_streams(), at_stream):
        began = at_entry if stream == at_stream else ""
        parts = ("fresh", "back") if wanted.newest else ("back", "fresh")
        for part in names_from(parts, at_part if began else ""):
            after = began if part == at_part else ""
            reader = _fresh if part == "fresh" else _handed_back
            async for chunk in reader(link, wanted, stream, after):
                yield chunk


async def _fresh(link: OperatorLink, wanted: Wanted, stream: str, after: str) -> Chunks:
    key = wanted.keys.lane(stream)
    low = await last_delivered(link, key)
    if after and not wanted.newest:
        # What engines took meanwhile is waiting no more.
        low = max(low, after, key=entry_order)
    low = f"({low}"
    if wanted.after_ms and entry_order(low[1:]) < (wanted.after_ms, 0):
        low = f"{wanted.after_ms}-0"
    high = f"({wanted.before_ms}-0" if wanted.before_ms else "+"
    if after and wanted.newest:
        high = f"({after}"
    async for entries in link.stream(key, low=low, high=high, newest=wanted.newest):
        yield Chunk(entries, partial(_waiting, wanted, stream, "fresh"), entry_hay)


async def _handed_back(link: OperatorLink, wanted: Wanted, stream: str, after: str) -> Chunks:
    async for rows, entries in _pending(link, wanted, stream, after, RELEASED_BY):
        there = [
            (row[0], entry[1])
            for row, entry in zip(rows, entries, strict=True)
            if entry is not None
        ]
        yield Chunk(there, partial(_waiting, wanted, stream, "back"), entry_hay)


def _waiting(wanted: Wanted, stream: str, part: str, raw: Entry) -> Found:
    entry, fields = raw
    return Found(
        queue=wanted.keys.queue,
        state="waiting",
        lane=lane_of(stream),
        stream=stream,
        entry=entry.decode(),
        fields=fields,
        at_ms=entry_ms(entry),
        position=f"{stream}/{part}/{entry.decode()}",
    )


async def active(link: OperatorLink, wanted: Wanted) -> Chunks:
    """Jobs that engines have, lane by lane."""
    at_stream, _, at_entry = wanted.position.partition("/")
    now_ms = await link.now_ms()
    for stream in names_from(wanted.all_streams(), at_stream):
        after = at_entry if stream == at_stream else ""
        async for rows, entries in _pending(link, wanted, stream, after, None):
            held = [pair for pair in zip(rows, entries, strict=True) if pair[0][1] != RELEASED_BY]
            yield Chunk(held, partial(_active, wanted, stream, now_ms), _pending_hay)


def _active(
    wanted: Wanted, stream: str, now_ms: int, raw: tuple[PendingRow, Entry | None]
) -> Found:
    row, entry = raw
    return Found(
        queue=wanted.keys.queue,
        state="active",
        lane=lane_of(stream),
        stream=stream,
        entry=row[0].decode(),
        fields=entry[1] if entry else [],
        at_ms=now_ms - row[2],
        position=f"{stream}/{row[0].decode()}",
        consumer=row[1].decode(),
        deliveries=row[3],
    )


def _pending_hay(raw: tuple[PendingRow, Entry | None]) -> bytes:
    row, entry = raw
    return entry_hay(entry or (row[0], []))


async def _pending(
    link: OperatorLink, wanted: Wanted, stream: str, after: str, consumer: bytes | None
) -> AsyncIterator[tuple[list[PendingRow], list[Entry | None]]]:
    """Read a pending list with the bodies of its entries."""
    key = wanted.keys.lane(stream)
    pace = Pace()
    async for rows in _pending_rows(link, key, after, consumer, newest=wanted.newest):
        begin = 0
        while begin < len(rows):
            part = rows[begin : begin + pace.count]
            begin += len(part)
            found = await link.many([(b"XRANGE", key, row[0], row[0]) for row in part])
            entries = [reply[0] if reply else None for reply in found]
            pace.note(len(part), sum(entry_bytes(entry) for entry in entries if entry))
            yield part, entries


async def _pending_rows(
    link: OperatorLink, key: str, after: str, consumer: bytes | None, *, newest: bool
) -> AsyncIterator[list[PendingRow]]:
    """
    Read a pending list, which the server gives in ascending order alone.

    The newest first takes the whole list, up to a bound that engines do not reach.
    """
    named = [consumer] if consumer else []
    low, high = "-", "+"
    if after:
        low, high = ("-", f"({after}") if newest else (f"({after}", "+")
    gathered: list[PendingRow] = []
    while True:
        command: Command = (b"XPENDING", key, GROUP, low, high, CHUNK_ENTRIES_MAX, *named)
        (rows,) = await link.many([command])
        if rows and newest:
            gathered = [*gathered, *rows][-PENDING_MAX:]
        elif rows:
            yield rows
        if not rows or len(rows) < CHUNK_ENTRIES_MAX:
            break
        low = "(" + rows[-1][0].decode()
    for begin in range(0, len(gathered), CHUNK_ENTRIES_MAX):
        yield gathered[::-1][begin : begin + CHUNK_ENTRIES_MAX]


async def parked(link: OperatorLink, wanted: Wanted) -> Chunks:
    """Jobs that wait behind another of their key, or for a limit: line by line, in their order."""
    at_lane, _, at = wanted.position.partition("/")
    for lane in names_from(wanted.lanes, at_lane):
        began = base64.urlsafe_b64decode(at) if at and lane == at_lane else b""
        async for chunk in in_lines(link, wanted, lane, began):
            yield chunk


async def in_lines(
    link: OperatorLink, wanted: Wanted, lane: str, after: bytes, *, low: bytes = b"-"
) -> Chunks:
    """
    Read the parked jobs of one lane.

    Args:
        link: The connection.
        wanted: The queue and the direction.
        lane: The lane.
        after: Line and ticket of the last one seen; empty to begin.
        low: Where to begin, as ZRANGEBYLEX takes it.
    """
    key, high = wanted.keys.parked(lane), b"+"
    pace = Pace()
    while True:
        if after and wanted.newest:
            high = b"(" + after + b"\0"
        elif after:
            low = b"(" + after + b"\1"
        verb, bounds = (b"ZRANGEBYLEX", (low, high))
        if wanted.newest:
            verb, bounds = (b"ZREVRANGEBYLEX", (high, low))
        count = pace.count
        members: list[bytes] = await link.one(verb, key, *bounds, b"LIMIT", 0, count)
        if not members:
            return
        pace.note(len(members), sum(map(len, members)))
        yield Chunk(members, partial(parked_entry, wanted.keys.queue, lane), bytes)
        if len(members) < count:
            return
        after = b"\0".join(members[-1].split(b"\0", 2)[:2])


async def last_delivered(link: OperatorLink, key: str) -> str:
    """Return the id of the last entry of a lane that an engine was given."""
    (groups,) = await link.many([(b"XINFO", b"GROUPS", key)])
    return delivered_of(groups)
