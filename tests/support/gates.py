"""Questions, answers and ends of gated jobs, filled in so that a test names what it is about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from engine.store.base import Lease, Settlement, Store
from engine.store.gates import Answer, How, Leave, Question, ticket_of
from engine.wire.codec import META, with_meta
from engine.wire.keys import lane_of
from schemas.job import Meta
from tests.support.jobs import packed, settlement
from tests.support.rigs import QUEUE, Rig

WINDOW_MS = 60_000
LINE_MAX = 1_000


def value(lease: Lease, name: bytes) -> bytes:
    """A field of an entry; empty without it."""
    fields = lease.fields
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(name, b"")


def meta(lease: Lease) -> Meta | None:
    """What the engine wrote into an entry."""
    raw = value(lease, META)
    return msgspec.json.decode(raw, type=Meta) if raw else None


def job_id(lease: Lease) -> str:
    """A job's id, as its producer gave it."""
    told = meta(lease)
    return told.id if told else value(lease, b"id").decode()


def ticket(lease: Lease) -> str:
    """A job's place in the order of its lane."""
    told = meta(lease)
    return (told.ticket if told else "") or ticket_of(lease.entry)


def question(lease: Lease, **asks: Any) -> Question:
    """May this job start? It asks for its own key, if nothing else is said."""
    told = meta(lease)
    given: dict[str, Any] = {
        "entry": lease.entry,
        "deliveries": lease.deliveries,
        "ticket": told.ticket if told else "",
        "key": value(lease, b"key").decode(),
        "job_id": job_id(lease),
    }
    return Question(**(given | asks))


async def admit(
    store: Store,
    stream: str,
    *questions: Question,
    line_max: int = LINE_MAX,
    window_ms: int = WINDOW_MS,
) -> list[Answer]:
    """Ask for jobs of one stream."""
    return await store.admit(QUEUE, stream, questions, id_window_ms=window_ms, line_max=line_max)


def leave(lease: Lease, how: How = "free", **more: str) -> Leave:
    """Pass the gates at a job's end."""
    given = {"key": value(lease, b"key").decode(), "job_id": job_id(lease)}
    given["ticket"] = ticket(lease) if given["key"] else ""
    return Leave(lease.entry, how, **(given | more))


class Hand:
    """
    What one engine does with gated jobs, by hand.

    Args:
        rig: The server, seen from behind.
        store: The engine's store.
    """

    def __init__(self, rig: Rig, store: Store) -> None:
        self.rig = rig
        self.store = store
        self.sequences: Counter[str] = Counter()

    async def take(self, *, stream: str = "normal", count: int = 10) -> list[Lease]:
        """Read a stream, knowing of gates."""
        await self.store.control(QUEUE)
        return (await self.store.fetch(QUEUE, {stream: count})).leases

    async def let_through(self, lane: str = "normal") -> list[Lease]:
        """Read what gates let through."""
        return await self.take(stream=f"{lane}:ready")

    async def ask(self, *leases: Lease, **asks: Any) -> list[str]:
        """Ask for jobs of one stream; tells the bare words."""
        return [answer.word for answer in await self.answers(*leases, **asks)]

    async def answers(self, *leases: Lease, **asks: Any) -> list[Answer]:
        """Ask for jobs of one stream."""
        bounds = {name: asks.pop(name) for name in ("line_max", "window_ms") if name in asks}
        questions = [question(lease, **asks) for lease in leases]
        return await admit(self.store, leases[0].batch.lane, *questions, **bounds)

    async def end(self, *leases: Lease, how: How = "free", **parts: Any) -> Settlement:
        """Settle jobs of one stream."""
        stream = leases[0].batch.lane
        self.sequences[stream] += 1
        parts = {"sequence": self.sequences[stream]} | parts
        parts.setdefault("leaves", [leave(lease, how) for lease in leases])
        asked = settlement(leases, lane=stream, **parts)
        assert await self.store.settle(QUEUE, asked) == []
        return asked

    async def retry(self, lease: Lease, *, after_ms: int = -1_000, ready: bool = True) -> None:
        """Put a job off; with its turn it comes back past the backlog of its lane."""
        lane = lane_of(lease.batch.lane)
        told = meta(lease) or Meta(id=job_id(lease), enqueued_ms=1)
        kept = msgspec.structs.replace(told, ticket=ticket(lease), why="backoff")
        member = packed(f"{lane}:ready" if ready else lane, with_meta(lease.fields, kept))
        due_ms = await self.rig.now_ms() + after_ms
        await self.end(lease, how="keep", retries=[(due_ms, member)])

    async def give_back(self, lease: Lease) -> None:
        """Hand a job back, as a stopping engine does."""
        self.sequences[lease.batch.lane] += 1
        parts = {"lane": lease.batch.lane, "sequence": self.sequences[lease.batch.lane]}
        asked = settlement((), released=[lease], leaves=[leave(lease, "back")], **parts)
        assert await self.store.settle(QUEUE, asked) == []


def ids(leases: Iterable[Lease]) -> list[str]:
    """The jobs' ids."""
    return [job_id(lease) for lease in leases]
