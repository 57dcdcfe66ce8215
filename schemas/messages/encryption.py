"""``encryption``: one job type with several verbs, told apart by ``action``."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias
from uuid import UUID

import msgspec

from schemas.messages.common import MESSAGES_MAX, SEQ_MAX

DECRYPTED_MAX = 20
"""Most messages that one job decrypts."""

MessageIds = Annotated[
    tuple[UUID, ...],
    msgspec.Meta(max_length=MESSAGES_MAX, description="At most 500 messages."),
]
DecryptedIds = Annotated[
    tuple[UUID, ...],
    msgspec.Meta(min_length=1, max_length=DECRYPTED_MAX, description="At most 20 messages."),
]
AfterSeq = Annotated[
    int, msgspec.Meta(ge=0, le=SEQ_MAX, description="Where the job before stopped.")
]
Actor = Annotated[
    str, msgspec.Meta(min_length=1, max_length=200, description="Who asks, for the audit log.")
]
Reason = Annotated[
    str, msgspec.Meta(min_length=1, max_length=500, description="Why, for the audit log.")
]
ReplyKey = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9+/_-]{43}=?$",
        description="An X25519 public key of 32 bytes, in base64.",
    ),
]


class Verb(
    msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag_field="action"
):
    """What all verbs have in common."""


class Encrypt(Verb, frozen=True, kw_only=True, tag="encrypt"):
    """
    Encrypt messages of encrypted conversations that are kept in plain.

    New messages of such conversations are encrypted before they are written; this is for those
    from before. Either messages are named, or a conversation, which is then walked to its end.

    Attributes:
        message_ids: The messages.
        conversation_id: The conversation.
        after_seq: Messages up to here are passed over; set by the job before.
    """

    message_ids: MessageIds = ()
    conversation_id: UUID | None = None
    after_seq: AfterSeq = 0

    def __post_init__(self) -> None:
        if bool(self.message_ids) == (self.conversation_id is not None):
            raise ValueError("one of messageIds and conversationId is needed")


class Decrypt(Verb, frozen=True, kw_only=True, tag="decrypt"):
    """
    Read messages. Every use is written to the audit log first.

    Attributes:
        message_ids: The messages.
        actor: Who asks.
        reason: Why.
        reply_key: To whom values are sealed: one of ``PROCESSORS_ENCRYPTION_REPLY_KEYS``. Left
            out, the only one there is.
        store: Write the values back into the messages instead of returning them, which
            ``PROCESSORS_ENCRYPTION_DECRYPT_STORE`` has to allow.
    """

    message_ids: DecryptedIds
    actor: Actor
    reason: Reason
    reply_key: ReplyKey | None = None
    store: bool = False

    def __post_init__(self) -> None:
        if self.store and self.reply_key is not None:
            raise ValueError("store and replyKey exclude each other")


class ReEncrypt(Verb, frozen=True, kw_only=True, tag="re-encrypt"):
    """
    Bring messages from retired data keys to the present ones.

    Attributes:
        conversation_id: The conversation; left out, every one that has retired keys in use.
        after_seq: Messages up to here are passed over; set by the job before.
        after_key: Retired keys up to here are passed over; set by the job before.
    """

    conversation_id: UUID | None = None
    after_seq: AfterSeq = 0
    after_key: UUID | None = None


class Rotate(Verb, frozen=True, kw_only=True, tag="rotate"):
    """
    Give a conversation a new data key.

    Attributes:
        conversation_id: The conversation.
        re_encrypt: Bring what older keys sealed to the new one, in jobs that follow.
        actor: Who asks.
    """

    conversation_id: UUID
    re_encrypt: bool = True
    actor: Actor = "processors"


class Rewrap(Verb, frozen=True, kw_only=True, tag="rewrap"):
    """
    Wrap all data keys with the key provider's primary key; contents stay as they are.

    Attributes:
        after_key: Data keys up to here are passed over; set by the job before.
        actor: Who asks.
    """

    after_key: UUID | None = None
    actor: Actor = "processors"


class Shred(Verb, frozen=True, kw_only=True, tag="shred"):
    """
    Destroy all keys of a deleted conversation: what it held cannot be read again, by anyone.

    Attributes:
        conversation_id: The conversation, which must be deleted, encrypted throughout and not
            under legal hold.
        actor: Who asks.
        reason: Why.
    """

    conversation_id: UUID
    actor: Actor
    reason: Reason


class TurnOn(Verb, frozen=True, kw_only=True, tag="turn-on"):
    """
    Encrypt a conversation from now on, and in jobs that follow what it holds.

    Attributes:
        conversation_id: The conversation.
        search: How it is searched then: by keyed hashes of words, or not at all.
        actor: Who asks.
    """

    conversation_id: UUID
    search: Literal["blind", "none"] = "blind"
    actor: Actor = "processors"


Encryption: TypeAlias = Encrypt | Decrypt | ReEncrypt | Rotate | Rewrap | Shred | TurnOn
"""Payload of ``encryption``."""


class EncryptResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Result of ``encrypt``.

    Attributes:
        encrypted: Messages that were plain before.
        more: Whether a further job goes on with the conversation.
    """

    encrypted: int
    more: bool


class Decrypted(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """
    One message that was read.

    Attributes:
        message_id: The message.
        version: The version of its content.
        sealed: The content for the holder of the reply key, in base64: HPKE (RFC 9180) with
            X25519, HKDF-SHA256 and AES-256-GCM, encapsulated key first, its info being
            ``streamlane decrypt v1 MESSAGE_ID VERSION``.
        value: The content as it is, where ``PROCESSORS_ENCRYPTION_DECRYPT_PLAIN`` allows it.
    """

    message_id: UUID
    version: int
    sealed: str | None = None
    value: str | None = None


class DecryptResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Result of ``decrypt``.

    Attributes:
        values: The messages that were read, in the order asked; none of those stored.
        stored: Messages that are kept in plain now.
        missing: Messages that do not exist or were deleted.
    """

    values: tuple[Decrypted, ...]
    stored: int
    missing: tuple[UUID, ...]


class ReEncryptResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Result of ``re-encrypt``.

    Attributes:
        re_encrypted: Messages that were brought to the present key.
        quarantined: Messages that did not open, and were left as they are.
        conversations: Conversations that jobs of their own were made for.
        more: Whether a further job goes on.
    """

    re_encrypted: int = 0
    quarantined: int = 0
    conversations: int = 0
    more: bool = False


class RotateResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Result of ``rotate``.

    Attributes:
        epoch: The new key's number in its conversation.
        key_id: The new key.
    """

    epoch: int
    key_id: UUID


class RewrapResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Result of ``rewrap``.

    Attributes:
        rewrapped: Data keys that another key had wrapped before.
        damaged: Data keys that did not open, and were left as they are.
        more: Whether a further job goes on.
    """

    rewrapped: int
    damaged: int
    more: bool


class ShredResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Result of ``shred``.

    Attributes:
        keys: Keys that are destroyed.
    """

    keys: int


class TurnOnResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Result of ``turn-on``.

    Attributes:
        changed: False where the conversation was encrypted already.
    """

    changed: bool


EncryptionResult: TypeAlias = (
    EncryptResult
    | DecryptResult
    | ReEncryptResult
    | RotateResult
    | RewrapResult
    | ShredResult
    | TurnOnResult
)
