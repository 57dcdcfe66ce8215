"""Messages: from a sender's words to rows, and from receipts to counters."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from engine import Retry
from processors.database.inbox import once
from processors.database.pool import Database
from processors.database.statements import conversations, messages, receipts
from processors.errors import Refused
from processors.rules.content import body_hash, client_id_fault, content_fault
from processors.rules.receipts import DELIVERED, READ, Claim, fold, instant, rank
from processors.services.conversations import ConversationService, Standing, Watermarks
from schemas.messages import (
    ConfirmationResult,
    DeliveryConfirmation,
    Receipt,
    SendMessage,
    SendResult,
)

if TYPE_CHECKING:
    from processors.database.pool import Connection

ROWS_AT_ONCE = 1_000
"""Delivery rows that one statement of a watermark moves, so that locks are held briefly."""


class EnhancedMessageService:
    """
    Sends messages and applies receipts.

    Args:
        database: Where messages are.
        conversations: Who may send to what.
        rows_max: Conversations with more recipients keep watermarks in place of delivery rows.
        committed: Called after each commit that left an event in the outbox.
    """

    def __init__(
        self,
        database: Database,
        conversations: ConversationService,
        *,
        rows_max: int,
        committed: Callable[[], None],
    ) -> None:
        self._database = database
        self._conversations = conversations
        self._rows_max = rows_max
        self._committed = committed

    async def validate_user(self, user_id: UUID) -> None:
        """
        Insist on a user who exists and is not disabled.

        Raises:
            Refused: There is none.
        """
        row = await self._database.fetchrow(conversations.USER, user_id)
        if row is None:
            raise Refused("unknown-user", f"there is no user {user_id}")
        if row["is_disabled"]:
            raise Refused("user-disabled", f"user {user_id} is disabled")

    def validate_content(self, message: SendMessage) -> None:
        """
        Insist on a content and an id that can be stored.

        Raises:
            Refused: They cannot; the detail quotes nothing of them.
        """
        fault = content_fault(message.content) or client_id_fault(message.client_message_id)
        if fault:
            raise Refused("invalid-content", fault)

    async def send(self, message: SendMessage) -> SendResult:
        """
        Put a message into its conversation, with its sequence number, rows and event.

        Doing it again returns the first result: the sender's client message id is the key.

        Raises:
            Refused: The content, the sender or the conversation does not allow it, or the client
                message id stands for another message.
        """
        self.validate_content(message)
        kind = message.kind.value
        fingerprint = body_hash(kind, message.content)
        row = await self._database.fetchrow(
            messages.SEND,
            message.conversation_id,
            message.sender_id,
            message.client_message_id,
            fingerprint,
            kind,
            message.content,
            self._rows_max,
        )
        if row is None:
            return await self._sent_before(message, fingerprint)
        self._committed()
        return SendResult(
            message_id=row["id"], seq=row["seq"], duplicate=False, recipients=row["n_recipients"]
        )

    async def _sent_before(self, message: SendMessage, fingerprint: bytes) -> SendResult:
        """Return the result of the same message sent earlier, or say why it cannot be sent."""
        row = await self._database.fetchrow(
            messages.FIND_SENT,
            message.conversation_id,
            message.sender_id,
            message.client_message_id,
        )
        if row is None:
            await self._conversations.require_member(message.conversation_id, message.sender_id)
            await self.validate_user(message.sender_id)
            # Allowed by now: the membership came between the two looks.
            raise Retry(0, reason="the sender's membership changed meanwhile")
        if row["body_hash"] != fingerprint:
            raise Refused(
                "client-message-id-reused",
                f"clientMessageId stands for message {row['id']} with another content",
            )
        return SendResult(
            message_id=row["id"], seq=row["seq"], duplicate=True, recipients=row["n_recipients"]
        )

    async def apply_receipts(
        self, confirmation: DeliveryConfirmation, *, job_id: str
    ) -> ConfirmationResult:
        """
        Record what a recipient received and read; states and watermarks only move forward.

        Only rows of that recipient are touched. Rows below a watermark are moved first, in short
        transactions that can be repeated; the rest and the result are one transaction.

        Args:
            confirmation: What the recipient confirms.
            job_id: The job's id; a second run returns the first one's result.

        Raises:
            Refused: A watermark names a conversation that the user never was in.
        """
        standing = await self._standing(confirmation)
        marks = Watermarks(confirmation.delivered_up_to_seq or 0, confirmation.read_up_to_seq or 0)
        at = instant(confirmation.at)
        if standing is not None and standing.is_active:
            await self._advance_rows(confirmation, marks, standing.last_seq, at)

        async def effects(connection: Connection) -> ConfirmationResult:
            reached = standing.watermarks if standing is not None else None
            if standing is not None and confirmation.conversation_id is not None:
                moved = await self._conversations.move_watermarks(
                    connection,
                    confirmation.conversation_id,
                    confirmation.user_id,
                    # Messages that came since were not moved, so the mark stops before them.
                    Watermarks(*(min(mark, standing.last_seq) for mark in marks)),
                    at=at,
                )
                reached = moved or reached
            return await self._acknowledge(connection, confirmation, reached)

        result = await once(
            self._database,
            effects,
            ConfirmationResult,
            handler="delivery-confirmation",
            job_id=job_id,
        )
        self._committed()
        return result

    async def _standing(self, confirmation: DeliveryConfirmation) -> Standing | None:
        """How the user stands to the conversation of the watermarks, if there are any."""
        if confirmation.conversation_id is None:
            return None
        standing = await self._conversations.standing(
            confirmation.conversation_id, confirmation.user_id
        )
        if not standing.is_member:
            raise Refused(
                "not-a-member",
                f"user {confirmation.user_id} is not a member of "
                f"conversation {confirmation.conversation_id}",
            )
        return standing

    async def _advance_rows(
        self,
        confirmation: DeliveryConfirmation,
        marks: Watermarks,
        last_seq: int,
        at: datetime | None,
    ) -> None:
        """Move the delivery rows below the watermarks, a bounded number at a time."""
        for up_to, state in ((marks.read, READ), (marks.delivered, DELIVERED)):
            found = ROWS_AT_ONCE if up_to > 0 else 0
            while found == ROWS_AT_ONCE:
                row = await self._database.fetchrow(
                    receipts.ADVANCE_UP_TO,
                    confirmation.user_id,
                    confirmation.conversation_id,
                    min(up_to, last_seq),
                    state,
                    at,
                    ROWS_AT_ONCE,
                )
                assert row is not None
                found = row["found"]

    async def _acknowledge(
        self,
        connection: Connection,
        confirmation: DeliveryConfirmation,
        reached: Watermarks | None,
    ) -> ConfirmationResult:
        claims = fold(_claim(receipt) for receipt in confirmation.receipts)
        found = advanced = 0
        if claims:
            row = await connection.fetchrow(
                receipts.ACKNOWLEDGE,
                confirmation.user_id,
                [claim.message_id for claim in claims],
                [claim.rank for claim in claims],
                [claim.delivered_at for claim in claims],
                [claim.read_at for claim in claims],
            )
            assert row is not None
            found, advanced = row["found"], row["advanced"]
        return ConfirmationResult(
            advanced=advanced,
            unchanged=found - advanced,
            ignored=len(claims) - found,
            delivered_up_to_seq=reached.delivered if reached else None,
            read_up_to_seq=reached.read if reached else None,
        )


def _claim(receipt: Receipt) -> Claim:
    at = instant(receipt.at)
    return Claim(
        message_id=receipt.message_id,
        rank=rank(receipt.state),
        delivered_at=at,
        read_at=at if receipt.state == "read" else None,
    )
