"""
Frames between clients and the WebSocket gateway: JSON objects whose ``type`` says what they are.

What clients send is checked strictly; what they receive may gain fields, which clients ignore.
Events of conversations and users are passed on as they were published: their types have a dot in
them, such as ``message.created``, and those of the gateway's own frames have none.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec

from schemas.messages.common import MESSAGES_MAX, SEQ_MAX, Seq

PROTOCOL = 1
"""Version of the frames, told in ``hello``."""

RESUMED_MAX = 500
"""Most conversations in one ``resume``."""

SYNC_MAX = 200
"""Most messages in one answer to ``sync``."""

Position = Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX, description="Last message seen, or 0.")]
RequestId = Annotated[str, msgspec.Meta(max_length=64, description="Comes back in the answer.")]


class _Asked(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="type",
):
    """What all frames of clients may carry."""

    id: RequestId | None = None


class Auth(_Asked, frozen=True, tag="auth"):
    """
    The first frame: a ticket.

    Attributes:
        ticket: As the application's back end got it.
    """

    ticket: Annotated[str, msgspec.Meta(max_length=64)]


class Subscribe(_Asked, frozen=True, tag="subscribe"):
    """
    Follow a conversation.

    Attributes:
        conversation_id: The conversation.
        after_seq: Bring what came after this message first; left out, only what comes from now on.
    """

    conversation_id: UUID
    after_seq: Position | None = None


class Unsubscribe(_Asked, frozen=True, tag="unsubscribe"):
    """
    Follow a conversation no longer.

    Attributes:
        conversation_id: The conversation.
    """

    conversation_id: UUID


class Resume(_Asked, frozen=True, tag="resume"):
    """
    Follow several conversations from where one was, as after a lost connection.

    Attributes:
        conversations: The last message seen by conversation.
    """

    conversations: Annotated[dict[UUID, Position], msgspec.Meta(max_length=RESUMED_MAX)]


class Sync(_Asked, frozen=True, tag="sync"):
    """
    Ask for a page of messages; encrypted ones come decrypted.

    Attributes:
        conversation_id: The conversation.
        after_seq: The page begins behind this message.
        limit: Messages on it, at most.
    """

    conversation_id: UUID
    after_seq: Position = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=SYNC_MAX)] = 100


class Active(_Asked, frozen=True, tag="active"):
    """
    Say which conversation is in front of the user; push notifications of it are not needed then.

    Attributes:
        conversation_id: The conversation; null for none.
    """

    conversation_id: UUID | None


class Ack(_Asked, frozen=True, tag="ack"):
    """
    Say that messages have reached this device.

    Attributes:
        conversation_id: The conversation of ``seq``.
        seq: Everything up to here has.
        message_ids: Single messages that have.
    """

    conversation_id: UUID | None = None
    seq: Seq | None = None
    message_ids: Annotated[tuple[UUID, ...], msgspec.Meta(max_length=MESSAGES_MAX)] = ()

    def __post_init__(self) -> None:
        _check_confirmed(self.conversation_id, self.seq, self.message_ids)


class Read(_Asked, frozen=True, tag="read"):
    """
    Say that the user has read messages.

    Attributes:
        conversation_id: The conversation of ``seq``.
        seq: Everything up to here was read.
        message_ids: Single messages that were.
    """

    conversation_id: UUID | None = None
    seq: Seq | None = None
    message_ids: Annotated[tuple[UUID, ...], msgspec.Meta(max_length=MESSAGES_MAX)] = ()

    def __post_init__(self) -> None:
        _check_confirmed(self.conversation_id, self.seq, self.message_ids)


class Send(_Asked, frozen=True, tag="send"):
    """
    Send a message; answered once its job is accepted, and seen as ``message.created`` once it is
    in its conversation.

    Attributes:
        message: Payload of ``send-message`` without ``senderId``, which is the user.
    """

    message: dict[str, Any]


class Typing(_Asked, frozen=True, tag="typing"):
    """
    Tell the others that the user is typing; nothing is stored.

    Attributes:
        conversation_id: A conversation that this socket follows.
    """

    conversation_id: UUID


class Ping(_Asked, frozen=True, tag="ping"):
    """Ask for a ``pong``, where a client cannot send WebSocket pings, as in browsers."""


Frame = Auth | Subscribe | Unsubscribe | Resume | Sync | Active | Ack | Read | Send | Typing | Ping
"""Every frame of a client."""


def _check_confirmed(
    conversation_id: UUID | None, seq: int | None, message_ids: tuple[UUID, ...]
) -> None:
    if (conversation_id is None) != (seq is None):
        raise ValueError("conversationId and seq go together")
    if seq is None and not message_ids:
        raise ValueError("one of seq and messageIds is needed")


class Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """
    A message as clients get it from the database; ``message.created`` has the same fields.

    Attributes:
        conversation_id: Its conversation.
        message_id: Its id.
        seq: Its place.
        sender_id: Who wrote it.
        client_message_id: The sender's own id of it.
        kind: What clients make of the content.
        sent_at: When it was sent.
        version: Grows with every edit.
        content: The text; left out where it is deleted, or encrypted and not opened here.
        encrypted: It is kept encrypted.
        unreadable: It could not be decrypted.
        mentions: Users that it names.
        attachments: Files that belong to it.
        edited_at: When it was last edited.
        deleted: It was deleted; its place stays.
    """

    conversation_id: UUID
    message_id: UUID
    seq: int
    sender_id: UUID
    client_message_id: str
    kind: str
    sent_at: str
    version: int = 1
    content: str | None = None
    encrypted: bool = False
    unreadable: bool = False
    mentions: tuple[UUID, ...] = ()
    attachments: tuple[UUID, ...] = ()
    edited_at: str | None = None
    deleted: bool = False


class _Told(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, tag_field="type"
):
    """What all frames of the gateway may carry."""

    id: str | None = None


class Hello(_Told, frozen=True, tag="hello"):
    """
    The ticket was accepted.

    Attributes:
        protocol: Version of the frames.
        user_id: Whose socket it is.
        socket_id: Its name, for logs.
        ping_ms: How often a silent client is pinged.
        frame_bytes_max: Longest frame from a client.
        subscriptions_max: Conversations that it may follow.
        server_ms: The gateway's time, Unix ms.
    """

    protocol: int
    user_id: UUID
    socket_id: str
    ping_ms: int
    frame_bytes_max: int
    subscriptions_max: int
    server_ms: int


class Subscribed(_Told, frozen=True, tag="subscribed"):
    """
    A conversation is followed.

    Attributes:
        conversation_id: Which.
        seq: The client's position: what comes after it is brought by itself.
        last_seq: The conversation's last message.
        purged_through_seq: Messages up to here were removed by retention; they are no gap.
        joined_seq: Messages up to here are not the user's to see.
        delivered_up_to_seq: What has reached a device of the user.
        read_up_to_seq: What the user has read.
    """

    conversation_id: UUID
    seq: int
    last_seq: int
    purged_through_seq: int = 0
    joined_seq: int = 0
    delivered_up_to_seq: int = 0
    read_up_to_seq: int = 0


class Unsubscribed(_Told, frozen=True, tag="unsubscribed"):
    """
    A conversation is no longer followed.

    Attributes:
        conversation_id: Which.
        code: ``asked``, ``removed`` or ``conversation-deleted``.
    """

    conversation_id: UUID
    code: str


class Messages(_Told, frozen=True, tag="messages"):
    """
    Messages from the database, by place.

    Attributes:
        conversation_id: Theirs.
        messages: The messages.
        through_seq: Nothing up to here is missing; the client's position now.
        has_more: There are further ones behind it.
        purged_through_seq: Messages up to here were removed by retention; they are no gap.
    """

    conversation_id: UUID
    messages: list[Message]
    through_seq: int
    has_more: bool = False
    purged_through_seq: int = 0


class Resync(_Told, frozen=True, tag="resync"):
    """
    Something may have been missed.

    Attributes:
        conversation_id: The conversation whose messages are to be asked for with ``sync``; left
            out: messages are brought by themselves, what else is shown is to be loaded again.
        seq: The conversation's last message; what comes after it is brought.
    """

    conversation_id: UUID | None = None
    seq: int | None = None


class Accepted(_Told, frozen=True, tag="accepted"):
    """
    A message is on its way.

    Attributes:
        job_id: Its job.
        client_message_id: The sender's own id of it.
    """

    job_id: str
    client_message_id: str


class Pong(_Told, frozen=True, tag="pong"):
    """
    The answer to ``ping``.

    Attributes:
        server_ms: The gateway's time, Unix ms.
    """

    server_ms: int


class Reconnect(_Told, frozen=True, tag="reconnect"):
    """
    The gateway stops; the socket closes with 1012 behind this.

    Attributes:
        after_ms: How long to wait before connecting again, different for each client.
    """

    after_ms: int


class Fault(_Told, frozen=True, tag="error"):
    """
    A frame was not followed.

    Attributes:
        code: Why, a short name.
        detail: Why, for people.
        conversation_id: The conversation that it was about, if any.
    """

    code: str
    detail: str
    conversation_id: UUID | None = None


Answer = Hello | Subscribed | Unsubscribed | Messages | Resync | Accepted | Pong | Reconnect | Fault
"""Every frame of the gateway's own."""
