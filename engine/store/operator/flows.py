"""Jobs that wait for others, and the trees that they stand in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec

from engine.errors import Malformed
from engine.store.operator.entry import Found, packed_entry
from engine.store.operator.link import OperatorLink, entry_ms
from engine.store.operator.sieve import Chunk, decoded
from engine.wire.flows import CHILDREN, FAMILY, child_id, job_of, read_children, read_family
from engine.wire.keys import QueueKeys, lane_of
from schemas.flow import SENT
from schemas.story import ChildRow, ChildState

PAGE = 100
ROWS_MAX = 200
"""Children that one job's story shows, over all levels."""

WORDS: dict[str, ChildState] = {
    "p": "to be sent",
    "s": "sent",
    "d": "done",
    "f": "failed",
    "i": "ignored",
    "c": "cancelled",
}


async def parents(
    link: OperatorLink, keys: QueueKeys, *, after: str, newest: bool
) -> AsyncIterator[Chunk[Found]]:
    """Read the jobs that wait for others, by their ids."""
    verb, start, end = (b"ZREVRANGEBYLEX", "+", "-") if newest else (b"ZRANGEBYLEX", "-", "+")
    while True:
        low = f"({after}" if after else start
        names = await link.one(verb, keys.flows, low, end, b"LIMIT", 0, PAGE)
        if not names:
            return
        after = names[-1].decode()
        yield decoded(await _flows(link, keys, [name.decode() for name in names]))


async def parent(link: OperatorLink, keys: QueueKeys, job_id: str) -> Found | None:
    """Find a job that waits for others."""
    command = (b"ZRANGEBYLEX", keys.flows, f"[{job_id}/", f"({job_id}0", b"LIMIT", 0, PAGE)
    # One key that somebody else took must not hide the rest.
    (names,) = await link.many([command], broken=set())
    named = [name.decode() for name in names or () if job_of(name.decode()) == job_id]
    found = await _flows(link, keys, named)
    return found[0] if found else None


async def _flows(link: OperatorLink, keys: QueueKeys, names: Sequence[str]) -> list[Found]:
    replies = await link.many([(b"HMGET", keys.flow(name), b"job", b"states") for name in names])
    found = []
    for name, told in zip(names, replies, strict=True):
        job, states = told or (None, None)
        if job is None or states is None:
            # It went on between the two reads.
            continue
        stream, fields = packed_entry(job)
        opened = name.rpartition("/")[2].partition("-")[2]
        found.append(
            Found(
                queue=keys.queue,
                state="waiting-children",
                lane=lane_of(stream),
                stream=stream,
                entry="",
                fields=fields,
                at_ms=entry_ms(opened.encode()),
                position=name,
                states=states.decode(),
            )
        )
    return found


async def tree(link: OperatorLink, found: Found) -> list[ChildRow]:
    """Tell what is known of a job's children, and of theirs while they wait."""
    return await _Tree(link).rows(found)


class _Tree:
    def __init__(self, link: OperatorLink) -> None:
        self._link = link
        self._left = ROWS_MAX

    async def rows(self, found: Found) -> list[ChildRow]:
        states = found.states or _family_states(found)
        try:
            specs = read_children(found.field(CHILDREN) or b"[]")
        except Malformed:
            return []
        rows = []
        for number, (spec, state) in enumerate(zip(specs, states, strict=False)):
            if not self._left:
                break
            self._left -= 1
            queue, name = spec.queue or found.queue, spec.id or child_id(found.id, number)
            row = ChildRow(
                number=number,
                id=name,
                type=spec.fields[1].decode("utf-8", "replace"),
                queue=queue,
                state=WORDS.get(state, "sent"),
            )
            if spec.children and state == SENT:
                inner = await parent(self._link, QueueKeys(queue), name)
                if inner is not None:
                    row = msgspec.structs.replace(row, children=await self.rows(inner))
            rows.append(row)
        return rows


def _family_states(found: Found) -> str:
    """What was known of the children of a job that waits no more."""
    raw = found.field(FAMILY)
    try:
        return read_family(raw).states if raw else ""
    except Malformed:
        return ""
