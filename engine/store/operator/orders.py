"""Orders about single jobs: tombstones for those that are to end, and moves from place to place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from engine.store.operator.entry import Found
from engine.store.operator.link import OperatorLink, entry_ms
from engine.wire.codec import MOVED, is_unjudged, with_meta
from engine.wire.keys import GROUP, READY, RELEASED, QueueKeys
from engine.wire.packing import pack
from engine.wire.tombstones import TOMBSTONES_MAX, mark, read_tombstone
from schemas.job import Meta, Tombstone
from schemas.rules import LANES

Moved = Literal["moved", "gone", "active"]


class Orders:
    """Changes what becomes of single jobs."""

    def __init__(self, link: OperatorLink) -> None:
        self._link = link

    async def cancel(
        self, queue: str, ids: Sequence[str], *, who: str, reason: str, ahead: bool = False
    ) -> bytes:
        """
        Lay tombstones.

        Returns:
            The tombstone; empty if the queue has too many already, and nothing was changed.
        """
        keys = QueueKeys(queue)
        laid: bytes = await self._link.script(
            "cancel",
            [keys.cancelled, *keys.lanes.values()],
            *(TOMBSTONES_MAX, who, reason, "1" if ahead else "", *ids),
        )
        return laid

    async def tombstone(self, queue: str, job_id: str) -> Tombstone | None:
        """Return the tombstone that lies for an id."""
        raw = await self._link.one(b"HGET", QueueKeys(queue).cancelled, job_id)
        return None if raw is None else read_tombstone(raw)

    async def to_lane(self, found: Found, lane: str, *, why: str = "") -> Moved:
        """Put a job that waits anywhere at the end of a lane."""
        return await self._move(found, "lane", _stream(found, lane), 0, why)

    async def to_end(self, found: Found, tombstone: bytes) -> Moved:
        """Put a job at the end of its lane, with its tombstone, so that no engine starts it."""
        stream = _stream(found, lane_of(found))
        return await self._move(found, "lane", stream, 0, "", tombstone=tombstone)

    async def to_delayed(self, found: Found, due_ms: int, *, why: str) -> Moved:
        """Let a job wait until a moment, by the server's clock."""
        return await self._move(found, "delayed", lane_of(found), due_ms, why)

    async def change_lane(self, found: Found, lane: str) -> Moved:
        """Leave a job where it waits, for another lane; its place in the order stays behind."""
        if found.state in {"waiting", "parked"}:
            return await self.to_lane(found, lane)
        to: Literal["delayed", "held"] = "delayed" if found.state == "delayed" else "held"
        return await self._move(found, to, lane, found.at_ms, "")

    async def _move(
        self,
        found: Found,
        to: Literal["lane", "delayed", "held"],
        lane: str,
        due_ms: int,
        why: str,
        *,
        tombstone: bytes = b"",
    ) -> Moved:
        keys = QueueKeys(found.queue)
        places: dict[str, tuple[str, str, str | bytes]] = {
            "waiting": ("lane", keys.streams.get(found.place, keys.lane("normal")), found.entry),
            "delayed": ("delayed", keys.delayed, pack([found.place.encode(), *found.fields])),
            "held": ("held", keys.held(found.type), found.entry),
            "parked": ("parked", keys.parked(lane_of(found)), found.member),
        }
        source, key, place = places[found.state]
        targets = {"delayed": keys.delayed, "held": keys.held(found.type)}
        target = targets.get(to) or keys.lane(lane)
        # Others of its key do not wait for a job that was put off, or went elsewhere.
        early = why == "reschedule" or lane.partition(":")[0] != lane_of(found)
        lost = await self._handed_back(key, found)
        meta = _meta(found, lost=lost, why=why)
        if tombstone:
            meta = msgspec.structs.replace(meta, cancelled=mark(tombstone))
        if early:
            meta = msgspec.structs.replace(meta, ticket="")
        # Where it comes to, it is judged like a new one: its delay, its id, its unique value.
        own_id = found.field(b"id") if meta.why == MOVED else None
        packed = pack([lane.encode(), *with_meta(found.fields, meta)])
        moved: bytes = await self._link.script(
            "move",
            [key, target, *keys.gates()],
            *(source, place, to, due_ms, packed, GROUP, RELEASED, lost),
            *(_source(found), int(early), found.key, found.ticket, own_id or b""),
        )
        return {b"moved": "moved", b"active": "active"}.get(moved, "gone")  # type: ignore[return-value]

    async def _handed_back(self, key: str, found: Found) -> int:
        """Count the lost deliveries of an entry that a stopping engine handed back."""
        if found.state != "waiting":
            return 0
        command = (b"XPENDING", key, GROUP, found.entry, found.entry, 1, RELEASED)
        (rows,) = await self._link.many([command])
        return int(rows[0][3]) if rows else 0


def _stream(found: Found, lane: str) -> str:
    """Return the stream by which a job goes to a lane: what has its turn passes the backlog."""
    return READY[lane] if found.place == READY[lane] else lane


def _source(found: Found) -> str:
    return found.place if found.place.partition(":")[0] in LANES else "normal"


def lane_of(found: Found) -> str:
    """Name the lane of a job: some wait beside it, in its stream of those that were let through."""
    lane = found.lane.partition(":")[0]
    return lane if lane in LANES else "normal"


def _meta(found: Found, *, lost: int, why: str) -> Meta:
    """Build the engine's own field, so that the job stays the same one in its new place."""
    before = found.meta()
    meta = before or Meta(id=found.id, enqueued_ms=entry_ms(found.entry.encode() or b"0"))
    why = why or (MOVED if is_unjudged(before) else meta.why)
    return msgspec.structs.replace(meta, lost=meta.lost + lost, why=why)
