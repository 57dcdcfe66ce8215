"""Conversations, their members and how far each of these has come."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple
from uuid import UUID

import asyncpg

from processors.database.pool import Database
from processors.database.statements import conversations as statements
from processors.errors import Refused

Role = Literal["owner", "admin", "member"]


class Watermarks(NamedTuple):
    """
    How far a member has come in a conversation.

    Attributes:
        delivered: Everything up to this sequence number has reached the member.
        read: Everything up to here has been read.
    """

    delivered: int
    read: int


class Standing(NamedTuple):
    """
    How a user stands to a conversation that exists.

    Attributes:
        is_open: The conversation is not deleted.
        is_member: The user is a member, or was.
        has_left: The user was a member.
        last_seq: The conversation's last sequence number.
        watermarks: How far the user has come.
        joined_seq: Messages up to here are not the user's to see.
        purged_through_seq: Messages up to here were removed by retention.
    """

    is_open: bool
    is_member: bool
    has_left: bool
    last_seq: int
    watermarks: Watermarks
    joined_seq: int = 0
    purged_through_seq: int = 0

    @classmethod
    def of(cls, row: asyncpg.Record) -> Standing:
        """Read a standing from a row."""
        return cls(
            is_open=row["is_open"],
            is_member=row["is_member"],
            has_left=row["has_left"],
            last_seq=row["last_seq"],
            watermarks=Watermarks(row["last_delivered_seq"] or 0, row["last_read_seq"] or 0),
            joined_seq=row.get("joined_seq") or 0,
            purged_through_seq=row.get("purged_through_seq") or 0,
        )

    @property
    def is_active(self) -> bool:
        """Whether messages of the conversation still concern the user."""
        return self.is_open and self.is_member and not self.has_left


class ConversationService:
    """
    Keeps conversations and memberships.

    Args:
        database: Where they are.
        committed: Called after each commit that left an event in the outbox.
    """

    def __init__(self, database: Database, *, committed: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._committed = committed

    async def standing(self, conversation_id: UUID, user_id: UUID) -> Standing:
        """
        Look up how a user stands to a conversation.

        Raises:
            Refused: There is no such conversation.
        """
        row = await self._database.fetchrow(statements.STANDING, conversation_id, user_id)
        assert row is not None
        if not row["is_known"]:
            raise Refused("unknown-conversation", f"there is no conversation {conversation_id}")
        return Standing.of(row)

    async def require_member(self, conversation_id: UUID, user_id: UUID) -> Standing:
        """
        Look up a standing and insist on a present membership of an open conversation.

        Raises:
            Refused: There is none; the code says why.
        """
        standing = await self.standing(conversation_id, user_id)
        if not standing.is_open:
            raise Refused("conversation-deleted", f"conversation {conversation_id} is deleted")
        if not standing.is_member:
            raise Refused(
                "not-a-member", f"user {user_id} is not a member of conversation {conversation_id}"
            )
        if standing.has_left:
            raise Refused("left", f"user {user_id} has left conversation {conversation_id}")
        return standing

    async def add_member(
        self,
        conversation_id: UUID,
        user_id: UUID,
        *,
        role: Role = "member",
        sees_history: bool = False,
    ) -> bool:
        """
        Make a user a member, and tell the members and the user; one who had left comes back.

        Args:
            conversation_id: An open conversation.
            user_id: A user who is not disabled.
            role: What the member may do, as the application understands it.
            sees_history: Let the member see messages from before.

        Returns:
            Whether anything changed: False for an active member.

        Raises:
            Refused: The conversation or the user is unknown, deleted or disabled.
        """
        row = await self._database.fetchrow(
            statements.ADD_MEMBER, conversation_id, user_id, role, sees_history
        )
        if row is not None:
            self._committed()
            return True
        standing = await self.standing(conversation_id, user_id)
        if standing.is_active:
            return False
        if not standing.is_open:
            raise Refused("conversation-deleted", f"conversation {conversation_id} is deleted")
        raise Refused("unknown-user", f"there is no user {user_id} who is not disabled")

    async def remove_member(self, conversation_id: UUID, user_id: UUID) -> bool:
        """
        End a membership, and tell the members and the user; gateways end the user's subscriptions.

        Returns:
            Whether anything changed: False for one who was no active member.
        """
        row = await self._database.fetchrow(statements.REMOVE_MEMBER, conversation_id, user_id)
        if row is not None:
            self._committed()
        return row is not None

    async def ensure(
        self, conversation_id: UUID, title: str, members: Iterable[tuple[UUID, str]]
    ) -> None:
        """Make a conversation and its users, except what is there already."""
        people = sorted(members)
        async with self._database.transaction() as connection:
            await connection.executemany(statements.ADD_USER, people)
            await connection.execute(statements.ADD_CONVERSATION, conversation_id, title)
            await connection.execute(
                statements.ADD_MEMBERS, conversation_id, [user_id for user_id, _ in people]
            )
