"""
What a provider is asked, and what its answer means; the same for every channel.

A sender makes one request and reports how it went. It never sleeps, retries or decides about the
job: an :class:`Answer`, which tables in ``rules`` make, says what happened in the terms of the one
who asked, and ``NotificationService`` chooses. The one repetition that a sender makes by itself is
after renewing a credential.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol
from uuid import UUID

from processors.rules.answers import Answer, Kind

__all__ = [
    "Answer",
    "Channel",
    "EmailSender",
    "Kind",
    "Mail",
    "Provider",
    "Push",
    "PushSender",
    "PushTarget",
    "Sms",
    "SmsSender",
]


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
        tried_from_ms: Unix ms before which nothing was tried for this delivery; 0 where this is the
            first attempt, or all before it had a certain answer. An uncertain one may have reached
            the provider: with this it is asked, and the text is sent only where it has not.
        tried_until_ms: Unix ms of the last earlier attempt; 0 for none.
    """

    delivery_id: UUID
    to: str = field(repr=False)
    text: str = field(repr=False)
    tried_from_ms: int = 0
    tried_until_ms: int = 0


class SmsSender(Protocol):
    """The way out for SMS."""

    async def send(self, sms: Sms) -> Answer:
        """
        Ask the provider once; trouble is an answer, never an exception.

        Where no answer came, the provider is asked whether it has the message: SENT where it has.
        Else the answer is UNKNOWN; with ``retry_after_ms`` a call after that time, told of the
        earlier ones, can end it. Without ``retry_after_ms`` nothing more can be learned.
        """
