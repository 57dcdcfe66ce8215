"""
Readers over each state's keys: bounded chunks in a stable order, from a position that they gave.

A position names the last job seen; a reader goes on behind it. Jobs that leave meanwhile are passed
over, none that stays is missed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import itemgetter

from engine.errors import Malformed
from engine.store.operator.entry import Found, dead_entry, delayed_entry, held_entry
from engine.store.operator.flows import parents
from engine.store.operator.lane_sources import active, in_lines, parked, waiting
from engine.store.operator.link import Entry, OperatorLink, Pace
from engine.store.operator.sieve import Chunk, entry_hay
from engine.store.operator.wanted import Chunks, Wanted, names_from
from engine.wire.done import DoneJob, decode_done
from schemas.job import JobState

SKEW_MS = 3_600_000
"""How far engines' clocks, which date deaths, may be from the server's, which names entries."""


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
    async for chunk in parents(link, wanted.keys, after=wanted.position, newest=wanted.newest):
        yield chunk


async def delayed(link: OperatorLink, wanted: Wanted) -> Chunks:
    """Jobs of the delayed set: the soonest due first, or the latest due."""
    score, _, passed = wanted.position.partition("/")
    begin, end = wanted.after_ms or "-inf", f"({wanted.before_ms}" if wanted.before_ms else "+inf"
    verb = "ZRANGEBYSCORE"
    if wanted.newest:
        verb, begin, end = "ZREVRANGEBYSCORE", end, begin
    at, skip = (score, int(passed)) if score else (str(begin), 0)
    pace = Pace()

    def entry(raw: tuple[bytes, str, int]) -> Found:
        member, score, passed = raw
        return delayed_entry(wanted.keys.queue, member, score, f"{score}/{passed}")

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
            chunk.append((member, at, skip))
        pace.note(len(chunk), sum(map(len, flat)))
        yield Chunk(chunk, entry, itemgetter(0))
        if len(chunk) < count:
            return


async def held(link: OperatorLink, wanted: Wanted) -> Chunks:
    """Jobs that were set aside, type by type."""
    at_type, _, at_entry = wanted.position.partition("/")
    for job_type in names_from(sorted(wanted.types), at_type):
        low, high = _bounds(at_entry if job_type == at_type else "", newest=wanted.newest)
        key = wanted.keys.held(job_type)
        async for entries in link.stream(key, low=low, high=high, newest=wanted.newest):
            read_one = partial(_held_entry, wanted.keys.queue, job_type)
            yield Chunk(entries, read_one, entry_hay)


def _held_entry(queue: str, job_type: str, entry: Entry) -> Found:
    return held_entry(queue, job_type, *entry)


async def done(link: OperatorLink, wanted: Wanted) -> Chunks:
    """Finished jobs that are still kept; each entry of the stream tells of several."""
    at_entry, _, passed = wanted.position.partition("/")
    low, high = _times(wanted)
    if at_entry and wanted.newest:
        high = at_entry
    elif at_entry:
        low = at_entry
    async for entries in link.stream(wanted.keys.done, low=low, high=high, newest=wanted.newest):
        for entry, fields in entries:
            # Entry by entry: each may tell of hundreds.
            skip = int(passed) if entry.decode() == at_entry else 0
            ended = _ended(entry, fields, newest=wanted.newest)[skip:]
            hay = b"\0".join(fields)
            yield Chunk(ended, partial(_done_entry, wanted.keys.queue, entry), hay)


def done_jobs(queue: str, entry: bytes, fields: list[bytes]) -> list[Found]:
    """Read one entry of the done stream; one that no engine wrote tells of no job."""
    return [_done_entry(queue, entry, ended) for ended in _ended(entry, fields)]


def _ended(entry: bytes, fields: list[bytes], *, newest: bool = False) -> list[tuple[int, DoneJob]]:
    try:
        jobs = decode_done(entry, fields)
    except Malformed:
        return []
    return list(enumerate(reversed(jobs) if newest else jobs, 1))


def _done_entry(queue: str, entry: bytes, ended: tuple[int, DoneJob]) -> Found:
    number, job = ended
    return Found(
        queue=queue,
        state="done",
        lane=job.lane,
        entry=entry.decode(),
        fields=[],
        at_ms=job.done_ms,
        position=f"{entry.decode()}/{number}",
        done=job,
    )


async def dead(link: OperatorLink, wanted: Wanted) -> Chunks:
    """Dead letters."""
    low, _ = _times(wanted, skew_ms=SKEW_MS)
    # What came back from an undone operation lies behind its time of death, so nothing bounds it.
    high = "+"
    if wanted.position and wanted.newest:
        high = f"({wanted.position}"
    elif wanted.position:
        low = f"({wanted.position}"
    async for entries in link.stream(wanted.keys.dead, low=low, high=high, newest=wanted.newest):
        yield Chunk(entries, partial(_dead_entry, wanted.keys.queue), entry_hay)


def _dead_entry(queue: str, entry: Entry) -> Found:
    return dead_entry(queue, *entry)


def _times(wanted: Wanted, *, skew_ms: int = 0) -> tuple[str, str]:
    """Return the lowest and highest entry id of the times that are asked for."""
    low = f"{max(0, wanted.after_ms - skew_ms)}-0" if wanted.after_ms else "-"
    high = str(wanted.before_ms) if wanted.before_ms else "+"
    return low, high


def _bounds(after: str, *, newest: bool) -> tuple[str, str]:
    """Return the lowest and highest id behind a position."""
    if not after:
        return "-", "+"
    return ("-", f"({after}") if newest else (f"({after}", "+")


__all__ = ["Wanted", "in_lines", "read"]
