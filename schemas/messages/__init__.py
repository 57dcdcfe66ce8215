"""
Payloads and results of the messaging job types, one module per type, all named here.

On the wire names are camelCase. A field that a type does not know is refused, so that a misspelt
or newer field never vanishes unnoticed.
"""

from schemas.messages.common import CONTENT_BYTES_MAX, RECEIPTS_MAX
from schemas.messages.receipts import ConfirmationResult, DeliveryConfirmation, Receipt
from schemas.messages.sending import MessageKind, SendMessage, SendResult

__all__ = [
    "CONTENT_BYTES_MAX",
    "RECEIPTS_MAX",
    "ConfirmationResult",
    "DeliveryConfirmation",
    "MessageKind",
    "Receipt",
    "SendMessage",
    "SendResult",
]
