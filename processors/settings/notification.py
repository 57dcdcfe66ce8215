"""Settings of notifications."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Seconds = Annotated[int, msgspec.Meta(ge=1, le=2_419_200)]
Delay = Annotated[int, msgspec.Meta(ge=0, le=60_000)]
Pause = Annotated[int, msgspec.Meta(ge=1_000, le=86_400_000)]
Rate = Annotated[float, msgspec.Meta(ge=0, le=100_000)]


class NotificationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Settings of notifications, ``PROCESSORS_NOTIFICATION_*``.

    Attributes:
        mandatory_types: Types that no preference, mute or quiet hour keeps back, and families of
            them. Default `security.*`.
        push_delay_ms: How long a push of a message waits, so that a client that is connected can
            acknowledge the message first. Default 3 s.
        push_spread_ms: Most by which that is drawn out, so that pushes of one message do not all
            leave in one moment; ten times as much in rooms of over 1,000. Default 2 s.
        push_cancelled_by: What makes a push of a message needless: `delivered` to a device, or
            only `read`. Take `read` where users leave clients connected that they do not look
            at. Default `delivered`.
        message_ttl_s: After that a message is not told of any more. Default a day.
        event_ttl_s: The same for events that do not say. Default three days.
        digest_delay_s: How long messages are gathered for a digest. Default 15 min.
        digest_quotes_max: Messages that a digest quotes, the latest ones. Default 10.
        throttle_first_s: Time between two emails, or two SMS, about one conversation after the
            first. Default 10 min.
        throttle_cap_s: It grows sixfold each time, up to this. Default a day.
        throttle_reset_s: After so long without news of the conversation it is short again.
            Default 12 h.
        claim_ms: How long a delivery is one job's before another may repeat it. More than a
            request to a provider can take. Default 2 min.
        limited_pause_ms: How long a provider is left alone that said too many and not for how
            long. Default 1 min.
        misconfigured_pause_ms: How long a provider is left alone that refused our credentials
            or set-up, before one more try. Default 5 min.
        targets_max: Devices of one user that are pushed to, the latest registered. Default 20.
        previews: Whether notifications quote messages. Default true.
        decrypt_previews: Whether they quote encrypted ones too, which shows their words to
            providers. Default false.
        preview_chars_max: Longest quotation. Default 160 characters.
        conversation_url: Where a conversation is read, with `{conversation}` for its id; linked in
            email and SMS. Default none.
        badge_delay_ms: How long after reading the badge is set, once for all that is read
            meanwhile. Default 3 s.
        fcm_rate: Pushes per second through FCM, over all engines; 0 for any number. Default
            8,000, below the 600,000 a minute that a project has.
        apns_rate: The same for APNs. Default 0.
        webpush_rate: The same for web push. Default 0.
        email_rate: Emails per second. Default 0.
        sms_rate: SMS per second. Default 0.
    """

    mandatory_types: tuple[str, ...] = ("security.*",)
    push_delay_ms: Delay = 3_000
    push_spread_ms: Delay = 2_000
    push_cancelled_by: Literal["delivered", "read"] = "delivered"
    message_ttl_s: Seconds = 86_400
    event_ttl_s: Seconds = 259_200
    digest_delay_s: Seconds = 900
    digest_quotes_max: Annotated[int, msgspec.Meta(ge=1, le=50)] = 10
    throttle_first_s: Seconds = 600
    throttle_cap_s: Seconds = 86_400
    throttle_reset_s: Seconds = 43_200
    claim_ms: Pause = 120_000
    limited_pause_ms: Pause = 60_000
    misconfigured_pause_ms: Pause = 300_000
    targets_max: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    previews: bool = True
    decrypt_previews: bool = False
    preview_chars_max: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 160
    conversation_url: str = ""
    badge_delay_ms: Delay = 3_000
    fcm_rate: Rate = 8_000
    apns_rate: Rate = 0
    webpush_rate: Rate = 0
    email_rate: Rate = 0
    sms_rate: Rate = 0

    def __post_init__(self) -> None:
        if self.throttle_first_s > self.throttle_cap_s:
            raise ValueError("throttle_first_s must be at most throttle_cap_s")
        if self.conversation_url and "{conversation}" not in self.conversation_url:
            raise ValueError("conversation_url must hold {conversation}")
