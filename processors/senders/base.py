"""
What a provider is asked, and what its answer means; the same for every channel.

A sender makes one request and reports how it went. It never sleeps, retries or decides about the
job: an :class:`Answer` says what happened in the terms of the one who asked, and
``NotificationService`` chooses. The one repetition that a sender makes by itself is after renewing
a credential.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Literal, Protocol
from uuid import UUID


class Kind(enum.Enum):
    """How one request to a provider ended."""

    SENT = "sent"
    """The provider took it."""

    TARGET_GONE = "target_gone"
    """The token, address or number is no longer one: disable or suppress it; nothing to repeat."""

    REFUSED = "refused"
    """This message fails for ever, another one to the same target may not."""

    LATER = "later"
    """The provider or the way to it is in trouble; the same request may succeed later."""

    LIMITED = "limited"
    """Too many requests: wait for ``retry_after_ms``. Spends no attempt."""

    MISCONFIGURED = "misconfigured"
    """Credentials or set-up are at fault: every request would fail, the messages are fine."""

    UNKNOWN = "unknown"
    """Nobody knows whether it was sent, and sending again would be seen or paid for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """
    How one request ended.

    Attributes:
        kind: What it means.
        code: The provider's own name for it, short and bounded, such as ``Unregistered``.
        retry_after_ms: What the provider asked for, for LATER and LIMITED; 0 where it did not say.
        scope: Whom a limit concerns: this target alone, or everything sent through the provider.
        provider_id: The provider's id of the message, where it gave one.
        gone_since_ms: Unix ms since when the target is gone, where told: a target registered
            after that is another one and stays.
    """

    kind: Kind
    code: str = ""
    retry_after_ms: int = 0
    scope: Literal["target", "provider"] = "target"
    provider_id: str = ""
    gone_since_ms: int = 0


Provider = Literal["fcm", "apns", "webpush"]
Channel = Literal["push", "email", "sms", "in_app"]


@dataclass(frozen=True, slots=True)
class PushTarget:
    """
    One device or browser.

    Attributes:
        id: Its row in ``push_targets``.
        provider: Through whom it is reached.
        kind: What ``token`` is: a registration token, an FCM installation id, or the endpoint of
            a web push subscription.
        token: The address.
        keys: For web push: ``p256dh`` and ``auth``, base64url.
        app_id: The app that it belongs to: the APNs topic, or the Firebase project.
        environment: For APNs: ``production`` or ``sandbox``.
        registered_at_ms: Unix ms of its registration.
    """

    id: UUID
    provider: Provider
    kind: Literal["token", "fid", "subscription"]
    token: str = field(repr=False)
    keys: dict[str, str] = field(default_factory=dict, repr=False)
    app_id: str = ""
    environment: Literal["production", "sandbox"] = "production"
    registered_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Push:
    """
    What one device shows, or does silently.

    Attributes:
        delivery_id: Our id of this delivery, the same over all attempts.
        title: The first line; empty for a silent push.
        body: The text below; shortened on a grapheme boundary where it does not fit.
        data: What the app is handed; strings alone.
        badge: The number on the app's icon; None leaves it.
        collapse_key: A later push with the same key takes the place of this one.
        urgent: Wake the device for it.
        silent: Show nothing: a badge or a hint to fetch.
        ttl_s: How long the provider may keep it for a device that is away; 0: not at all.
    """

    delivery_id: UUID
    title: str = field(default="", repr=False)
    body: str = field(default="", repr=False)
    data: dict[str, str] = field(default_factory=dict, repr=False)
    badge: int | None = None
    collapse_key: str = ""
    urgent: bool = True
    silent: bool = False
    ttl_s: int = 86_400


class PushSender(Protocol):
    """One push provider."""

    async def send(self, target: PushTarget, push: Push) -> Answer:
        """Ask the provider once; trouble is an answer, never an exception."""


@dataclass(frozen=True, slots=True)
class Mail:
    """
    One email.

    Attributes:
        delivery_id: Our id of this delivery, from which the Message-ID follows.
        to: The address.
        subject: One line.
        text: The plain part.
        html: The HTML part; empty for none.
        thread: What its conversation is called in References; empty for none.
        unsubscribe_url: For List-Unsubscribe and one-click; empty for mail that must be sent.
    """

    delivery_id: UUID
    to: str = field(repr=False)
    subject: str = field(repr=False)
    text: str = field(repr=False)
    html: str = field(default="", repr=False)
    thread: str = ""
    unsubscribe_url: str = field(default="", repr=False)


class EmailSender(Protocol):
    """The way out for email."""

    async def send(self, mail: Mail) -> Answer:
        """Hand one email to the server; trouble is an answer, never an exception."""


@dataclass(frozen=True, slots=True)
class Sms:
    """
    One text message.

    Attributes:
        delivery_id: Our id of this delivery.
        to: The number in E.164 form.
        text: The text, of as many segments as it needs, up to the setting.
    """

    delivery_id: UUID
    to: str = field(repr=False)
    text: str = field(repr=False)


class SmsSender(Protocol):
    """The way out for SMS."""

    async def send(self, sms: Sms) -> Answer:
        """
        Ask the provider once; trouble is an answer, never an exception.

        Where no answer came, the answer is UNKNOWN unless the provider says, when asked, that it
        has or has not the message.
        """
