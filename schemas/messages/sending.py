"""``send-message``."""

from __future__ import annotations

import enum
from typing import Annotated
from uuid import UUID

import msgspec

from schemas.messages.common import CONTENT_BYTES_MAX, ClientMessageId

ATTACHMENTS_MAX = 20
MENTIONS_MAX = 100

Text = Annotated[
    str,
    msgspec.Meta(
        max_length=CONTENT_BYTES_MAX,
        description="The text, at most 16 KiB of UTF-8; may be empty beside attachments.",
        examples=["hello"],
    ),
]

DEMO_CONVERSATION = "00000000-0000-4000-8000-000000000100"
DEMO_SENDER = "00000000-0000-4000-8000-000000000001"
"""Made by ``python -m engine dev``, so that the schema's example can be tried there."""


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
        content: The text, at most 16 KiB of UTF-8. Without attachments it must have something
            to see in it.
        client_message_id: The sender's own id of 1 to 128 characters. The same id again with the
            same content returns the first result; with other content it is refused.
        kind: What clients make of the content.
        attachments: Files of the sender's, or that the sender can see, uploaded before; at most
            20, each once.
        mentions: Members whose attention is asked for, at most 100.
    """

    conversation_id: Annotated[UUID, msgspec.Meta(examples=[DEMO_CONVERSATION])]
    sender_id: Annotated[UUID, msgspec.Meta(examples=[DEMO_SENDER])]
    content: Text = ""
    client_message_id: Annotated[ClientMessageId, msgspec.Meta(examples=["demo-1"])]
    kind: MessageKind = MessageKind.TEXT
    attachments: Annotated[tuple[UUID, ...], msgspec.Meta(max_length=ATTACHMENTS_MAX)] = ()
    mentions: Annotated[tuple[UUID, ...], msgspec.Meta(max_length=MENTIONS_MAX)] = ()

    def __post_init__(self) -> None:
        if not self.content and not self.attachments:
            raise ValueError("content or attachments are needed")
        if len(set(self.attachments)) < len(self.attachments):
            raise ValueError("attachments must name each file once")


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
