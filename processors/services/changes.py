"""Changes to messages that were sent: another text, or none any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from engine import Retry
from processors.database.pool import Database
from processors.database.statements import messages as statements
from processors.errors import Refused
from processors.rules.content import content_fault, described
from processors.services.protocols import Place, Sealer
from processors.settings import ProcessorSettings

KEEPERS = ("owner", "admin")
TRIES_MAX = 3


class ChangeService:
    """
    Edits and deletes messages, for those who may.

    Args:
        database: Where messages are.
        sealer: Encrypts what goes into encrypted conversations, before it is written.
        settings: Which jobs follow.
        committed: Called after each commit that left something in the outbox.
    """

    def __init__(
        self,
        database: Database,
        *,
        sealer: Sealer,
        settings: ProcessorSettings,
        committed: Callable[[], None],
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._settings = settings
        self._committed = committed

    async def edit(self, message_id: UUID, editor_id: UUID, content: str) -> int:
        """Give a message another text; see :meth:`EnhancedMessageService.edit`."""
        fault = content_fault(content)
        if fault:
            raise Refused("invalid-content", fault)
        for _ in range(TRIES_MAX):
            found = await self._message(message_id, editor_id)
            if found["sender_id"] != editor_id or not found["is_member"]:
                raise Refused("not-the-sender", f"user {editor_id} may not edit {message_id}")
            if found["is_deleted"]:
                raise Refused("message-deleted", f"message {message_id} is deleted")
            body, ciphertext, key_id, fingerprint = await self._columns(found, content)
            row = await self._database.fetchrow(
                statements.EDIT,
                message_id,
                found["version"],
                body,
                ciphertext,
                key_id,
                self._settings.index_messages,
                found["conversation_id"],
                fingerprint,
            )
            if row is not None:
                self._committed()
                return int(row["version"])
        raise Retry(reason=f"message {message_id} was changed by others meanwhile")

    async def soft_delete(self, message_id: UUID, actor_id: UUID) -> bool:
        """Take a message's contents away; see :meth:`EnhancedMessageService.soft_delete`."""
        found = await self._message(message_id, actor_id)
        may = found["sender_id"] == actor_id or found["role"] in KEEPERS
        if not may or not found["is_member"]:
            raise Refused("not-allowed", f"user {actor_id} may not delete {message_id}")
        row = await self._database.fetchrow(
            statements.DELETE,
            message_id,
            self._settings.index_messages,
            found["conversation_id"],
        )
        if row is not None:
            self._committed()
        return row is not None

    async def _message(self, message_id: UUID, user_id: UUID) -> Any:
        row = await self._database.fetchrow(statements.FOR_CHANGE, message_id, user_id)
        if row is None:
            raise Refused("unknown-message", f"there is no message {message_id}")
        if row["legal_hold"]:
            raise Refused("legal-hold", f"message {message_id} is held as it is")
        return row

    async def _columns(self, found: Any, content: str) -> tuple[Any, Any, Any, bytes | None]:
        """Body, ciphertext and key of the new version; its hash, where that has to change."""
        if not found["encrypted"]:
            return content, None, None, None
        conversation_id = found["conversation_id"]
        place = Place(conversation_id, found["id"], found["version"] + 1)
        envelope = await self._sealer.seal(place, content.encode())
        fingerprint = None
        if found["body"] is not None:
            # Written before encryption: its plain hash goes with its plain text.
            text = described(found["kind"], found["body"], found["attachments"])
            fingerprint = await self._sealer.fingerprint(conversation_id, text.encode())
        return None, envelope.ciphertext, envelope.key_id, fingerprint
