"""
Messages behind a position: what a client that was away, or an event that was lost, left out.

A page never has a hidden gap: it says up to which place nothing is missing. Places that retention
has emptied, and those before a member joined, count as complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import structlog

from processors.database.pool import Database
from processors.database.statements import sync as statements
from processors.errors import Refused
from processors.services.conversations import ConversationService
from processors.services.protocols import Envelope, Place, Sealer
from schemas.messages.common import SEQ_MAX
from schemas.realtime import SYNC_MAX, Message

log = structlog.get_logger("processors.sync")

AT_ONCE: Final = 5_000
"""Conversations or members that one statement looks up."""


class Page(NamedTuple):
    """
    Some messages.

    Attributes:
        messages: By place.
        through_seq: Nothing up to here is missing.
        has_more: There are further ones.
        purged_through_seq: Up to here retention has removed them.
    """

    messages: list[Message]
    through_seq: int
    has_more: bool
    purged_through_seq: int


class SyncService:
    """
    Reads messages for members and gateways.

    Args:
        database: Where messages are.
        conversations: Says why somebody may not read.
        sealer: Opens encrypted messages; without one they come without content.
    """

    def __init__(
        self,
        database: Database,
        conversations: ConversationService,
        *,
        sealer: Sealer | None = None,
    ) -> None:
        self._database = database
        self._conversations = conversations
        self._sealer = sealer

    async def sync(
        self,
        conversation_id: UUID,
        user_id: UUID,
        after_seq: int,
        limit: int = SYNC_MAX,
        *,
        last_seq: int = SEQ_MAX,
    ) -> Page:
        """
        Read what a member has not seen yet, opened where it is encrypted.

        Args:
            conversation_id: The conversation.
            user_id: An active member.
            after_seq: The member's position.
            limit: Messages, at most.
            last_seq: None behind this one.

        Raises:
            Refused: The user is no active member; the code says why.
            ServiceUnavailable: The keys cannot be had now.
            ConfigurationError: A key is missing or disabled.
        """
        rows = await self._database.fetch(
            statements.PAGE, conversation_id, user_id, after_seq, limit, last_seq
        )
        if not rows:
            await self._conversations.require_member(conversation_id, user_id)
            # A member by now: the membership came between the two looks.
            return await self.sync(conversation_id, user_id, after_seq, limit, last_seq=last_seq)
        first = rows[0]
        found = [row for row in rows if row["id"] is not None]
        through = found[-1]["seq"] if len(found) == limit else first["last_seq"]
        return Page(
            messages=[await self._opened(conversation_id, row) for row in found],
            through_seq=max(through, first["start_seq"]),
            has_more=through < first["last_seq"],
            purged_through_seq=first["purged_through_seq"],
        )

    async def missed(
        self, conversation_id: UUID, after_seq: int, last_seq: int, limit: int
    ) -> list[Message]:
        """Read what events told or would have told, encrypted messages without content."""
        rows = await self._database.fetch(
            statements.MISSED, conversation_id, after_seq, last_seq, limit
        )
        return [_message(conversation_id, row) for row in rows]

    async def last_seqs(self, conversation_ids: Sequence[UUID]) -> dict[UUID, int]:
        """Look up the last place of each conversation that exists."""
        found: dict[UUID, int] = {}
        for start in range(0, len(conversation_ids), AT_ONCE):
            part = conversation_ids[start : start + AT_ONCE]
            rows = await self._database.fetch(statements.LAST_SEQS, part)
            found.update((row["id"], row["last_seq"]) for row in rows)
        return found

    async def gone_members(self, pairs: Sequence[tuple[UUID, UUID]]) -> list[tuple[UUID, UUID]]:
        """Return those pairs of conversation and user that are no active membership."""
        gone: list[tuple[UUID, UUID]] = []
        for start in range(0, len(pairs), AT_ONCE):
            part = pairs[start : start + AT_ONCE]
            rows = await self._database.fetch(
                statements.GONE_MEMBERS, [pair[0] for pair in part], [pair[1] for pair in part]
            )
            gone.extend((row["conversation_id"], row["user_id"]) for row in rows)
        return gone

    async def gone_users(self, user_ids: Sequence[UUID]) -> list[UUID]:
        """Return those users who are disabled or unknown."""
        gone: list[UUID] = []
        for start in range(0, len(user_ids), AT_ONCE):
            part = user_ids[start : start + AT_ONCE]
            rows = await self._database.fetch(statements.GONE_USERS, part)
            gone.extend(row["id"] for row in rows)
        return gone

    async def _opened(self, conversation_id: UUID, row: Any) -> Message:
        if row["ciphertext"] is None or self._sealer is None:
            return _message(conversation_id, row)
        place = Place(conversation_id, row["id"], row["version"])
        try:
            content = await self._sealer.open(place, Envelope(row["key_id"], row["ciphertext"]))
        except Refused as refused:
            # One damaged record does not keep the others from their reader.
            log.warning("message_unreadable", message_id=str(row["id"]), code=refused.code)
            return _message(conversation_id, row, unreadable=True)
        return _message(conversation_id, row, content=content.decode())


def _message(
    conversation_id: UUID, row: Any, *, content: str | None = None, unreadable: bool = False
) -> Message:
    return Message(
        conversation_id=conversation_id,
        message_id=row["id"],
        seq=row["seq"],
        sender_id=row["sender_id"],
        client_message_id=row["client_msg_id"],
        kind=row["kind"],
        sent_at=row["sent_at"],
        version=row["version"],
        content=row["body"] if content is None else content,
        encrypted=row["ciphertext"] is not None,
        unreadable=unreadable,
        mentions=tuple(row["mentions"]),
        attachments=tuple(row["attachments"]),
        edited_at=row["edited_at"],
        deleted=row["is_deleted"],
    )
