"""What handlers are given."""

from __future__ import annotations

from dataclasses import dataclass

from processors.database.pool import Database
from processors.services.attachments import AttachmentStore
from processors.services.batches import BatchService
from processors.services.conversations import ConversationService
from processors.services.encryption import EncryptionService
from processors.services.governance import GovernanceService
from processors.services.job_relay import JobRelay
from processors.services.messages import EnhancedMessageService
from processors.services.notification_parts import Notifications
from processors.services.presence import PresenceService
from processors.services.relay import OutboxRelay
from processors.services.retention import RetentionService
from processors.services.searching import Searching
from processors.services.tickets import TicketService
from processors.services.websockets import WebSocketService


@dataclass(frozen=True, slots=True)
class Services:
    """
    The services of one engine process.

    Attributes:
        database: The pool, for readiness.
        conversations: Conversations and members.
        messages: Sending and receipts.
        relay: Publishes the outbox.
        presence: Who is connected, and what is in front there.
        tickets: Lets clients open sockets.
        websockets: Tells connected clients.
        job_relay: Brings the jobs of the outbox to their queues.
        batches: Messages to many recipients.
        encryption: Seals and opens contents.
        search: Indexes messages and finds them.
        attachments: Takes uploads in and hands them out.
        governance: Deletion of conversations, legal holds, retention.
        retention: Cleanup and housekeeping.
        notifications: Tells users over all channels.
    """

    database: Database
    conversations: ConversationService
    messages: EnhancedMessageService
    relay: OutboxRelay
    presence: PresenceService
    tickets: TicketService
    websockets: WebSocketService
    job_relay: JobRelay
    batches: BatchService
    encryption: EncryptionService
    search: Searching
    attachments: AttachmentStore
    governance: GovernanceService
    retention: RetentionService
    notifications: Notifications
