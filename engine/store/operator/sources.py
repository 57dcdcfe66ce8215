"""
Readers over each state's keys: bounded chunks in a stable order, from a position that they gave.

A position names the last job seen; a reader goes on behind it. Jobs that leave meanwhile are passed
over, none that stays is missed.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from engine.errors import Malformed
from engine.store.link import Command
from engine.store.operator.counting import delivered_of
from engine.store.operator.entry import Found, dead_entry, packed_entry, parked_entry
from engine.store.operator.flows import parents
from engine.store.operator.link import (
    CHUNK_ENTRIES_MAX,
    Entry,
    OperatorLink,
    Pace,
    entry_bytes,
    entry_ms,
)
from engine.wire.done import decode_done
from engine.wire.keys import GROUP, READY, RELEASED, QueueKeys, lane_of
from schemas.job import JobState
from schemas.rules import LANES

Chunks = AsyncIterator[list[Found]]
PENDING_MAX = 20_000
"""Most pending entries of a lane that are put into another order than the server's."""


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
    """

    keys: QueueKeys
    lanes: Sequence[str] = LANES
    streams: Sequence[str] = ()
    types: Sequence[str] = ()
    newest: bool = False
    position: str = ""

    def all_streams(self) -> Sequence[str]:
        """Name the streams; what gates let through starts before the rest of its lane."""
        if self.streams:
            return self.streams
        pairs = [(READY[lane], lane) for lane in self.lanes]
        return [name for pair in pairs for name in (pair[::-1] if self.newest else pair)]


def read(link: OperatorLink, state: JobState, wanted: Wanted) -> Chunks:
    """Read the jobs of one state."""
    readers: dict[JobState, Callable[[OperatorLink, Wanted], Chunks]] = {
        "parked": parked,
        "waiting": waiting,
        "active": active,
        "delayed": delayed,
        "held": held,
        "waiting-children": waiting_children,
        "done": done,
        "dead": dead,
    }
    return readers[state](link, wanted)


async def waiting_children(link: OperatorLink, wanted: Wanted) -> Chunks:
    """Jobs that wait for others, by their ids."""
    reader = parents(
        link, wanted.keys, after=wanted.position, newest=wanted.newest, lanes=wanted.lanes
    )
    async for chunk in reader:
        yield chunk


async def waiting(link: OperatorLink, wanted: Wanted) -> Chunks:
    """Jobs that no engine has, lane by lane; in each the handed-back ones are the oldest."""
    at_stream, _, rest = wanted.position.partition("/")
    at_part, _, at_entry = rest.partition("/")
    for stream in _from(wanted.all_streams(), at_stream):
        began = at_entry if stream == at_stream else ""
        parts = ("fresh", "back") if wanted.newest else ("back", "fresh")
        for part in _from(parts, at_part if began else ""):
            after = began if part == at_part else ""
            reader = _fresh if part == "fresh" else _handed_back
            async for chunk in reader(link, wanted, stream, after):
                yield chunk


async def _fresh(link: OperatorLink, wanted: Wanted, stream: str, after: str) -> Chunks:
    key = wanted.keys.lane(stream)
    low = await last_delivered(link, key)
    if after and not wanted.newest:
        # What engines took meanwhile is waiting no more.
        low = max(low, after, key=_order)
    low = f"({low}"
    high = f"({after}" if after and wanted.newest else "+"
    async for entries in link.stream(key, low=low, high=high, newest=wanted.newest):
        yield [
            _waiting(wanted, stream, entry, fields, f"{stream}/fresh/{entry.decode()}")
            for entry, fields in entries
        ]


async def _handed_back(link: OperatorLink, wanted: Wanted, stream: str, after: str) -> Chunks:
    async for rows, entries in _pending(link, wanted, stream, after, RELEASED.encode()):
        yield [
            _waiting(wanted, stream, row[0], entry[1], f"{stream}/back/{row[0].decode()}")
            for row, entry in zip(rows, entries, strict=True)
            if entry
        ]


def _waiting(
    wanted: Wanted, stream: str, entry: bytes, fields: list[bytes], position: str
) -> Found:
    return Found(
        queue=wanted.keys.queue,
        state="waiting",
        lane=lane_of(stream),
        stream=stream,
        entry=entry.decode(),
        fields=fields,
        at_ms=entry_ms(entry),
        position=position,
    )


async def active(link: OperatorLink, wanted: Wanted) -> Chunks:
    """Jobs that engines have, lane by lane."""
    at_stream, _, at_entry = wanted.position.partition("/")
    now_ms = await link.now_ms()
    for stream in _from(wanted.all_streams(), at_stream):
        after = at_entry if stream == at_stream else ""
        async for rows, entries in _pending(link, wanted, stream, after, None):
            yield [
                Found(
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
                for row, entry in zip(rows, entries, strict=True)
                if row[1] != RELEASED.encode()
            ]


PendingRow = tuple[bytes, bytes, int, int]


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
    for lane in _from(wanted.lanes, at_lane):
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
        yield [parked_entry(wanted.keys.queue, lane, member) for member in members]
        if len(members) < count:
            return
        after = b"\0".join(members[-1].split(b"\0", 2)[:2])


async def delayed(link: OperatorLink, wanted: Wanted) -> Chunks:
    """Jobs of the delayed set: the soonest due first, or the latest due."""
    score, _, passed = wanted.position.partition("/")
    at, skip = (score, int(passed)) if score else ("+inf" if wanted.newest else "-inf", 0)
    verb, end = ("ZREVRANGEBYSCORE", "-inf") if wanted.newest else ("ZRANGEBYSCORE", "+inf")
    pace = Pace()
    while True:
        count = pace.count
        flat = await link.one(
            verb, wanted.keys.delayed, at, end, b"WITHSCORES", b"LIMIT", skip, count
        )
        chunk = []
        for member, due in zip(flat[::2], flat[1::2], strict=True):
            # Members of one score are told apart by how many of them have been passed.
            skip = skip + 1 if due.decode() == at else 1
            at = due.decode()
            stream, fields = packed_entry(member)
            chunk.append(
                Found(
                    queue=wanted.keys.queue,
                    state="delayed",
                    lane=lane_of(stream),
                    stream=stream,
                    entry="",
                    fields=fields,
                    at_ms=int(float(due)),
                    position=f"{at}/{skip}",
                )
            )
        pace.note(len(chunk), sum(found.size_bytes() for found in chunk))
        yield _in_lanes(chunk, wanted)
        if len(chunk) < count:
            return


async def held(link: OperatorLink, wanted: Wanted) -> Chunks:
    """Jobs that were set aside, type by type."""
    at_type, _, at_entry = wanted.position.partition("/")
    for job_type in _from(sorted(wanted.types), at_type):
        low, high = _bounds(at_entry if job_type == at_type else "", newest=wanted.newest)
        key = wanted.keys.held(job_type)
        async for entries in link.stream(key, low=low, high=high, newest=wanted.newest):
            chunk = []
            for entry, fields in entries:
                stream, own = packed_entry(fields[1] if len(fields) > 1 else b"")
                chunk.append(
                    Found(
                        queue=wanted.keys.queue,
                        state="held",
                        lane=lane_of(stream),
                        stream=stream,
                        entry=entry.decode(),
                        fields=own,
                        at_ms=entry_ms(entry),
                        position=f"{job_type}/{entry.decode()}",
                    )
                )
            yield _in_lanes(chunk, wanted)


async def done(link: OperatorLink, wanted: Wanted) -> Chunks:
    """Finished jobs that are still kept; each entry of the stream tells of several."""
    at_entry, _, passed = wanted.position.partition("/")
    low, high = "-", "+"
    if at_entry and wanted.newest:
        high = at_entry
    elif at_entry:
        low = at_entry
    async for entries in link.stream(wanted.keys.done, low=low, high=high, newest=wanted.newest):
        chunk: list[Found] = []
        for entry, fields in entries:
            jobs = _done_entry(wanted, entry, fields)
            skip = int(passed) if entry.decode() == at_entry else 0
            chunk += jobs[skip:]
        yield _in_lanes(chunk, wanted)


def _done_entry(wanted: Wanted, entry: bytes, fields: list[bytes]) -> list[Found]:
    try:
        jobs = decode_done(entry, fields)
    except Malformed:
        return []
    if wanted.newest:
        jobs.reverse()
    return [
        Found(
            queue=wanted.keys.queue,
            state="done",
            lane=job.lane,
            entry=entry.decode(),
            fields=[],
            at_ms=job.done_ms,
            position=f"{entry.decode()}/{number}",
            done=job,
        )
        for number, job in enumerate(jobs, 1)
    ]


async def dead(link: OperatorLink, wanted: Wanted) -> Chunks:
    """Dead letters."""
    low, high = _bounds(wanted.position, newest=wanted.newest)
    async for entries in link.stream(wanted.keys.dead, low=low, high=high, newest=wanted.newest):
        chunk = [dead_entry(wanted.keys.queue, entry, fields) for entry, fields in entries]
        yield _in_lanes(chunk, wanted)


def _in_lanes(chunk: list[Found], wanted: Wanted) -> list[Found]:
    if set(wanted.lanes) == set(LANES):
        # Broken entries, which name no lane, are shown too.
        return chunk
    return [found for found in chunk if found.lane in wanted.lanes]


def _order(entry: str) -> tuple[int, int]:
    ms, _, number = entry.partition("-")
    return int(ms), int(number or 0)


async def last_delivered(link: OperatorLink, key: str) -> str:
    """Return the id of the last entry of a lane that an engine was given."""
    (groups,) = await link.many([(b"XINFO", b"GROUPS", key)])
    return delivered_of(groups)


def _from(names: Sequence[str], name: str) -> Sequence[str]:
    """Return the names from the given one on."""
    return names[list(names).index(name) :] if name in names else names


def _bounds(after: str, *, newest: bool) -> tuple[str, str]:
    """Return the lowest and highest id behind a position."""
    if not after:
        return "-", "+"
    return ("-", f"({after}") if newest else (f"({after}", "+")
