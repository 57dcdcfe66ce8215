"""Messages: sending, receipts, changes, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from engine import Clock
from processors.database.pool import Database
from processors.database.statements import messages as statements
from processors.errors import Refused
from processors.services.changes import ChangeService
from processors.services.conversations import ConversationService
from processors.services.protocols import Sealer
from processors.services.receipts import Notices, ReceiptOutcome, ReceiptService
from processors.services.sending import SendingService, SendOutcome
from processors.settings import ProcessorSettings
from schemas.messages import ConfirmationResult, DeliveryConfirmation, SendMessage, SendResult


class MessageStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    How far a message has come.

    Attributes:
        message_id: The message.
        conversation_id: Its conversation.
        seq: Its place there.
        state: ``sent``, ``delivered`` or ``read`` by all recipients, or ``deleted``.
        recipients: How many it has; null in a conversation that keeps watermarks alone.
        delivered: How many it has reached.
        read: How many have read it, as far as they tell.
        version: 1, and one more with every edit.
        sent_at: When it was sent.
        edited_at: When it was changed last.
    """

    message_id: UUID
    conversation_id: UUID
    seq: int
    state: str
    recipients: int | None
    delivered: int
    read: int
    version: int
    sent_at: datetime
    edited_at: datetime | None


class EnhancedMessageService:
    """
    What can be done with messages.

    Args:
        database: Where messages are.
        conversations: Who may send to what.
        sealer: Encrypts what goes into encrypted conversations, before it is written.
        notices: What reading cancels.
        settings: Bounds, and which jobs follow.
        clock: Time, for ids.
        committed: Called after each commit that left something in the outbox.
    """

    def __init__(
        self,
        database: Database,
        conversations: ConversationService,
        *,
        sealer: Sealer,
        notices: Notices,
        settings: ProcessorSettings,
        clock: Clock,
        committed: Callable[[], None],
    ) -> None:
        self._database = database
        self._sending = SendingService(
            database,
            conversations,
            sealer=sealer,
            settings=settings,
            clock=clock,
            committed=committed,
        )
        self._receipts = ReceiptService(
            database, notices=notices, settings=settings, committed=committed
        )
        self._changes = ChangeService(
            database, sealer=sealer, settings=settings, committed=committed
        )

    async def validate_user(self, user_id: UUID) -> None:
        """
        Insist on a user who exists and is not disabled.

        Raises:
            Refused: There is none.
        """
        await self._sending.validate_user(user_id)

    async def send(self, message: SendMessage) -> SendResult:
        """
        Put a message into its conversation, with its sequence number, rows, event and jobs.

        Doing it again returns the first result: the sender's client message id is the key.

        Raises:
            Refused: The content, the sender or the conversation does not allow it, or the client
                message id stands for another message.
        """
        (outcome,) = await self._sending.send_many([message])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def send_many(self, messages: Sequence[SendMessage]) -> list[SendOutcome]:
        """Send several messages in few round trips; one outcome each, a result or an error."""
        return await self._sending.send_many(messages)

    async def apply_receipts(
        self, confirmation: DeliveryConfirmation, *, job_id: str
    ) -> ConfirmationResult:
        """
        Record what recipients received and read; states and watermarks only move forward.

        Args:
            confirmation: What the recipients confirm.
            job_id: The job's id; a second run returns the first one's result.

        Raises:
            Refused: A watermark names a conversation that the user never was in.
        """
        outcome = (await self._receipts.apply_many({job_id: confirmation}))[job_id]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def apply_receipts_many(
        self, confirmations: Mapping[str, DeliveryConfirmation]
    ) -> dict[str, ReceiptOutcome]:
        """Apply several confirmations in few round trips; one outcome by job id."""
        return await self._receipts.apply_many(confirmations)

    async def edit(self, message_id: UUID, editor_id: UUID, content: str) -> int:
        """
        Give a message another text; returns its new version. Only its sender may.

        Raises:
            Refused: The message, the editor or the text does not allow it.
        """
        return await self._changes.edit(message_id, editor_id, content)

    async def soft_delete(self, message_id: UUID, actor_id: UUID) -> bool:
        """
        Take a message's contents away; its place stays. Says whether it was there until now.

        Raises:
            Refused: The actor is neither its sender nor one who keeps the conversation in order.
        """
        return await self._changes.soft_delete(message_id, actor_id)

    async def status(self, message_id: UUID) -> MessageStatus:
        """
        Say how far a message has come.

        Raises:
            Refused: There is no such message.
        """
        row = await self._database.fetchrow(statements.STATUS, message_id)
        if row is None:
            raise Refused("unknown-message", f"there is no message {message_id}")
        return MessageStatus(
            message_id=row["id"],
            conversation_id=row["conversation_id"],
            seq=row["seq"],
            state=_state(row),
            recipients=row["n_recipients"],
            delivered=row["n_delivered"],
            read=row["n_read"],
            version=row["version"],
            sent_at=row["created_at"],
            edited_at=row["edited_at"],
        )


def _state(row: asyncpg.Record) -> str:
    if row["deleted_at"] is not None:
        return "deleted"
    if row["n_recipients"] and row["n_read"] == row["n_recipients"]:
        return "read"
    if row["n_recipients"] and row["n_delivered"] == row["n_recipients"]:
        return "delivered"
    return "sent"
