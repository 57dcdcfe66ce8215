"""``delivery-confirmation``."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec

from schemas.messages.common import RECEIPTS_MAX, Instant, Seq, UnixMillis, check_instant


class Receipt(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """
    One message that reached its recipient's device, or was read there.

    Attributes:
        message_id: The message.
        state: How far it came; ``read`` implies ``delivered``.
        at: When, by the device's clock: ISO time or Unix ms. Left out, the time it is recorded.
        user_id: The recipient, where it is another than the job's ``userId``.
    """

    message_id: UUID
    state: Literal["delivered", "read"]
    at: Instant | UnixMillis | None = None
    user_id: UUID | None = None

    def __post_init__(self) -> None:
        check_instant("at", self.at)


class DeliveryConfirmation(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """
    Payload of ``delivery-confirmation``: what one recipient received and read.

    Receipts name single messages; the watermarks name all messages of one conversation up to a
    sequence number. One job may carry both, and must carry one. Order does not matter: a state
    never goes back.

    Attributes:
        user_id: The recipient who confirms; receipts may name others.
        receipts: Single messages, at most 500, of any conversations and recipients.
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
        check_instant("at", self.at)
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
