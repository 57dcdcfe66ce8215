"""What an engine asks of its queues beside fetching and settling, over a real server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.errors import GroupMissing
from engine.store.base import (
    Control,
    Gauges,
    Promoted,
    ServerState,
)
from engine.store.encoding import (
    beats_to_forget,
    read_control,
    schedule_answer,
    schedule_arguments,
    server_state,
)
from engine.store.link import Argument, Link, checked
from engine.store.schedule_base import ScheduleAnswer, ScheduleChange
from engine.store.scripts import script
from engine.store.tombstones import TombstonePages
from engine.wire.keys import ENGINES, GROUP, READY, RELEASED, STREAMS, QueueKeys, lane_of
from schemas.rules import LANES


class UpkeepVerbs:
    """
    The verbs of :class:`engine.store.base.Store` that keep queues in order.

    Args:
        link: The connection that they share.
        consumer: This engine's name in the groups.
        events_max: Entries kept in an events stream.
        progress_ttl_s: How long progress is kept after the last report of a queue.
    """

    def __init__(self, link: Link, *, consumer: str, events_max: int, progress_ttl_s: int) -> None:
        self.consumer = consumer
        self._upkeep = link
        self._events_max = events_max
        self._progress_ttl_s = progress_ttl_s
        self._keys: dict[str, QueueKeys] = {}
        self._tombstones: dict[str, TombstonePages] = {}
        self._gated: set[str] = set()

    def keys_of(self, queue: str) -> QueueKeys:
        """The keys of one queue."""
        keys = self._keys.get(queue)
        if keys is None:
            keys = self._keys[queue] = QueueKeys(queue)
        return keys

    def streams_of(self, queue: str) -> Sequence[str]:
        """Streams with a group: the lanes, and where gates are used what was let through."""
        return STREAMS if queue in self._gated else LANES

    async def promote(self, queue: str, *, count: int) -> Promoted:
        keys = self.keys_of(queue)
        names = [keys.delayed, *keys.streams.values(), keys.control]
        moved, next_ms = await self._upkeep.run(script("promote"), names, count, *keys.streams)
        return Promoted(moved, None if next_ms < 0 else next_ms)

    async def control(self, queue: str) -> Control:
        keys = self.keys_of(queue)
        tombstones = self._tombstones.setdefault(queue, TombstonePages())
        flat, page = checked(
            await self._upkeep.call((b"HGETALL", keys.control), tombstones.next(keys.cancelled))
        )
        known = tombstones.note(page)
        while not tombstones.is_complete:
            # An engine that starts must know all of them before it starts a job.
            known = tombstones.note(await self._upkeep.one(*tombstones.next(keys.cancelled)))
        found = read_control(flat, known)
        if found.gates:
            # Never taken back: whoever reads these streams must find their groups, also after all
            # keys were deleted.
            self._gated.add(queue)
        return found

    async def schedules(self, queue: str) -> dict[bytes, bytes]:
        return _pairs(await self._upkeep.one(b"HGETALL", self.keys_of(queue).schedules))

    async def schedule(self, queue: str, change: ScheduleChange) -> ScheduleAnswer:
        names, arguments = schedule_arguments(self.keys_of(queue), change)
        return schedule_answer(await self._upkeep.run(script("schedule"), names, *arguments))

    async def hold(self, queue: str, job_type: str, reason: str) -> bool:
        state = await self.server()
        record = {"reason": reason, "since_ms": int(state.time_ms), "by": self.consumer}
        return bool(
            await self._upkeep.one(
                b"HSETNX",
                self.keys_of(queue).control,
                f"hold:{job_type}",
                msgspec.json.encode(record),
            )
        )

    async def unhold(self, queue: str, types: Sequence[str], *, count: int) -> int:
        keys = self.keys_of(queue)
        held = [keys.held(name) for name in types]
        ready = [keys.lane(READY[lane]) for lane in LANES]
        names = [*keys.lanes.values(), *held, *ready, keys.control]
        moved: int = await self._upkeep.run(script("unhold"), names, count, *keys.streams, *types)
        return moved

    async def report(
        self, queue: str, progress: Mapping[str, bytes], events: Sequence[bytes]
    ) -> None:
        keys = self.keys_of(queue)
        commands: list[tuple[Argument, ...]] = [
            (b"XADD", keys.events, b"MAXLEN", b"~", self._events_max, b"*", b"event", line)
            for line in events
        ]
        if progress:
            flat = [part for pair in progress.items() for part in pair]
            commands.append((b"HSET", keys.progress, *flat))
            commands.append((b"EXPIRE", keys.progress, self._progress_ttl_s))
        if commands:
            checked(await self._upkeep.call(*commands))

    async def trim(self, queue: str, *, done_jobs_max: int, done_age_ms_max: int) -> int:
        keys = self.keys_of(queue)
        dropped: int = await self._upkeep.run(
            script("trim"), [keys.done, keys.stats], done_jobs_max, done_age_ms_max, 500
        )
        return dropped

    async def gauges(self, queue: str, types: Sequence[str]) -> Gauges:
        keys = self.keys_of(queue)
        streams = self.streams_of(queue)
        lanes = [keys.lane(stream) for stream in streams]
        waiting = await self._upkeep.run(script("waiting"), lanes, GROUP)
        replies = checked(
            await self._upkeep.call(
                *((b"XLEN", lane) for lane in lanes),
                (b"ZCARD", keys.delayed),
                (b"XLEN", keys.dead),
                (b"TIME",),
                *((b"XINFO", b"GROUPS", lane) for lane in lanes),
                *((b"XPENDING", lane, GROUP) for lane in lanes),
                *((b"XLEN", keys.held(name)) for name in types),
                (b"ZCARD", keys.flows),
                *((b"ZCARD", keys.parked(lane)) for lane in LANES),
            )
        )
        count = len(streams)
        lengths = replies[:count]
        delayed, dead, (seconds, micros) = replies[count : count + 3]
        groups, pending = replies[count + 3 : 2 * count + 3], replies[2 * count + 3 : 3 * count + 3]
        held = replies[3 * count + 3 : -len(LANES) - 1]
        # What stopping engines handed back is pending with nobody: it waits.
        back = [_released(summary) for summary in pending]
        oldest = await self._oldest(lanes, waiting, groups, back)
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        parked = dict(zip(LANES, replies[-len(LANES) :], strict=True))
        waits, active = dict(parked), dict.fromkeys(LANES, 0)
        for stream, length, left, given in zip(streams, lengths, waiting, back, strict=True):
            waits[lane_of(stream)] += left + given
            active[lane_of(stream)] += max(0, length - left - given)
        return Gauges(
            waiting=waits,
            parked=parked,
            active=active,
            delayed=delayed,
            held={name: n for name, n in zip(types, held, strict=True) if n},
            dead=dead,
            oldest_ms=max(0, now_ms - oldest) if oldest else 0,
            flows=replies[-len(LANES) - 1],
        )

    async def server(self) -> ServerState:
        replies = checked(await self._upkeep.call((b"INFO",), (b"TIME",)))
        return server_state(*replies)

    async def beat(self, name: str, beat: bytes) -> None:
        set_, all_, clock = checked(
            await self._upkeep.call(
                (b"HSET", ENGINES, name, beat), (b"HGETALL", ENGINES), (b"TIME",)
            )
        )
        del set_
        gone = beats_to_forget(all_, now_ms=int(clock[0]) * 1000)
        if gone:
            await self._upkeep.one(b"HDEL", ENGINES, *gone)

    async def leave(self, name: str, queues: Sequence[str]) -> None:
        await self._upkeep.one(b"HDEL", ENGINES, name)
        for queue in queues:
            await self._retire(queue, idle_ms_min=0, only=self.consumer)

    async def retire(self, queue: str, *, idle_ms_min: int) -> int:
        return await self._retire(queue, idle_ms_min=idle_ms_min, only="")

    async def _retire(self, queue: str, *, idle_ms_min: int, only: str) -> int:
        keys = self.keys_of(queue)
        deleted = 0
        for lane in self.streams_of(queue):
            names = [keys.lane(lane), keys.settled]
            deleted += await self._upkeep.run(
                script("retire"), names, GROUP, idle_ms_min, lane, only
            )
        return deleted

    async def _oldest(
        self,
        lanes: Sequence[str],
        waiting: Sequence[int],
        groups: Sequence[Any],
        back: Sequence[int],
    ) -> int:
        """Unix ms of the oldest entry that waits in any lane; 0 without one."""
        first: list[tuple[Argument, ...]] = []
        rows = zip(lanes, waiting, groups, back, strict=True)
        for lane, left, group, given in rows:
            if given > 0:
                first.append((b"XPENDING", lane, GROUP, b"-", b"+", 1, RELEASED))
            elif left > 0:
                named = (info for info in map(_pairs, group) if info[b"name"] == GROUP.encode())
                ours = next(named, None)
                if ours is None:
                    raise GroupMissing(f"{lane} has lost its group")
                after = b"(" + ours[b"last-delivered-id"]
                first.append((b"XRANGE", lane, after, b"+", b"COUNT", 1))
        if not first:
            return 0
        replies = checked(await self._upkeep.call(*first))
        times = [int(reply[0][0].partition(b"-")[0]) for reply in replies if reply]
        return min(times, default=0)


def _released(summary: Sequence[Any]) -> int:
    """Entries that are pending with nobody, from the summary of XPENDING."""
    consumers = dict(summary[3] or ()) if len(summary) > 3 else {}
    return int(consumers.get(RELEASED.encode(), 0))


def _pairs(flat: Sequence[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
