"""
Receipts: what recipients received and read, for many jobs at once.

Jobs that arrive together are applied by the same few statements, each with a result of its own.
States and watermarks only move forward, so order and repetition do not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol
from uuid import UUID

import asyncpg

from processors.database.inbox import once_each
from processors.database.pool import Database
from processors.database.statements import receipts as statements
from processors.errors import Refused
from processors.rules.receipts import DELIVERED, READ, Claim, fold, instant, rank
from processors.rules.sqlstate import is_permanent
from processors.services.conversations import Standing, Watermarks
from processors.settings import ProcessorSettings
from schemas.messages import ConfirmationResult, DeliveryConfirmation, Receipt

if TYPE_CHECKING:
    from processors.database.pool import Connection

ROWS_AT_ONCE = 2_000
"""Delivery rows that one statement moves, so that it ends in time and holds locks briefly."""

REFUSALS = (asyncpg.PostgresError, asyncpg.exceptions.DataError)

ReceiptOutcome = ConfirmationResult | Exception
Member = tuple[UUID, UUID]
"""A conversation and a user."""

Receipted = tuple[UUID, UUID]
"""A message and a user."""


class Mark(NamedTuple):
    """
    How far one job says that a member has come.

    Attributes:
        member: Who, and where.
        standing: How the member stood when the job began.
        marks: The watermarks named, within the conversation as it was then; 0 for none.
        at: When, by the member's clock.
    """

    member: Member
    standing: Standing
    marks: Watermarks
    at: datetime | None


class Reached(NamedTuple):
    """What one transaction moved: watermarks by member, receipts found, advanced, and read."""

    watermarks: dict[Member, Watermarks]
    found: set[Receipted]
    advanced: set[Receipted]
    read: set[Receipted]


class Notices(Protocol):
    """What would notify of messages; ``NotificationService`` keeps it."""

    async def cancel_read(
        self, connection: Connection, reads: Sequence[tuple[UUID, UUID, int]]
    ) -> None: ...

    async def cancel_read_messages(
        self, connection: Connection, reads: Sequence[tuple[UUID, UUID]]
    ) -> None: ...


class ReceiptService:
    """
    Applies delivery confirmations.

    Args:
        database: Where messages are.
        notices: What reading cancels.
        settings: In which conversations it is kept who read a message.
        committed: Called after each commit that may have left something in the outbox.
    """

    def __init__(
        self,
        database: Database,
        *,
        notices: Notices,
        settings: ProcessorSettings,
        committed: Callable[[], None],
    ) -> None:
        self._database = database
        self._notices = notices
        self._settings = settings
        self._committed = committed

    async def apply_many(
        self, confirmations: Mapping[str, DeliveryConfirmation]
    ) -> dict[str, ReceiptOutcome]:
        """
        Apply confirmations, in parts that a statement can take in its time; one outcome by job id.

        Args:
            confirmations: What recipients confirm, by job id.
        """
        outcomes: dict[str, ReceiptOutcome] = {}
        for part in parts(confirmations):
            try:
                outcomes |= await self._apply(part)
            except REFUSALS as error:
                if not is_permanent(error):
                    raise
                # One value that the database refuses shall not take the others along.
                for job_id, confirmation in part.items():
                    outcomes[job_id] = await self._alone(job_id, confirmation)
        return outcomes

    async def _alone(self, job_id: str, confirmation: DeliveryConfirmation) -> ReceiptOutcome:
        try:
            return (await self._apply({job_id: confirmation}))[job_id]
        except REFUSALS as error:
            return error

    async def _apply(
        self, confirmations: Mapping[str, DeliveryConfirmation]
    ) -> dict[str, ReceiptOutcome]:
        """
        Record what recipients received and read, and return an outcome by job id.

        Only rows of the recipients named are touched. Rows below a watermark are moved first, in
        short transactions that can be repeated; the rest and the results are one transaction. A
        job that ran before returns its first result.

        Args:
            confirmations: What recipients confirm, by job id.
        """
        outcomes: dict[str, ReceiptOutcome] = {}
        marks: dict[str, Mark] = {}
        for job_id, found in (await self._marks(confirmations)).items():
            if isinstance(found, Mark):
                marks[job_id] = found
            else:
                outcomes[job_id] = found
        await self._advance_rows([mark for mark in marks.values() if mark.standing.is_active])

        async def effects(
            connection: Connection, job_ids: Sequence[str]
        ) -> dict[str, ConfirmationResult]:
            return await self._effects(
                connection,
                {job_id: (confirmations[job_id], marks.get(job_id)) for job_id in job_ids},
            )

        applied = [job_id for job_id in confirmations if job_id not in outcomes]
        if applied:
            outcomes |= await once_each(
                self._database,
                effects,
                ConfirmationResult,
                handler="delivery-confirmation",
                job_ids=applied,
            )
            self._committed()
        return outcomes

    async def _marks(
        self, confirmations: Mapping[str, DeliveryConfirmation]
    ) -> dict[str, Mark | Refused]:
        """Look up how those stand who move watermarks."""
        wanted = [
            (job_id, confirmation, confirmation.conversation_id)
            for job_id, confirmation in confirmations.items()
            if confirmation.conversation_id is not None
        ]
        if not wanted:
            return {}
        rows = await self._database.fetch(
            statements.STANDINGS,
            [conversation_id for _, _, conversation_id in wanted],
            [confirmation.user_id for _, confirmation, _ in wanted],
        )
        found: dict[str, Mark | Refused] = {}
        for row in rows:
            job_id, confirmation, conversation_id = wanted[row["place"] - 1]
            found[job_id] = _mark(confirmation, conversation_id, row)
        return found

    async def _advance_rows(self, marks: Sequence[Mark]) -> None:
        """Move the delivery rows below the watermarks, a bounded number at a time."""
        for state in (READ, DELIVERED):
            todo = _furthest(marks, state)
            while todo:
                each = max(1, ROWS_AT_ONCE // len(todo))
                rows = await self._database.fetch(
                    statements.ADVANCE_UP_TO,
                    self._settings.reads_rows_max,
                    [user_id for (_, user_id), _, _ in todo],
                    [conversation_id for (conversation_id, _), _, _ in todo],
                    [seq for _, seq, _ in todo],
                    [state] * len(todo),
                    [at for _, _, at in todo],
                    each,
                )
                todo = [todo[row["place"] - 1] for row in rows if row["found"] == each]

    async def _effects(
        self,
        connection: Connection,
        jobs: Mapping[str, tuple[DeliveryConfirmation, Mark | None]],
    ) -> dict[str, ConfirmationResult]:
        marks = [mark for _, mark in jobs.values() if mark is not None and mark.standing.is_active]
        claims = {
            job_id: [_claim(confirmation, receipt) for receipt in confirmation.receipts]
            for job_id, (confirmation, _) in jobs.items()
        }
        reached = Reached(
            await self._move_watermarks(connection, marks),
            *await self._acknowledge(connection, (each for own in claims.values() for each in own)),
        )
        await self._cancel_notices(connection, reached)
        credited: set[tuple[UUID, UUID]] = set()
        return {
            job_id: _result(claims[job_id], mark, reached, credited)
            for job_id, (_, mark) in jobs.items()
        }

    async def _move_watermarks(
        self, connection: Connection, marks: Sequence[Mark]
    ) -> dict[Member, Watermarks]:
        """Move watermarks forward, never back and never past the messages looked at before."""
        folded: dict[Member, tuple[int, int, datetime | None]] = {}
        for mark in marks:
            delivered, read, at = folded.get(mark.member, (0, 0, mark.at))
            further = mark.at if mark.marks.read >= read else at
            folded[mark.member] = (
                max(delivered, mark.marks.delivered),
                max(read, mark.marks.read),
                further,
            )
        if not folded:
            return {}
        rows = await connection.fetch(
            statements.MOVE_WATERMARKS,
            [conversation_id for conversation_id, _ in folded],
            [user_id for _, user_id in folded],
            *map(list, zip(*folded.values(), strict=True)),
        )
        return {
            (row["conversation_id"], row["user_id"]): Watermarks(
                row["last_delivered_seq"], row["last_read_seq"]
            )
            for row in rows
        }

    async def _acknowledge(
        self, connection: Connection, claims: Iterable[Claim]
    ) -> tuple[set[Receipted], set[Receipted], set[Receipted]]:
        """Advance single messages; returns which were found, advanced, and read by that."""
        folded = fold(claims)
        if not folded:
            return set(), set(), set()
        rows = await connection.fetch(
            statements.ACKNOWLEDGE,
            self._settings.reads_rows_max,
            [claim.user_id for claim in folded],
            [claim.message_id for claim in folded],
            [claim.rank for claim in folded],
            [claim.delivered_at for claim in folded],
            [claim.read_at for claim in folded],
        )
        return (
            {(row["message_id"], row["user_id"]) for row in rows},
            {(row["message_id"], row["user_id"]) for row in rows if row["advanced"]},
            {(row["message_id"], row["user_id"]) for row in rows if row["was_read"]},
        )

    async def _cancel_notices(self, connection: Connection, reached: Reached) -> None:
        """Cancel what would still notify of what was read; last, in the order of locks."""
        marks = [
            (user_id, conversation_id, marks.read)
            for (conversation_id, user_id), marks in reached.watermarks.items()
            if marks.read
        ]
        if marks:
            await self._notices.cancel_read(connection, marks)
        if reached.read:
            single = sorted((user_id, message_id) for message_id, user_id in reached.read)
            await self._notices.cancel_read_messages(connection, single)


def parts(
    confirmations: Mapping[str, DeliveryConfirmation],
) -> list[dict[str, DeliveryConfirmation]]:
    """Part confirmations so that no part has too many receipts, unless a single job has."""
    found: list[dict[str, DeliveryConfirmation]] = []
    size = 0
    for job_id, confirmation in confirmations.items():
        size += len(confirmation.receipts)
        if not found or size > ROWS_AT_ONCE:
            found.append({})
            size = len(confirmation.receipts)
        found[-1][job_id] = confirmation
    return found


def _mark(
    confirmation: DeliveryConfirmation, conversation_id: UUID, row: asyncpg.Record
) -> Mark | Refused:
    if not row["is_known"]:
        return Refused("unknown-conversation", f"there is no conversation {conversation_id}")
    if not row["is_member"]:
        return Refused(
            "not-a-member",
            f"user {confirmation.user_id} is not a member of conversation {conversation_id}",
        )
    standing = Standing.of(row)
    return Mark(
        (conversation_id, confirmation.user_id),
        standing,
        # Messages that come later are not moved by this job, so its marks stop before them.
        Watermarks(
            min(confirmation.delivered_up_to_seq or 0, standing.last_seq),
            min(confirmation.read_up_to_seq or 0, standing.last_seq),
        ),
        instant(confirmation.at),
    )


def _furthest(marks: Sequence[Mark], state: int) -> list[tuple[Member, int, datetime | None]]:
    """Choose the furthest mark of each member."""
    best: dict[Member, tuple[int, datetime | None]] = {}
    for mark in marks:
        seq = mark.marks.read if state == READ else mark.marks.delivered
        if seq > best.get(mark.member, (0, None))[0]:
            best[mark.member] = seq, mark.at
    return [(member, seq, at) for member, (seq, at) in sorted(best.items())]


def _claim(confirmation: DeliveryConfirmation, receipt: Receipt) -> Claim:
    at = instant(receipt.at)
    return Claim(
        message_id=receipt.message_id,
        user_id=receipt.user_id or confirmation.user_id,
        rank=rank(receipt.state),
        delivered_at=at,
        read_at=at if receipt.state == "read" else None,
    )


def _result(
    claims: Sequence[Claim],
    mark: Mark | None,
    reached: Reached,
    credited: set[tuple[UUID, UUID]],
) -> ConfirmationResult:
    """Tell one job's part; what two jobs advance is the first one's."""
    named = {(claim.message_id, claim.user_id) for claim in claims}
    found = named & reached.found
    advanced = (named & reached.advanced) - credited
    credited |= advanced
    marks = None
    if mark is not None:
        marks = reached.watermarks.get(mark.member, mark.standing.watermarks)
    return ConfirmationResult(
        advanced=len(advanced),
        unchanged=len(found) - len(advanced),
        ignored=len(named) - len(found),
        delivered_up_to_seq=marks.delivered if marks else None,
        read_up_to_seq=marks.read if marks else None,
    )
