"""
Retention of messages: contents first, rows after a grace.

Conversations are gone through page by page. Of each, the messages from before its policy's instant
are cleared window by window, then its mark moves behind them, so that clients do not take them for
a gap, and after the grace the rows below the mark go. Each step is a short transaction that can be
repeated: what is done already is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import structlog

from processors.database.pool import Database
from processors.database.statements import retention as statements
from processors.rules.retention import Bounds, Kept, Policy, choose, cutoff
from processors.services.cleanup_run import Run
from processors.services.removal import let_go, light, remove_messages, unindex

if TYPE_CHECKING:
    from processors.database.pool import Connection

log = structlog.get_logger("processors.cleanup")

PAGE = 200
SWEEP_ROWS = 2_000
FIRST = UUID(int=0)
LONG_AGO = datetime(1, 1, 2, tzinfo=UTC)
TOO_LONG = (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError)


@dataclass(frozen=True, slots=True)
class Defaults:
    """
    What holds where nobody said otherwise.

    Attributes:
        kept: The default policy.
        bounds: What the law asks for.
        grace: Between the clearing of a message and the removal of its row.
        index_elsewhere: Messages are found by an index outside the database, too.
    """

    kept: Kept
    bounds: Bounds
    grace: timedelta
    index_elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """
    Where the clearing of one conversation stands.

    Attributes:
        conversation_id: The conversation.
        after_seq: What is at or below it is done.
        cutoff: Messages from before it go.
        last_seq: The conversation's last number when it was looked at.
    """

    conversation_id: UUID
    after_seq: int
    cutoff: datetime
    last_seq: int

    @property
    def rows(self) -> int:
        """How many rows it may have, at most."""
        return max(1, self.last_seq - self.after_seq)


class MessagePurge:
    """
    Clears and removes messages for one run.

    Args:
        database: Where messages are.
        run: Keeps the record.
        defaults: What holds where nobody said otherwise.
        now: The time of the run.
    """

    def __init__(self, database: Database, run: Run, defaults: Defaults, now: datetime) -> None:
        self._database = database
        self._run = run
        self._defaults = defaults
        self._now = now
        self._gone_before = now - defaults.grace
        self._width: int | None = None  # conversations of one step, where there was trouble

    async def run(self, conversation_id: UUID | None) -> bool:
        """Go on from the record to the end, or as far as the job may; tells which."""
        part, _, where = self._run.record.after.partition(":")
        if part != "files" and not await self._pages(where, conversation_id):
            return False
        if conversation_id is not None:
            return True
        return await self._sweep(where if part == "files" else "")

    async def page(self, after: UUID, only: UUID | None) -> list[asyncpg.Record]:
        """Read the next conversations, whatever their policy."""
        return await self._database.fetch(statements.PAGE, after, PAGE, only)

    def policy(self, row: asyncpg.Record) -> Policy:
        """Choose the policy of a conversation of a page."""
        own, tenant = row["retention_days"], row["tenant_days"]
        return choose(
            hold=row["legal_hold"],
            conversation=None if own is None else Kept(own),
            tenant=Kept(tenant) if row["has_tenant_policy"] else None,
            default=self._defaults.kept,
            bounds=self._defaults.bounds,
        )

    def window(self, row: asyncpg.Record) -> Window | None:
        """Return what is to be cleared of a conversation of a page, if anything is."""
        before = cutoff(self.policy(row), self._now)
        if before is None or row["next_at"] is None or row["next_at"] >= before:
            return None
        return Window(row["id"], row["purged_through_seq"], before, row["last_seq"])

    async def _pages(self, where: str, only: UUID | None) -> bool:
        after = UUID(where) if where else FIRST
        while rows := await self.page(after, only):
            due = [window for row in rows if (window := self.window(row))]
            if not await self._clear(due):
                return False
            if not await self._remove([row["id"] for row in rows if self._has_rows_to_remove(row)]):
                return False
            after = rows[-1]["id"]
            if only is not None or len(rows) < PAGE:
                return True
            async with self._run.step():
                self._run.record.after = f"pages:{after}"
            if not self._run.room():
                return False
        return True

    def _has_rows_to_remove(self, row: asyncpg.Record) -> bool:
        gone_at = row["first_deleted_at"]
        return gone_at is not None and gone_at < self._gone_before and not row["legal_hold"]

    async def _clear(self, due: Sequence[Window]) -> bool:
        """Clear messages window by window, and move the marks behind them."""
        left = list(due)
        reached: dict[UUID, tuple[int, datetime]] = {}
        while left and (room := self._run.room()):
            chunk, rows = packed(left[: self._width], self._narrowed(room))
            try:
                found = await self._clear_windows(chunk, rows)
            except TOO_LONG as error:
                if await self._passed_over([each.conversation_id for each in chunk], error):
                    left = left[1:]
                continue
            if found is None:
                break
            passed = {row["conversation_id"]: row for row in found}
            reached |= {
                window.conversation_id: (passed[window.conversation_id]["last_seq"], window.cutoff)
                for window in chunk
                if window.conversation_id in passed
            }
            left = [*_unfinished(chunk, rows, passed), *left[len(chunk) :]]
            await self._run.rest()
        await self._advance(reached)
        return not left

    async def _clear_windows(
        self, chunk: Sequence[Window], rows: Sequence[int]
    ) -> list[asyncpg.Record] | None:
        """Clear some windows, or return None where time is over before their notifications are."""
        ids = {window.conversation_id for window in chunk}
        told = await self._database.fetch(statements.OLD_TOLD, *_columns(chunk, rows, ids))
        if not await self._untell(told):
            return None
        async with self._run.step(sum(rows)) as connection:
            free = await self._free(connection, ids)
            found = await connection.fetch(
                statements.CLEAR, *_columns(chunk, rows, free), self._now
            )
            cleared = [each for row in found for each in row["cleared"]]
            if self._defaults.index_elsewhere:
                await unindex(connection, cleared)
            self._run.changed(len(cleared))
            self._run.count(messages_cleared=len(cleared))
        return found

    async def _untell(self, told: Sequence[asyncpg.Record]) -> bool:
        """Remove the notifications of messages; tells whether there was time for all."""
        if not told:
            return True
        rows_max = removed = self._run.pace.batch_rows
        while removed == rows_max:
            if not self._run.room():
                return False
            async with self._run.step() as connection:
                free = await self._free(connection, {row["conversation_id"] for row in told})
                ids = [row["id"] for row in told if row["conversation_id"] in free]
                row = await connection.fetchrow(statements.UNTELL, ids, rows_max)
                assert row is not None
                removed = row["removed"]
                self._run.count(notifications_removed=removed)
            await self._run.rest()
        return True

    def _narrowed(self, room: int) -> int:
        return room if self._width is None or not room else max(1, room // 10)

    async def _passed_over(self, ids: Sequence[UUID], error: asyncpg.PostgresError) -> bool:
        """
        Note that work on conversations took too long, or waited too long for others.

        From now on, each is worked on by itself and in smaller steps. One that fails even so is
        left to the next run, also by the jobs that go on with this one.

        Returns:
            Whether it is.
        """
        if self._width is None:
            self._width = 1
            return False
        log.warning("retention_passed_over", conversation_id=str(ids[0]), code=error.sqlstate)
        async with self._run.step():
            self._run.record.after = f"pages:{ids[0]}"
            self._run.count(conversations_passed_over=1)
        return True

    async def _advance(self, reached: dict[UUID, tuple[int, datetime]]) -> None:
        """Move the marks of conversations behind what is cleared, without a gap."""
        if not reached:
            return
        ids = sorted(reached)
        rows = await self._database.fetch(
            statements.REACHED, ids, [reached[i][0] for i in ids], [reached[i][1] for i in ids]
        )
        if not rows:
            return
        async with self._run.step() as connection:
            moved = await connection.fetchrow(
                statements.ADVANCE,
                [row["conversation_id"] for row in rows],
                [row["seq"] for row in rows],
            )
            assert moved is not None
            self._run.count(marks_moved=moved["moved"])

    async def _remove(self, due: Sequence[UUID]) -> bool:
        """Remove rows below the marks whose grace is over."""
        left = list(due)
        while left and (room := self._narrowed(self._run.room())):
            chunk = left[: self._width or max(1, min(len(left), room // 10))]
            each = max(1, room // len(chunk))
            found = await self._database.fetch(
                statements.CLEARED, chunk, [each] * len(chunk), self._gone_before
            )
            rows = light(found)
            try:
                removed = await self._remove_rows(chunk, rows)
            except TOO_LONG as error:
                if await self._passed_over(chunk, error):
                    left = left[1:]
                continue
            if removed is None:
                break
            seen = [row["conversation_id"] for row in found]
            cut = {row["conversation_id"] for row in found[len(rows) :]}
            # Where all were in others' hands, the next run sees to the rest.
            more = {i for i in chunk if removed and (i in cut or seen.count(i) == each)}
            left = [*sorted(more), *left[len(chunk) :]]
            await self._run.rest()
        return not left

    async def _remove_rows(
        self, conversations: Sequence[UUID], rows: Sequence[asyncpg.Record]
    ) -> int | None:
        """Remove messages, or return None where time is over before their notifications are."""
        if not await self._untell([row for row in rows if row["is_told"]]):
            return None
        async with self._run.step(len(rows)) as connection:
            free = await self._free(connection, conversations)
            ids = [row["id"] for row in rows if row["conversation_id"] in free]
            removed = await remove_messages(connection, ids, self._now)
            self._run.changed(removed.messages)
            self._run.count(
                messages_removed=removed.messages,
                attachments_removed=removed.attachments,
                objects_queued=removed.objects,
            )
        return removed.messages

    async def _sweep(self, where: str) -> bool:
        """Take the attachments from messages that were deleted, by whomever, some time ago."""
        at, _, last = where.partition("|")
        after = (_moment(at) if at else LONG_AGO, UUID(last) if last else FIRST)
        while self._run.room():
            row = await self._database.fetchrow(
                statements.DELETED_WITH_FILES, *after, self._gone_before, SWEEP_ROWS
            )
            if row is None:
                return True
            after = (row["last_at"], row["last_id"])
            async with self._run.step() as connection:
                free = await self._free(connection, row["conversations"])
                found = await connection.fetch(
                    statements.OF_CONVERSATIONS, row["messages"], sorted(free)
                )
                gone, objects = await let_go(connection, [each["id"] for each in found], self._now)
                self._run.changed(gone)
                self._run.count(attachments_removed=gone, objects_queued=objects)
                self._run.record.after = f"files:{_micros(after[0])}|{after[1]}"
            if row["seen"] < SWEEP_ROWS:
                return True
            await self._run.rest()
        return False

    async def _free(self, connection: Connection, ids: Iterable[UUID]) -> set[UUID]:
        """Return those of some conversations that are under no hold; they stay so for a while."""
        rows = await connection.fetch(statements.UNHELD, sorted(ids))
        return {row["id"] for row in rows}


def packed(windows: Sequence[Window], rows_max: int) -> tuple[list[Window], list[int]]:
    """Take as many windows as fit into one transaction, at least one, with the rows of each."""
    rows: list[int] = []
    for window in windows:
        left = rows_max - sum(rows)
        if left <= 0 or (rows and window.rows > left):
            break
        rows.append(min(window.rows, left))
    return list(windows[: len(rows)]), rows


def _columns(
    chunk: Sequence[Window], rows: Sequence[int], free: set[UUID]
) -> tuple[list[UUID], list[int], list[datetime], list[int]]:
    kept = [
        (window, n) for window, n in zip(chunk, rows, strict=True) if window.conversation_id in free
    ]
    return (
        [window.conversation_id for window, _ in kept],
        [window.after_seq for window, _ in kept],
        [window.cutoff for window, _ in kept],
        [n for _, n in kept],
    )


def _unfinished(
    chunk: Sequence[Window], rows: Sequence[int], passed: dict[UUID, asyncpg.Record]
) -> list[Window]:
    """Return the windows that go on: full ones without a message that is kept."""
    return [
        replace(window, after_seq=found["last_seq"])
        for window, n in zip(chunk, rows, strict=True)
        if (found := passed.get(window.conversation_id))
        and not found["has_kept"]
        and found["seen"] == n
    ]


def _micros(moment: datetime) -> int:
    return (moment - LONG_AGO) // timedelta(microseconds=1)


def _moment(text: str) -> datetime:
    return LONG_AGO + timedelta(microseconds=int(text))
