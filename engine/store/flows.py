"""The verbs of flows, over a real server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from engine.store.flow_base import (
    FLOW_WHO,
    SOUGHT_AMONG_MAX,
    SOUGHT_BYTES_MAX,
    Applied,
    ChildJob,
    ChildNote,
    FlowTask,
    SoughtChild,
)
from engine.store.link import Argument, checked
from engine.store.scripts import script
from engine.store.upkeep import UpkeepVerbs
from engine.telemetry import OTHER
from engine.wire.flows import job_of
from engine.wire.keys import GROUP
from engine.wire.packing import pack, unpack
from schemas.rules import FLOW_FAILURES_MAX, FLOW_RESULTS_BYTES_MAX, LANES

FLOW_MARK = f'"who":"{FLOW_WHO}'


class FlowVerbs(UpkeepVerbs):
    """See :class:`engine.store.flow_base.FlowStore`."""

    async def flow_tasks(self, queue: str, *, count: int, lease_ms: int) -> list[FlowTask]:
        keys = self.keys_of(queue)
        until_ms, names = await self._upkeep.run(
            script("flow_take"), [keys.flows_todo], count, lease_ms
        )
        return await self._tasks(queue, [name.decode() for name in names], until_ms)

    async def _tasks(self, queue: str, flows: Sequence[str], until_ms: int) -> list[FlowTask]:
        keys = self.keys_of(queue)
        replies = checked(
            await self._upkeep.call(
                *((b"HMGET", keys.flow(flow), b"job", b"states", b"closed") for flow in flows)
            )
            if flows
            else []
        )
        return [_task(flow, until_ms, *told) for flow, told in zip(flows, replies, strict=True)]

    async def flow_send(
        self, queue: str, children: Sequence[ChildJob], *, until_ms: int
    ) -> list[bool]:
        keys = self.keys_of(queue)
        packed = [
            pack(
                [
                    child.marker.encode(),
                    b"%d" % (LANES.index(child.lane) + 1),
                    *child.fields,
                ]
            )
            for child in children
        ]
        names = [keys.flow_sent, keys.control, *keys.lanes.values()]
        told = await self._upkeep.run(script("flow_send"), names, until_ms, *packed)
        return [each == 1 for each in told]

    async def flow_cancel(
        self, queue: str, children: Sequence[tuple[str, str]], *, who: str, reason: str
    ) -> int:
        keys = self.keys_of(queue)
        flat = [part for child in children for part in child]
        told = [msgspec.json.encode(text) for text in (who, reason)]
        count: int = await self._upkeep.run(
            script("flow_cancel"), [keys.flow_sent, keys.cancelled], *told, *flat
        )
        return count

    async def flows_of(self, queue: str, job_ids: Sequence[str]) -> list[FlowTask]:
        key = self.keys_of(queue).flows
        found = checked(
            await self._upkeep.call(
                *((b"ZRANGEBYLEX", key, f"[{job_id}/", f"({job_id}0") for job_id in job_ids)
            )
            if job_ids
            else []
        )
        flows = [flow.decode() for each in found for flow in each]
        named = [flow for flow in flows if job_of(flow) in job_ids]
        return [task for task in await self._tasks(queue, named, 0) if task.job]

    async def flow_sweep(self, queue: str, *, ms: int) -> bool:
        key = self.keys_of(queue).flow_sweep
        return bool(await self._upkeep.run(script("flow_sweep"), [key], ms))

    async def flows_after(self, queue: str, after: str, *, count: int) -> list[FlowTask]:
        low = f"({after}" if after else "-"
        named = await self._upkeep.one(
            b"ZRANGEBYLEX", self.keys_of(queue).flows, low, b"+", b"LIMIT", 0, count
        )
        return await self._tasks(queue, [name.decode() for name in named], 0)

    async def flow_lost(self, queue: str, children: Sequence[SoughtChild]) -> list[str]:
        keys = self.keys_of(queue)
        places = keys.places({child.type for child in children} | {OTHER})
        names = [keys.flow_sent, keys.flow_ends, keys.flows, *places]
        flat = [part for each in children for part in (each.marker, each.id, each.message)]
        told: list[int] = await self._upkeep.run(
            script("flow_lost"), names, GROUP, SOUGHT_AMONG_MAX, SOUGHT_BYTES_MAX, *flat
        )
        return [children[at].marker for at in told]

    async def flow_children(
        self, queue: str, places: Sequence[tuple[str, bytes]]
    ) -> dict[tuple[str, bytes], str]:
        key = self.keys_of(queue).flow_sent
        wanted = {
            b"%d/%s" % (LANES.index(lane) + 1, entry): (lane, entry)
            for lane, entry in places
            if lane in LANES
        }
        found: dict[tuple[str, bytes], str] = {}
        cursor = b"0" if wanted else b""
        while cursor and len(found) < len(wanted):
            cursor, flat = await self._upkeep.one(b"HSCAN", key, cursor, b"COUNT", 1_000)
            for name, place in zip(flat[::2], flat[1::2], strict=True):
                if place in wanted:
                    found[wanted[place]] = name.decode()
            cursor = b"" if cursor == b"0" else cursor
        return found

    async def flow_mark(
        self, queue: str, flow: str, sent: Sequence[int], *, until_ms: int, over: bool = False
    ) -> str:
        keys = self.keys_of(queue)
        closed: bytes = await self._upkeep.run(
            script("flow_mark"),
            [keys.flow(flow), keys.flows_todo],
            flow,
            int(over),
            until_ms,
            *sent,
        )
        return closed.decode()

    async def flow_ends(self, queue: str, *, after: bytes, count: int) -> list[tuple[bytes, bytes]]:
        key = self.keys_of(queue).flow_ends
        low = b"(" + after if after else b"-"
        found = await self._upkeep.one(b"XRANGE", key, low, b"+", b"COUNT", count)
        return [(entry, fields[1] if len(fields) > 1 else b"") for entry, fields in found]

    async def flow_apply(self, queue: str, flow: str, notes: Sequence[ChildNote]) -> Applied:
        keys = self.keys_of(queue)
        flat: list[Argument] = []
        for note in notes:
            flat += (note.number, note.letter, note.closes, note.result, note.failure)
        closed, later = await self._upkeep.run(
            script("flow_apply"),
            [keys.flow(flow), keys.flows, keys.flows_todo, *keys.lanes.values()],
            flow,
            FLOW_RESULTS_BYTES_MAX,
            FLOW_FAILURES_MAX,
            *LANES,
            *flat,
        )
        return Applied(closed.decode(), frozenset(later))

    async def flow_clean(self, queue: str, ends: Sequence[tuple[bytes, str, str]]) -> int:
        keys = self.keys_of(queue)
        flat = [part for end in ends for part in end]
        dropped: int = await self._upkeep.run(
            script("flow_clean"), [keys.flow_ends, keys.flow_sent, keys.cancelled], FLOW_MARK, *flat
        )
        return dropped


def _task(flow: str, until_ms: int, job: Any, states: Any, closed: Any) -> FlowTask:
    return FlowTask(
        flow=flow,
        until_ms=until_ms,
        job=unpack(job) if job else [],
        states=(states or b"").decode(),
        closed=(closed or b"").decode(),
    )
