"""Dead letters: groups, matching, bringing back and dropping."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial

import msgspec

from engine.store.operator.entry import Found, dead_entry
from engine.store.operator.gates import turns
from engine.store.operator.jobs import ENTRY
from engine.store.operator.link import (
    CHUNK_ENTRIES_MAX,
    Entry,
    OperatorLink,
    entry_ms,
    pairs,
    whole,
)
from engine.store.operator.needle import Needle
from engine.store.operator.sieve import Chunk, entry_hay, sieve_of
from engine.wire.codec import encode_meta
from engine.wire.keys import READY, QueueKeys
from schemas.job import Meta
from schemas.rules import LANES
from schemas.stats import DeadFilter, DeadGroup

SKEW_MS = 3_600_000
"""How far engines' clocks, which date deaths, may be from the server's, which names entries."""

HISTORY_MAX = 10
_REDRIVEN = (*LANES, *READY.values())
"""The streams of the script, in the order of their keys."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """The first death of a group, as settlements record it."""

    id: str = ""
    type: str = ""
    reason: str = ""
    kind: str = ""
    message: str = ""


class Matched(msgspec.Struct):
    """
    What one chunk of the dead stream held.

    Attributes:
        searched: Entries looked at.
        jobs: Those that are meant.
        last: The last one looked at.
    """

    searched: int
    jobs: list[Found]
    last: str


class Redriven(msgspec.Struct):
    """How many jobs came back, and the entry ids of those whose lane refused them."""

    moved: int
    refused: list[str]


class DeadLetters:
    """The dead stream of a queue and its groups."""

    def __init__(self, link: OperatorLink) -> None:
        self._link = link

    async def count(self, queue: str) -> int:
        """Count dead letters."""
        return int(await self._link.one(b"XLEN", QueueKeys(queue).dead))

    async def last(self, queue: str) -> str:
        """Return the entry id of the latest death; empty without one."""
        entries = await self._link.one(b"XREVRANGE", QueueKeys(queue).dead, "+", "-", b"COUNT", 1)
        return entries[0][0].decode() if entries else ""

    async def groups(self, queue: str) -> list[DeadGroup]:
        """List the groups of deaths, the largest first."""
        key = QueueKeys(queue).dead_groups
        parts: dict[str, dict[str, bytes]] = {}
        cursor = b"0"
        while True:
            cursor, flat = await self._link.one(b"HSCAN", key, cursor, b"COUNT", CHUNK_ENTRIES_MAX)
            for name, value in pairs(flat).items():
                fingerprint, _, part = name.decode("utf-8", "replace").partition(":")
                parts.setdefault(fingerprint, {})[part] = value
            if cursor == b"0":
                break
        found = [_group(fingerprint, part) for fingerprint, part in parts.items()]
        return sorted(found, key=lambda group: (-group.jobs, -group.last_ms))

    async def matching(
        self, queue: str, wanted: DeadFilter, *, until: str = "+", newest: bool = False
    ) -> AsyncIterator[Matched]:
        """
        Find the dead letters that fit a filter.

        Args:
            queue: The queue.
            wanted: Which.
            until: The last entry to look at, so that jobs which die meanwhile are left out.
            newest: The newest first.
        """
        text = Needle(wanted.text) if wanted.text else None
        left = set(wanted.ids)
        named = sorted(filter(ENTRY.fullmatch, left))
        if named:
            # Ids of entries need no search; what is not there may be a producer's own id.
            direct = await self._entries(queue, named)
            left -= {found.entry for found in direct}
            jobs = [found for found in direct if _fits(found, wanted, text)]
            yield Matched(len(direct), jobs, "")
            if not left:
                return
        meant = msgspec.structs.replace(wanted, ids=tuple(left))
        async for part in self.search(queue, meant, until=until, newest=newest):
            yield part

    async def search(
        self,
        queue: str,
        wanted: DeadFilter,
        *,
        after: str = "",
        until: str = "+",
        newest: bool = False,
    ) -> AsyncIterator[Matched]:
        """
        Find the dead letters that fit a filter, in the order of their entries.

        Args:
            queue: The queue.
            wanted: Which.
            after: The last entry that is not looked at any more; empty for the first of all.
            until: The last entry to look at.
            newest: The newest first.
        """
        text = Needle(wanted.text) if wanted.text else None
        # What came back from an undone operation lies behind its time of death, never before it.
        low = f"{max(0, wanted.after_ms - SKEW_MS)}-0" if wanted.after_ms else "-"
        if after and (low == "-" or entry_ms(low.encode()) <= entry_ms(after.encode())):
            low = f"({after}"
        sieve = sieve_of(type_=wanted.type, text=wanted.text, fingerprint=wanted.fingerprint)
        key = QueueKeys(queue).dead
        async for entries in self._link.stream(key, low=low, high=until, newest=newest):
            chunk = Chunk(entries, partial(_read, queue), entry_hay)
            sifted = (found for found in chunk.sifted(sieve) if found is not None)
            jobs = [found for found in sifted if _fits(found, wanted, text)]
            yield Matched(len(chunk), jobs, entries[-1][0].decode())

    async def _entries(self, queue: str, ids: Sequence[str]) -> list[Found]:
        key = QueueKeys(queue).dead
        found = []
        for begin in range(0, len(ids), 100):
            part = ids[begin : begin + 100]
            replies = await self._link.many([(b"XRANGE", key, entry, entry) for entry in part])
            found += [dead_entry(queue, *reply[0]) for reply in replies if reply]
        return found

    async def redrive(
        self, queue: str, jobs: Sequence[Found], *, data: bytes | None = None
    ) -> Redriven:
        """
        Bring dead jobs back to the ends of their lanes, as if they were enqueued now.

        One with an ordering key takes its place at the head of what waits for that key. Each comes
        back at most once, whoever else asks for it; those that are gone are passed over. Jobs that
        are :meth:`~Found.unable` must not be given.

        Args:
            queue: The queue.
            jobs: The jobs.
            data: The payload that they come back with; None for what they had.
        """
        keys = QueueKeys(queue)
        now_ms = await self._link.now_ms()
        arguments: list[bytes | str | int] = []
        for found in jobs:
            assert found.record is not None
            lane = lane_of_dead(found)
            stream = READY[lane] if found.record.ticket else lane
            arguments += [
                found.entry,
                _REDRIVEN.index(stream) + 1,
                found.record.fingerprint,
                encode_meta(fresh_meta(found, now_ms)),
                1 if has_expired(found, now_ms) else 0,
                data or b"",
            ]
        lanes = [keys.lane(stream) for stream in _REDRIVEN]
        moved, refused = await self._link.script(
            "redrive", [keys.dead, keys.dead_groups, *lanes, keys.control], *arguments
        )
        return Redriven(moved, [entry.decode() for entry in refused])

    async def discard(self, queue: str, jobs: Sequence[Found]) -> int:
        """
        Drop dead jobs for good; returns how many were still there.

        A key that one of them kept goes to the next job of that key.
        """
        keys = QueueKeys(queue)
        names = [keys.dead, keys.dead_groups, *keys.gates()]
        dropped = await self._link.script("discard", names, *await self.discarded(jobs))
        return int(dropped)

    async def discarded(self, jobs: Sequence[Found]) -> list[bytes | str | int]:
        """Say of each job what a script that drops it must know."""
        arguments: list[bytes | str | int] = []
        for found in jobs:
            fingerprint = found.record.fingerprint if found.record else ""
            ticket = found.ticket
            key = await self._key_of(found) if ticket else b""
            arguments += [found.entry, fingerprint, lane_of_dead(found), key, ticket]
        return arguments

    async def _key_of(self, found: Found) -> bytes:
        """Return the ordering key of a dead job, also where its fields were too large to keep."""
        key = found.field(b"key")
        if key is not None:
            return key
        async for page in turns(self._link, found.queue, lane_of_dead(found)):
            for name, holder in page.items():
                if holder == b"!" + found.ticket.encode():
                    return name
        return b""


def fresh_meta(found: Found, now_ms: int) -> Meta:
    """Build the engine's own field for a job that comes back: nothing spent, its story kept."""
    assert found.record is not None
    return Meta(
        id=found.record.id,
        enqueued_ms=now_ms,
        redrives=found.record.redrives + 1,
        ticket=found.record.ticket,
        history=found.record.history[-HISTORY_MAX:],
    )


def lane_of_dead(found: Found) -> str:
    """Name the lane that a dead job comes back to."""
    return found.lane if found.lane in LANES else "normal"


def has_expired(found: Found, now_ms: int) -> bool:
    """Tell whether a job would end at once for its age."""
    raw = found.field(b"expires") or b""
    return raw.isdigit() and len(raw) <= 15 and int(raw) <= now_ms


def _read(queue: str, entry: Entry) -> Found:
    return dead_entry(queue, *entry)


def _fits(found: Found, wanted: DeadFilter, text: Needle | None) -> bool:
    record = found.record
    return (
        (not wanted.ids or found.id in wanted.ids or found.entry in wanted.ids)
        and (not wanted.type or found.type == wanted.type)
        and (not wanted.reason or (record is not None and record.reason == wanted.reason))
        and (not wanted.fingerprint or _printed(found) == wanted.fingerprint)
        and (not wanted.after_ms or found.at_ms >= wanted.after_ms)
        and (not wanted.before_ms or found.at_ms < wanted.before_ms)
        and (text is None or found.holds(text))
    )


def _printed(found: Found) -> str:
    return found.record.fingerprint if found.record else ""


def _group(fingerprint: str, parts: dict[str, bytes]) -> DeadGroup:
    try:
        sample = msgspec.json.decode(parts.get("sample", b"{}"), type=Sample)
    except msgspec.MsgspecError:
        sample = Sample()
    return DeadGroup(
        fingerprint=fingerprint,
        jobs=whole(parts.get("n")),
        first_ms=whole(parts.get("first")),
        last_ms=whole(parts.get("last")),
        type=sample.type,
        reason=sample.reason,
        kind=sample.kind,
        message=sample.message,
        sample=sample.id,
    )
