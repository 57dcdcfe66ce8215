"""The rows of batches: what is known of each, and the changes that leave them whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from processors.database import outbox
from processors.database.pool import Database
from processors.database.statements import batches as statements
from processors.errors import Refused
from processors.rules import batches as rules
from schemas.messages import BatchProgress, MessageKind, RunBatch, StartBatch

WAITING: Final = 0
QUEUED: Final = 2
SENT: Final = 3
FAILED: Final = 4
CANCELLED: Final = 5


class Batch(NamedTuple):
    """
    A batch as its row has it.

    Attributes:
        id: Its id.
        sender_id: Who sends.
        content: The message; empty once the batch has finished.
        kind: What clients make of it.
        rate_per_s: The rate that it asked for; 0 for none.
        total: Its recipients.
        rate_at: Nothing more is queued before this time.
        is_cancelled: Nobody else is to get it.
        counts: How far it was when that was last told.
        is_finished: These are its summary.
        quiet_ms: Since when they have not changed.
    """

    id: UUID
    sender_id: UUID
    content: str
    kind: MessageKind
    rate_per_s: int
    total: int
    rate_at: datetime | None
    is_cancelled: bool
    counts: dict[str, Any] | None
    is_finished: bool
    quiet_ms: float


class Recipient(NamedTuple):
    """
    One claimed recipient.

    Attributes:
        ordinal: The row.
        user_id: The user.
        child_id: The job and message.
        conversation_id: The direct conversation.
        fault: Why the user cannot be sent anything; None where there is no such reason.
    """

    ordinal: int
    user_id: UUID
    child_id: UUID
    conversation_id: UUID
    fault: str | None


class Mark(NamedTuple):
    """A recipient's next state, by the row or the child."""

    of: Any
    state: int
    error_code: str | None = None


async def create(
    database: Database, batch_id: UUID, start: StartBatch, users: Sequence[UUID], *, queue: str
) -> bool:
    """
    Keep a batch, its recipients and the job that works through them, in one transaction.

    Returns:
        Whether it is new; False where the same one is there already.

    Raises:
        Refused: Another one is.
    """
    kind = start.kind.value
    spec = {"content": start.content, "kind": kind, "ratePerS": start.rate_per_s or 0}
    told = (str(start.sender_id), kind, str(start.rate_per_s), start.content, *map(str, users))
    spec_hash = rules.fingerprint(*told)
    children = [rules.child_of(batch_id, user_id) for user_id in users]
    directs = [rules.direct_conversation(start.sender_id, user_id) for user_id in users]
    async with database.transaction() as connection:
        new = await connection.fetchrow(
            statements.CREATE, batch_id, start.sender_id, spec, spec_hash, len(users)
        )
        if new is None:
            row = await connection.fetchrow(statements.BATCH, batch_id)
            assert row is not None
            if row["spec_hash"] != spec_hash:
                raise Refused("batch-id-reused", f"batch {batch_id} is another one")
            return False
        ordinals = list(range(len(users)))
        await connection.execute(
            statements.ADD_RECIPIENTS, batch_id, ordinals, users, children, directs
        )
        run = RunBatch(batch_id=batch_id)
        job_id = f"batch-{batch_id}"
        await outbox.enqueue(connection, "batch-message", run, queue=queue, id=job_id)
        return True


async def load(database: Database, batch_id: UUID) -> Batch:
    """
    Read a batch.

    Raises:
        Refused: There is none.
    """
    row = await database.fetchrow(statements.BATCH, batch_id)
    if row is None:
        raise Refused("unknown-batch", f"there is no batch {batch_id}")
    spec = row["spec"]
    return Batch(
        id=row["id"],
        sender_id=row["created_by"],
        content=spec.get("content", ""),
        kind=MessageKind(spec["kind"]),
        rate_per_s=spec["ratePerS"],
        total=row["total"],
        rate_at=row["rate_at"],
        is_cancelled=row["cancelled_at"] is not None,
        counts=row["counts"],
        is_finished=row["finished_at"] is not None,
        quiet_ms=row["quiet_ms"],
    )


async def take_up(database: Database, batch_id: UUID) -> None:
    """Note that somebody works on a batch."""
    await database.execute(statements.TAKE_UP, batch_id)


async def reserve(database: Database, batch_id: UUID, now: datetime, span_us: int) -> bool:
    """Take the time that some messages stand for at the batch's rate; False if it is not due."""
    return await database.fetchrow(statements.RESERVE, batch_id, now, span_us) is not None


async def claim(
    database: Database, batch: Batch, *, rows_max: int, claimant: str, lease_ms: int
) -> list[Recipient]:
    """Claim the next recipients, and open the conversations that they are written to in."""
    async with database.transaction() as connection:
        rows = await connection.fetch(statements.CLAIM, batch.id, rows_max, claimant, lease_ms)
        found = [Recipient(**row) for row in rows]
        able = [each for each in found if each.fault is None]
        if able:
            await connection.execute(
                statements.OPEN_CONVERSATIONS,
                [each.conversation_id for each in able],
                [each.user_id for each in able],
                batch.sender_id,
            )
    return found


async def mark(database: Database, batch_id: UUID, marks: Sequence[Mark]) -> None:
    """Record what became of claimed recipients, by ordinal."""
    await database.execute(statements.MARK, batch_id, *_columns(marks))


async def settle(database: Database, batch_id: UUID, marks: Sequence[Mark]) -> None:
    """Record how messages ended, by child."""
    await database.execute(statements.SETTLE, batch_id, *_columns(marks))


async def settle_by_messages(database: Database, batch: Batch, *, give_up: bool) -> None:
    """Look queued messages up, and give up those that nothing is known of if asked to."""
    await database.execute(statements.SETTLE_BY_MESSAGES, batch.id, batch.sender_id, give_up)


async def cancel(database: Database, batch_id: UUID) -> None:
    """Cancel a batch that has not finished, and all its recipients that nobody has claimed."""
    async with database.transaction() as connection:
        if await connection.fetchrow(statements.CANCEL, batch_id) is not None:
            await connection.execute(statements.STOP, batch_id, "")


async def stop(database: Database, batch_id: UUID, *, claimant: str) -> None:
    """Cancel the recipients that are not queued, those of the claimant's own too."""
    await database.execute(statements.STOP, batch_id, claimant)


async def queued(database: Database, batch_id: UUID, rows_max: int) -> list[UUID]:
    """Name queued children that have not been taken back."""
    rows = await database.fetch(statements.QUEUED, batch_id, rows_max)
    return [row["child_id"] for row in rows]


async def taken_back(database: Database, batch_id: UUID, children: Sequence[UUID]) -> None:
    """Remember which children were cancelled, so that each is asked for once."""
    await database.execute(statements.TAKEN_BACK, batch_id, children)


async def count(database: Database, batch: Batch) -> BatchProgress:
    """Say how far a batch is, by its recipients; of a finished one, its summary."""
    if batch.is_finished:
        return msgspec.convert(batch.counts, BatchProgress)
    row = await database.fetchrow(statements.COUNTS, batch.id)
    assert row is not None
    return _progress(batch, row)


async def tell(database: Database, batch: Batch) -> tuple[BatchProgress, bool]:
    """
    Record how far a batch is and tell its sender; the end is recorded and told once.

    Returns:
        How far it is, and whether an event was left in the outbox.
    """
    async with database.transaction() as connection:
        await connection.fetchrow(statements.LOCK, batch.id)
        row = await connection.fetchrow(statements.COUNTS, batch.id)
        assert row is not None
        if not row["waiting"] + row["queued"]:
            # Some were sent and then failed, or were brought back by an operator.
            await connection.execute(statements.CORRECT, batch.id, batch.sender_id)
            row = await connection.fetchrow(statements.COUNTS, batch.id)
            assert row is not None
        progress = _progress(batch, row)
        is_over = progress.state in ("finished", "cancelled")
        event = "batch.finished" if is_over else "batch.progress"
        told = await connection.fetchrow(statements.TELL, batch.id, progress, is_over, event)
    return progress, told is not None


def _progress(batch: Batch, row: asyncpg.Record) -> BatchProgress:
    ended = batch.total - row["waiting"] - row["queued"]
    if ended < batch.total:
        state = "cancelling" if batch.is_cancelled else "running"
    else:
        state = "cancelled" if row["cancelled"] else "finished"
    return BatchProgress(
        batch_id=batch.id,
        state=state,
        total=batch.total,
        percent=rules.percent(ended, batch.total),
        **row,
    )


def _columns(marks: Sequence[Mark]) -> tuple[list[Any], list[Any], list[Any]]:
    columns = [list(column) for column in zip(*marks, strict=True)]
    of, states, codes = columns or ([], [], [])
    return of, states, codes
