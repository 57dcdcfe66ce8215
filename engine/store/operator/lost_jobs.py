"""Counts the jobs of a bulk operation that will never end, since somebody deleted their entries."""

from __future__ import annotations

import msgspec

from engine.store.flow_base import SOUGHT_AMONG_MAX, SOUGHT_BYTES_MAX
from engine.store.operator.link import CHUNK_ENTRIES_MAX, OperatorLink, pairs
from engine.telemetry import OTHER
from engine.wire.keys import GROUP, QueueKeys
from engine.wire.packing import unpack
from schemas.job import DeadRecord
from schemas.operations import OperationRecord

_dead = msgspec.json.Decoder(DeadRecord)


async def lost_jobs(link: OperatorLink, record: OperationRecord) -> int | None:
    """
    Count the jobs of an operation that have not ended and are nowhere any more.

    Returns:
        None where that cannot be told: there is too much to look at, or an engine has an entry that
        was deleted.
    """
    keys = QueueKeys(record.queue)
    counts = keys.operation(record.id)
    if await link.one(b"HLEN", counts) > SOUGHT_AMONG_MAX:
        return None
    before = pairs(await link.one(b"HGETALL", counts))
    left = {
        entry: _dead.decode(unpack(packed)[0])
        for entry, packed in before.items()
        if not entry.startswith(b":")
    }
    types = {each.type for each in left.values()} | {OTHER}
    named = [part for entry, each in left.items() for part in (entry, each.id)]
    lost: int = await link.script(
        "operation_lost",
        [counts, keys.flows, *keys.places(types)],
        *(GROUP, SOUGHT_AMONG_MAX, SOUGHT_BYTES_MAX, mark_of(record.id)),
        *named,
    )
    return lost if lost >= 0 else None


async def kept_jobs(link: OperatorLink, record: OperationRecord) -> tuple[int, int]:
    """Count jobs of an operation that have not ended: those with an ordering key, and others."""
    has_key: dict[bytes, bool] = {}
    key = QueueKeys(record.queue).operation(record.id)
    cursor = b"0"
    while True:
        cursor, flat = await link.one(b"HSCAN", key, cursor, b"COUNT", CHUNK_ENTRIES_MAX)
        for entry, packed in pairs(flat).items():
            if not entry.startswith(b":"):
                has_key[entry] = bool(_dead.decode(unpack(packed)[0]).ticket)
        if cursor == b"0":
            keyed = sum(has_key.values())
            return keyed, len(has_key) - keyed


def mark_of(name: str) -> bytes:
    """Return what stands before the dead entry in what engines write into jobs of an operation."""
    return f'"operation":"{name}/'.encode()
