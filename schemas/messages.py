"""
Payloads and results of the messaging job types, one struct each.

On the wire names are camelCase. A field that a type does not know is refused, so that a misspelt
or newer field never vanishes unnoticed.
"""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec

CONTENT_BYTES_MAX = 16_384
"""Longest content of a message, in bytes of UTF-8."""

RECEIPTS_MAX = 500
"""Most receipts in one job."""

SEQ_MAX = 2**63 - 1
UNIX_MS_MAX = 253_402_300_799_999  # the last ms of the year 9999

Content = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=CONTENT_BYTES_MAX,
        description="The text, at most 16 KiB of UTF-8.",
    ),
]
ClientMessageId = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=128,
        description="The sender's own id; the same id again is the same message.",
    ),
]
Seq = Annotated[int, msgspec.Meta(ge=1, le=SEQ_MAX, description="Place in the conversation.")]
UnixMillis = Annotated[int, msgspec.Meta(ge=0, le=UNIX_MS_MAX, description="Unix time in ms.")]
Instant = Annotated[datetime, msgspec.Meta(tz=True, description="ISO 8601 time with its zone.")]


class MessageKind(enum.Enum):
    """What a client makes of the content; the back end treats all kinds alike."""

    TEXT = "text"
    MARKDOWN = "markdown"
    NOTICE = "notice"


class SendMessage(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """
    Payload of ``send-message``: put one message into a conversation.

    Attributes:
        conversation_id: The conversation, which must exist and be open.
        sender_id: The author, an active member of it.
        content: The text, at most 16 KiB of UTF-8, with something to see in it.
        client_message_id: The sender's own id of 1 to 128 characters. The same id again with the
            same content returns the first result; with other content it is refused.
        kind: What clients make of the content.
    """

    conversation_id: UUID
    sender_id: UUID
    content: Content
    client_message_id: ClientMessageId
    kind: MessageKind = MessageKind.TEXT


class SendResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Result of ``send-message``.

    Attributes:
        message_id: The message's id.
        seq: Its place in the conversation: 1, 2, 3 … without gaps.
        duplicate: True where this client message id had been sent before.
        recipients: How many delivery rows it has; null in a conversation so large that it keeps
            watermarks alone.
    """

    message_id: UUID
    seq: int
    duplicate: bool
    recipients: int | None


class Receipt(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """
    One message that reached its recipient's device, or was read there.

    Attributes:
        message_id: The message.
        state: How far it came; ``read`` implies ``delivered``.
        at: When, by the device's clock: ISO time or Unix ms. Left out, the time it is recorded.
    """

    message_id: UUID
    state: Literal["delivered", "read"]
    at: Instant | UnixMillis | None = None


class DeliveryConfirmation(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """
    Payload of ``delivery-confirmation``: what one recipient received and read.

    Receipts name single messages; the watermarks name all messages of one conversation up to a
    sequence number. One job may carry both, and must carry one. Order does not matter: a state
    never goes back.

    Attributes:
        user_id: The recipient who confirms.
        receipts: Single messages, at most 500, of any conversations.
        conversation_id: The conversation of the watermarks.
        delivered_up_to_seq: Everything up to here has reached a device of the user.
        read_up_to_seq: Everything up to here has been read, and so delivered.
        at: When the watermarks were reached, by the device's clock.
    """

    user_id: UUID
    receipts: Annotated[tuple[Receipt, ...], msgspec.Meta(max_length=RECEIPTS_MAX)] = ()
    conversation_id: UUID | None = None
    delivered_up_to_seq: Seq | None = None
    read_up_to_seq: Seq | None = None
    at: Instant | UnixMillis | None = None

    def __post_init__(self) -> None:
        marked = self.delivered_up_to_seq is not None or self.read_up_to_seq is not None
        if marked != (self.conversation_id is not None):
            raise ValueError("conversationId goes together with readUpToSeq or deliveredUpToSeq")
        if not marked and not self.receipts:
            raise ValueError("one of receipts, readUpToSeq and deliveredUpToSeq is needed")


class ConfirmationResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Result of ``delivery-confirmation``.

    Attributes:
        advanced: Messages among the receipts whose state moved forward.
        unchanged: Messages that were as far already.
        ignored: Messages that have no delivery row for this user: unknown, deleted, their own,
            or in a conversation that keeps watermarks alone.
        delivered_up_to_seq: The user's watermark afterwards, where the job named one.
        read_up_to_seq: Likewise.
    """

    advanced: int
    unchanged: int
    ignored: int
    delivered_up_to_seq: int | None = None
    read_up_to_seq: int | None = None
