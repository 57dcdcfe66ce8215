"""Questions, answers and ends of gated jobs, filled in so that a test names what it is about."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.store.base import Lease, Store
from engine.store.gates import Answer, How, Leave, Question, ticket_of
from engine.wire.codec import META
from schemas.job import Meta
from tests.support.rigs import QUEUE

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
    given = {
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
