"""
Payloads and results of the messaging job types, one module per type, all named here.

On the wire names are camelCase. A field that a type does not know is refused, so that a misspelt
or newer field never vanishes unnoticed.
"""

from schemas.messages.cleanup import (
    DAYS_MAX,
    Cleanup,
    CleanupDeletedConversations,
    CleanupExpiredAttachments,
    CleanupOldMessages,
    CleanupResult,
    Housekeeping,
    PolicyCount,
    ReconcileObjects,
)
from schemas.messages.common import CONTENT_BYTES_MAX, RECEIPTS_MAX
from schemas.messages.indexing import (
    AuditIndex,
    AuditResult,
    DeleteIndexed,
    Indexing,
    IndexMessages,
    IndexResult,
    Reindex,
    ReindexResult,
    UnindexResult,
    UpdateIndexed,
)
from schemas.messages.notification import (
    NOTIFIED_MAX,
    BadgeResult,
    Channel,
    DeliverNotification,
    DeliveryResult,
    DigestResult,
    FlushDigest,
    Notification,
    NotificationResult,
    NotifyEvent,
    NotifyMessages,
    NotifyResult,
    Outward,
    RecordStatus,
    StatusResult,
    UpdateBadge,
)
from schemas.messages.receipts import ConfirmationResult, DeliveryConfirmation, Receipt
from schemas.messages.sending import MessageKind, SendMessage, SendResult

__all__ = [
    "CONTENT_BYTES_MAX",
    "DAYS_MAX",
    "NOTIFIED_MAX",
    "RECEIPTS_MAX",
    "AuditIndex",
    "AuditResult",
    "BadgeResult",
    "Channel",
    "Cleanup",
    "CleanupDeletedConversations",
    "CleanupExpiredAttachments",
    "CleanupOldMessages",
    "CleanupResult",
    "ConfirmationResult",
    "DeleteIndexed",
    "DeliverNotification",
    "DeliveryConfirmation",
    "DeliveryResult",
    "DigestResult",
    "FlushDigest",
    "Housekeeping",
    "IndexMessages",
    "IndexResult",
    "Indexing",
    "MessageKind",
    "Notification",
    "NotificationResult",
    "NotifyEvent",
    "NotifyMessages",
    "NotifyResult",
    "Outward",
    "PolicyCount",
    "Receipt",
    "ReconcileObjects",
    "RecordStatus",
    "Reindex",
    "ReindexResult",
    "SendMessage",
    "SendResult",
    "StatusResult",
    "UnindexResult",
    "UpdateBadge",
    "UpdateIndexed",
]
