"""``notification``: one job type with several verbs, told apart by ``action``."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias
from uuid import UUID

import msgspec

from schemas.messages.common import MESSAGES_MAX

NOTIFIED_MAX = 1_000
"""Most users of one event."""

NOTIFICATION_TYPE = r"^[a-z0-9][a-z0-9._-]{0,63}$"

Channel: TypeAlias = Literal["push", "email", "sms", "in_app"]
Outward: TypeAlias = Literal["push", "email", "sms"]
"""Channels that lead out of the product, through a provider."""

NotificationType = Annotated[
    str,
    msgspec.Meta(
        pattern=NOTIFICATION_TYPE, description="What preferences go by, such as security.login."
    ),
]
DedupKey = Annotated[
    str,
    msgspec.Meta(
        min_length=1, max_length=200, description="A second event with it is the same, per user."
    ),
]
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Body = Annotated[str, msgspec.Meta(max_length=2_000)]
DataKey = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
DataText = Annotated[str, msgspec.Meta(max_length=500)]
TtlSeconds = Annotated[
    int, msgspec.Meta(ge=1, le=2_419_200, description="Given up after that; four weeks at most.")
]
AddressHash = Annotated[
    str,
    msgspec.Meta(
        pattern="^[0-9a-f]{64}$",
        description="The address as suppressions know it: 32 bytes in hex.",
    ),
]
StatusCode = Annotated[
    str, msgspec.Meta(max_length=64, description="The provider's own code, such as 5.1.1 or 30003.")
]


class NotifyMessages(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="action",
    tag="message",
):
    """
    Tell the members of their conversations of new messages.

    Attributes:
        message_ids: The messages, at most 500.
        after_user: Only members whose ids come after this one: a job that follows another says
            where that one stopped.
    """

    message_ids: Annotated[tuple[UUID, ...], msgspec.Meta(min_length=1, max_length=MESSAGES_MAX)]
    after_user: UUID | None = None


class NotifyEvent(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="action",
    tag="event",
):
    """
    Tell users of something other than a message.

    Attributes:
        type: What it is, for preferences; ``message`` and ``digest`` are the back end's own.
        user_ids: Whom, at most 1,000.
        dedup_key: The event's own id: a user hears of one key once.
        title: The first line.
        body: The text, which may be empty.
        data: What apps are handed, strings alone.
        channels: Over these at most; preferences choose among them. Left out: any.
        ttl_s: After that nobody is told any more. Left out: as the settings say.
    """

    type: NotificationType
    user_ids: Annotated[tuple[UUID, ...], msgspec.Meta(min_length=1, max_length=NOTIFIED_MAX)]
    dedup_key: DedupKey
    title: Title
    body: Body = ""
    data: Annotated[dict[DataKey, DataText], msgspec.Meta(max_length=20)] = {}
    channels: Annotated[tuple[Channel, ...], msgspec.Meta(min_length=1, max_length=4)] | None = None
    ttl_s: TtlSeconds | None = None

    def __post_init__(self) -> None:
        if self.type in {"message", "digest", "*"}:
            raise ValueError(f"type {self.type} is the back end's own")
        texts = (self.dedup_key, self.title, self.body, *self.data, *self.data.values())
        if any("\x00" in text for text in texts):
            raise ValueError("texts must not hold NUL")


class DeliverNotification(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="action",
    tag="deliver",
):
    """
    Reach one target over one channel; the back end enqueues these itself.

    Attributes:
        delivery_id: The row in ``notification_deliveries``.
    """

    delivery_id: UUID


class FlushDigest(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="action",
    tag="digest",
):
    """
    Send together what was gathered; the back end enqueues these itself.

    Attributes:
        user_id: For whom.
        channel: Over which channel.
        conversation_id: Of which conversation.
    """

    user_id: UUID
    channel: Outward
    conversation_id: UUID


class UpdateBadge(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="action",
    tag="badge",
):
    """
    Set the number on the icons of a user's apps, silently.

    Attributes:
        user_id: Whose.
    """

    user_id: UUID


class RecordStatus(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="action",
    tag="status",
):
    """
    Record what a provider tells later: by webhook, or by a bounce.

    At least one of the three names says of what: two ids of the delivery, or the address.

    Attributes:
        channel: The channel.
        state: ``failed`` concerns one message, ``bounced`` and ``complained`` the address too;
            ``stopped``: the recipient wants no more; ``started``: wants texts again, which lifts
            a suppression by ``stopped`` and no other.
        provider_id: The provider's id of the message.
        delivery_id: Our id of the delivery.
        address_hash: The hash of the address, as the table ``suppressions`` keeps it.
        code: The provider's own code.
    """

    channel: Literal["sms", "email"]
    state: Literal["delivered", "failed", "bounced", "complained", "stopped", "started"]
    provider_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    delivery_id: UUID | None = None
    address_hash: AddressHash | None = None
    code: StatusCode = ""

    def __post_init__(self) -> None:
        if self.provider_id is None and self.delivery_id is None and self.address_hash is None:
            raise ValueError("one of providerId, deliveryId and addressHash is needed")


Notification: TypeAlias = (
    NotifyMessages | NotifyEvent | DeliverNotification | FlushDigest | UpdateBadge | RecordStatus
)
"""Payload of ``notification``."""


class NotifyResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Result of ``message`` and ``event``.

    Attributes:
        notifications: Notifications that were new.
        deliveries: Ways to targets that were enqueued for them.
        digests: Notifications that were gathered to be sent together.
    """

    notifications: int = 0
    deliveries: int = 0
    digests: int = 0


class DeliveryResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Result of ``deliver``.

    Attributes:
        state: The delivery's state afterwards.
        code: Why, where it was not sent.
    """

    state: str
    code: str = ""


class DigestResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Result of ``digest``.

    Attributes:
        messages: How many notifications had been gathered; 0 where they were flushed before.
        deliveries: Ways to targets that were enqueued.
    """

    messages: int
    deliveries: int


class BadgeResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Result of ``badge``.

    Attributes:
        unread: The number.
        targets: Devices that were told.
    """

    unread: int
    targets: int


class StatusResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Result of ``status``.

    Attributes:
        advanced: The delivery's state moved; false also where no delivery was meant or known.
        suppressed: The address will not be written to any more.
    """

    advanced: bool
    suppressed: bool


NotificationResult: TypeAlias = (
    NotifyResult | DeliveryResult | DigestResult | BadgeResult | StatusResult
)
