"""
Removal of deleted conversations: notifications, messages, members and keys, the row last.

What is left is the checkpoint: a run that is killed anywhere is begun anew with the rest.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from processors.database.pool import Database
from processors.database.statements import retention as statements
from processors.services.cleanup_run import Run
from processors.services.removal import light, remove_messages, unindex

if TYPE_CHECKING:
    import asyncpg

    from processors.database.pool import Connection

PAGE = 100
FIRST = UUID(int=0)
LONG_AGO = datetime(1, 1, 2, tzinfo=UTC)


class ConversationPurge:
    """
    Removes conversations for one run.

    Args:
        database: Where they are.
        run: Keeps the record.
        deleted_before: Those go that were deleted before this instant.
        now: The time of the run.
        index_elsewhere: Messages are found by an index outside the database, too.
    """

    def __init__(
        self,
        database: Database,
        run: Run,
        deleted_before: datetime,
        now: datetime,
        *,
        index_elsewhere: bool,
    ) -> None:
        self._database = database
        self._run = run
        self._before = deleted_before
        self._now = now
        self._index_elsewhere = index_elsewhere

    async def run(self, conversation_id: UUID | None) -> bool:
        """Remove what there is, or as much as the job may; tells whether that was all."""
        after = (LONG_AGO, FIRST)
        while rows := await self.page(after, conversation_id):
            for row in rows:
                if not await self._remove(row["id"]):
                    return False
            after = (rows[-1]["deleted_at"], rows[-1]["id"])
        return True

    async def plan(self, conversation_id: UUID | None) -> None:
        """Count what would go."""
        after = (LONG_AGO, FIRST)
        while rows := await self.page(after, conversation_id):
            async with self._run.step() as connection:
                row = await connection.fetchrow(
                    statements.COUNT_MESSAGES, [row["id"] for row in rows]
                )
            assert row is not None
            self._run.count(conversations_removed=len(rows), messages_removed=row["count"])
            after = (rows[-1]["deleted_at"], rows[-1]["id"])

    async def page(self, after: tuple[datetime, UUID], only: UUID | None) -> list[asyncpg.Record]:
        """Read the next conversations to remove, those deleted first before others."""
        return await self._database.fetch(
            statements.DELETED_CONVERSATIONS, self._before, *after, PAGE, only
        )

    async def _remove(self, conversation_id: UUID) -> bool:
        """Remove one conversation, or as much of it as the job may; tells whether to go on."""
        for empty in (self._empty_notifications, self._empty_messages, self._empty_members):
            more = True
            while more:
                room = self._run.room()
                if not room:
                    return False
                async with self._run.step(room) as connection:
                    if not await self._is_ours(connection, conversation_id):
                        return True
                    more = await empty(connection, conversation_id, room)
                await self._run.rest()
        async with self._run.step() as connection:
            if await self._is_ours(connection, conversation_id):
                await self._finish(connection, conversation_id)
        return True

    async def _is_ours(self, connection: Connection, conversation_id: UUID) -> bool:
        """Whether it is still to be removed, which it stays until the transaction ends."""
        found = await connection.fetchrow(statements.STILL_DELETED, conversation_id, self._before)
        return found is not None

    async def _empty_notifications(
        self, connection: Connection, conversation_id: UUID, room: int
    ) -> bool:
        told = await connection.fetchrow(statements.REMOVE_NOTIFICATIONS, conversation_id, room)
        assert told is not None
        self._run.count(notifications_removed=told["removed"])
        return bool(told["removed"])

    async def _empty_messages(
        self, connection: Connection, conversation_id: UUID, room: int
    ) -> bool:
        rows = light(await connection.fetch(statements.ANY_MESSAGES, conversation_id, room))
        ids = [row["id"] for row in rows]
        if self._index_elsewhere:
            await unindex(connection, ids)
        removed = await remove_messages(connection, ids, self._now)
        self._run.changed(removed.messages)
        self._run.count(
            messages_removed=removed.messages,
            attachments_removed=removed.attachments,
            objects_queued=removed.objects,
        )
        # Where all are in others' hands, the next run sees to them.
        return removed.messages > 0

    async def _empty_members(
        self, connection: Connection, conversation_id: UUID, room: int
    ) -> bool:
        if await connection.fetch(statements.ANY_MESSAGES, conversation_id, 1):
            return False
        members = await connection.fetchrow(statements.REMOVE_MEMBERS, conversation_id, room)
        assert members is not None
        self._run.count(members_removed=members["removed"])
        return bool(members["removed"])

    async def _finish(self, connection: Connection, conversation_id: UUID) -> None:
        if await connection.fetch(statements.ANY_MESSAGES, conversation_id, 1):
            return
        keys = await connection.fetchrow(statements.REMOVE_KEYS, conversation_id)
        assert keys is not None
        row = await connection.fetchrow(
            statements.REMOVE_CONVERSATION, conversation_id, self._before, keys["removed"]
        )
        assert row is not None
        self._run.count(keys_removed=keys["removed"], conversations_removed=row["removed"])
