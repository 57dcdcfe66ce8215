"""One job by where it was last seen, at the cost of a read or two."""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable

from engine.store.operator.counting import delivered_of
from engine.store.operator.entry import Found, dead_entry, delayed_entry, held_entry, parked_entry
from engine.store.operator.link import OperatorLink, entry_ms, time_ms
from engine.store.operator.sources import done_jobs
from engine.store.operator.wanted import entry_order
from engine.wire.keys import GROUP, RELEASED, QueueKeys, lane_of
from schemas.rules import TYPE_NAME

ENTRY = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
SAME_MOMENT_MAX = 1_000
"""Delayed jobs of one due time that are looked at."""

Reader = Callable[[OperatorLink, QueueKeys, str, str], Awaitable[list[Found]]]


async def by_hint(link: OperatorLink, queue: str, hint: str, job_id: str) -> Found | None:
    """
    Find a job where it was seen before.

    Args:
        link: The connection.
        queue: The queue.
        hint: What :attr:`Found.hint` said of it; nonsense finds nothing.
        job_id: Its id, which what is found must have.
    """
    kind, _, rest = hint.partition("/")
    reader = _READERS.get(kind)
    if reader is None:
        return None
    place, _, at = rest.rpartition("/")
    found = await reader(link, QueueKeys(queue), place, at)
    return next((each for each in found if each.id == job_id), None)


async def lane_entry(link: OperatorLink, queue: str, stream: str, entry: str) -> Found | None:
    """Read one entry of a lane, or of its jobs that gates let through, waiting or active."""
    key = QueueKeys(queue).lane(stream)
    entries, rows, groups, clock = await link.many(
        [
            (b"XRANGE", key, entry, entry),
            (b"XPENDING", key, GROUP, entry, entry, 1),
            (b"XINFO", b"GROUPS", key),
            (b"TIME",),
        ]
    )
    if not entries:
        return None
    found = Found(
        queue=queue,
        state="waiting",
        lane=lane_of(stream),
        stream=stream,
        entry=entry,
        fields=entries[0][1],
        at_ms=entry_ms(entry.encode()),
        position="",
    )
    if rows and rows[0][1] != RELEASED.encode():
        found.state = "active"
        found.consumer = rows[0][1].decode()
        found.at_ms = time_ms(clock) - rows[0][2]
        found.deliveries = rows[0][3]
    elif not rows and entry_order(entry) <= entry_order(delivered_of(groups)):
        # It was settled between the two reads.
        return None
    return found


async def _in_lane(link: OperatorLink, keys: QueueKeys, place: str, at: str) -> list[Found]:
    if place not in keys.streams or not ENTRY.fullmatch(at):
        return []
    found = await lane_entry(link, keys.queue, place, at)
    return [found] if found else []


async def _in_dead(link: OperatorLink, keys: QueueKeys, _: str, at: str) -> list[Found]:
    if not ENTRY.fullmatch(at):
        return []
    entries = await link.one(b"XRANGE", keys.dead, at, at)
    return [dead_entry(keys.queue, *entry) for entry in entries]


async def _in_done(link: OperatorLink, keys: QueueKeys, _: str, at: str) -> list[Found]:
    if not ENTRY.fullmatch(at):
        return []
    entries = await link.one(b"XRANGE", keys.done, at, at)
    return [job for entry in entries for job in done_jobs(keys.queue, *entry)]


async def _in_delayed(link: OperatorLink, keys: QueueKeys, _: str, at: str) -> list[Found]:
    if not (at.isascii() and at.isdigit()) or len(at) > 16:
        return []
    bounds = (at, f"({int(at) + 1}", b"WITHSCORES", b"LIMIT", 0, SAME_MOMENT_MAX)
    flat = await link.one(b"ZRANGEBYSCORE", keys.delayed, *bounds)
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return [delayed_entry(keys.queue, member, due.decode(), "") for member, due in pairs]


async def _held(link: OperatorLink, keys: QueueKeys, place: str, at: str) -> list[Found]:
    if not TYPE_NAME.fullmatch(place) or not ENTRY.fullmatch(at):
        return []
    entries = await link.one(b"XRANGE", keys.held(place), at, at)
    return [held_entry(keys.queue, place, *entry) for entry in entries]


async def _parked(link: OperatorLink, keys: QueueKeys, place: str, at: str) -> list[Found]:
    if place not in keys.lanes:
        return []
    try:
        line = base64.urlsafe_b64decode(at)
    except ValueError:
        return []
    bounds = (b"[" + line + b"\0", b"(" + line + b"\1", b"LIMIT", 0, 1)
    members = await link.one(b"ZRANGEBYLEX", keys.parked(place), *bounds)
    return [parked_entry(keys.queue, place, member) for member in members]


_READERS: dict[str, Reader] = {
    "lane": _in_lane,
    "dead": _in_dead,
    "done": _in_done,
    "delayed": _in_delayed,
    "held": _held,
    "parked": _parked,
}
