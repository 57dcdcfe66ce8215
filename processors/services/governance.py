"""
What may become of conversations: deletion, legal holds and how long their messages are kept.

Every change is one statement with its audit row, and names who made it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from processors.database.pool import Database
from processors.database.statements import governance as statements
from processors.errors import Refused
from schemas.messages import DAYS_MAX


class GovernanceService:
    """
    Decides over conversations on behalf of people.

    Args:
        database: Where they are.
        committed: Called after a commit that left something in the outbox.
    """

    def __init__(self, database: Database, *, committed: Callable[[], None]) -> None:
        self._database = database
        self._committed = committed

    async def soft_delete(self, conversation_id: UUID, *, actor: str) -> bool:
        """
        Close a conversation; what is in it is removed after the grace, unless a hold keeps it.

        Returns:
            Whether it was open.

        Raises:
            Refused: There is no such conversation.
        """
        changed = await self._change(statements.SOFT_DELETE, conversation_id, actor)
        self._committed()
        return changed

    async def restore(self, conversation_id: UUID, *, actor: str) -> bool:
        """
        Open a deleted conversation again, with what is left of it.

        Raises:
            Refused: There is no such conversation, or no longer.
        """
        return await self._change(statements.RESTORE, conversation_id, actor)

    async def set_legal_hold(
        self, conversation_id: UUID, *, held: bool, actor: str, reason: str
    ) -> bool:
        """
        Keep everything of a conversation from removal, or lift that.

        Waits for a removal that is under way; once it returns, nothing more goes.

        Raises:
            Refused: There is no such conversation, or no reason is given.
        """
        if not reason.strip():
            raise Refused("no-reason", "a hold is set and lifted for a reason")
        return await self._change(statements.HOLD, conversation_id, actor, held, reason)

    async def set_retention(self, conversation_id: UUID, days: int | None, *, actor: str) -> bool:
        """
        Set how long a conversation's messages are kept; None: as its tenant's or the default.

        Raises:
            Refused: There is no such conversation, or the number is out of range.
        """
        return await self._change(statements.RETAIN, conversation_id, actor, checked(days))

    async def set_policy(self, tenant_id: str | None, days: int | None, *, actor: str) -> bool:
        """
        Set how long messages of a tenant, or of all others (None), are kept; None days for ever.

        Raises:
            Refused: The number is out of range.
        """
        scope = ("default", "") if tenant_id is None else ("tenant", tenant_id)
        row = await self._database.fetchrow(statements.SET_POLICY, *scope, actor, checked(days))
        assert row is not None
        return bool(row["changed"])

    async def clear_policy(self, tenant_id: str | None, *, actor: str) -> bool:
        """Take a tenant's policy, or the default one, away; tells whether there was one."""
        scope = ("default", "") if tenant_id is None else ("tenant", tenant_id)
        row = await self._database.fetchrow(statements.CLEAR_POLICY, *scope, actor)
        assert row is not None
        return bool(row["changed"])

    async def _change(
        self, statement: str, conversation_id: UUID, actor: str, *arguments: Any
    ) -> bool:
        row = await self._database.fetchrow(statement, conversation_id, actor, *arguments)
        assert row is not None
        if not row["known"]:
            raise Refused("unknown-conversation", f"there is no conversation {conversation_id}")
        return bool(row["changed"])


def checked(days: int | None) -> int | None:
    """
    Insist on a number of days that can be meant.

    Raises:
        Refused: It is out of range.
    """
    if days is not None and not 1 <= days <= DAYS_MAX:
        raise Refused("invalid-days", f"{days} days; 1 to {DAYS_MAX}")
    return days
