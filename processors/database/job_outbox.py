"""
The relay's half of the jobs in the outbox: taking them, and saying what became of them.

A relay leases whole queues for a short while, so that no other one overtakes it and jobs keep the
order of their rows; what another holds is left alone, never waited for. Rows are chosen by being
there, not by an id above a cursor: a row that commits late is found like any other.

Rows come from strangers, who may write to the table by themselves, so each is judged alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from engine import NewJob
from processors.database.pool import Database
from processors.database.statements import outbox as statements
from schemas.queues import OutboxLook

ERROR_CHARS_MAX: Final = 500


class Fault(NamedTuple):
    """A row that cannot become a job as it is, and why."""

    row: int
    why: str


class Pending(NamedTuple):
    """A job, and the row that it stands in."""

    row: int
    job: NewJob


class Claimed(NamedTuple):
    """
    What a relay has taken.

    Attributes:
        queues: The jobs of each queue that it holds now, in their order.
        faults: Rows of these queues that are no jobs.
        is_busy: Other relays hold queues with jobs.
    """

    queues: dict[str, list[Pending]]
    faults: list[Fault]
    is_busy: bool

    def rows(self) -> int:
        """How many rows there are."""
        return len(self.faults) + sum(map(len, self.queues.values()))


_Span = Annotated[int, msgspec.Meta(ge=0)]


class _Fields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands beside ``data`` in a row's payload."""

    id: str
    type: str
    lane: str = "normal"
    delay: _Span | None = None
    ttl: _Span | None = None
    key: str | None = None


_decode = msgspec.json.Decoder(_Fields).decode


async def claim(
    database: Database,
    *,
    relay: UUID,
    jobs_max: int,
    bytes_max: int,
    lease_ms: int,
    skipped: Sequence[str],
) -> Claimed:
    """
    Lease the queues that have jobs, and take their oldest.

    Args:
        database: Where the outbox is.
        relay: Who takes them.
        jobs_max: Rows of all queues together.
        bytes_max: Bytes of payloads likewise; at least one row of each queue is taken.
        lease_ms: How long the queues are kept from other relays.
        skipped: Queues to leave alone.
    """
    found = await database.fetch(
        statements.CLAIM_JOBS, relay, jobs_max, bytes_max, lease_ms, skipped
    )
    queues: dict[str, list[Pending]] = {}
    faults: list[Fault] = []
    for row in found:
        if row["id"] is None:
            continue
        pending = queues.setdefault(row["queue"], [])
        try:
            pending.append(Pending(row["id"], _job(row)))
        except (ValueError, OverflowError, RecursionError) as error:
            faults.append(Fault(row["id"], f"not a job: {error}"[:ERROR_CHARS_MAX]))
    return Claimed(queues, faults, any(row["id"] is None for row in found))


async def settle(
    database: Database,
    *,
    sent: Sequence[int],
    faults: Sequence[Fault],
    queues: Sequence[str],
    relay: UUID,
) -> None:
    """Delete what was enqueued, set aside what is no job, and give the queues back."""
    await database.execute(
        statements.SETTLE_JOBS,
        sent,
        [fault.row for fault in faults],
        [fault.why[:ERROR_CHARS_MAX] for fault in faults],
        queues,
        relay,
    )


async def look(database: Database, *, rows_max: int) -> OutboxLook:
    """Count what waits in the outbox, up to a number of rows of a kind."""
    row = await database.fetchrow(statements.LOOK, rows_max)
    assert row is not None
    return OutboxLook(**row)


def _job(row: asyncpg.Record) -> NewJob:
    """
    Read one row.

    Raises:
        ValueError: It is no job.
    """
    if row["fields"] is None or row["data"] is None:
        raise ValueError("payload must be an object with id, type and data")
    fields = _decode(row["fields"].encode())
    created_ms = row["created_ms"]
    return NewJob(
        fields.type,
        row["data"].encode(),
        queue=row["queue"],
        lane=fields.lane,
        id=fields.id,
        # Moments, so that neither the wait in the outbox nor a second try moves them.
        at=None if fields.delay is None else created_ms + fields.delay,
        expires=None if fields.ttl is None else created_ms + fields.ttl,
        key=fields.key,
    )
