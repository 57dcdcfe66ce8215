"""What handlers are given."""

from __future__ import annotations

from dataclasses import dataclass

from processors.database.pool import Database
from processors.services.conversations import ConversationService
from processors.services.messages import EnhancedMessageService
from processors.services.relay import OutboxRelay


@dataclass(frozen=True, slots=True)
class Services:
    """
    The services of one engine process.

    Attributes:
        database: The pool, for readiness.
        conversations: Conversations and members.
        messages: Sending and receipts.
        relay: Publishes the outbox.
    """

    database: Database
    conversations: ConversationService
    messages: EnhancedMessageService
    relay: OutboxRelay
