"""Entries, settlements and records, filled in so that a test names only what it is about."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from engine.store.base import Dead, Lease, Settlement
from engine.wire.codec import DEAD
from engine.wire.done import encode_done
from engine.wire.packing import pack
from schemas.job import DeadRecord, ErrorRecord

AT_MS = 1_763_769_600_000


class JobFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision needs to know, without a job."""

    attempt: int
    attempts_max: int
    lost: int
    enqueued_ms: int


def fields(job_type: str = "pack", data: bytes = b"{}", **more: str) -> list[bytes]:
    """Fields of an entry as a producer writes them."""
    flat = [b"type", job_type.encode(), b"data", data]
    for name, value in more.items():
        flat += (name.encode(), value.encode())
    return flat


def settlement(
    ended: Iterable[Lease | bytes] = (), *, released: Iterable[Lease | bytes] = (), **parts: Any
) -> Settlement:
    """Build a settlement of the lane ``normal``; delivery counts are taken from the leases."""
    ended, released = list(ended), list(released)
    leases = [lease for lease in (*ended, *released) if isinstance(lease, Lease)]
    filled: dict[str, Any] = {
        "lane": "normal",
        "sequence": 1,
        "deliveries": {lease.entry: lease.deliveries for lease in leases if lease.deliveries != 1},
        "held": len(ended) + len(released),
        "at_ms": AT_MS,
    }
    return Settlement(
        ended=[_entry(lease) for lease in ended],
        released=[_entry(lease) for lease in released],
        **(filled | parts),
    )


def _entry(lease: Lease | bytes) -> bytes:
    return lease.entry if isinstance(lease, Lease) else lease


def done(*ids: str, job_type: str = "pack", results: Sequence[bytes] | None = None) -> list[bytes]:
    """Fields of a done entry for jobs of the lane ``normal``."""
    encoded = [job_id.encode() for job_id in ids]
    return encode_done(job_type, "normal", "a", encoded, array("I", [7] * len(ids)), results)


def dead(
    job_id: str, *, fingerprint: str = "f00dfeedf00d", body: Sequence[bytes] | None = None
) -> Dead:
    """One job for the dead stream."""
    record = DeadRecord(
        id=job_id,
        type="pack",
        lane="normal",
        entry="1-0",
        reason="exhausted",
        error=ErrorRecord(kind="ValueError", message="no"),
        enqueued_ms=AT_MS,
        died_ms=AT_MS,
        fingerprint=fingerprint,
    )
    own = fields() if body is None else body
    return Dead(
        fields=[DEAD, msgspec.json.encode(record), *own], fingerprint=fingerprint, sample=b'{"n":1}'
    )


def packed(lane: str = "normal", body: Sequence[bytes] | None = None) -> bytes:
    """Build a member of the delayed set."""
    return pack([lane.encode(), *(fields() if body is None else body)])
