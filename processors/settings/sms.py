"""Settings of SMS."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

Millis = Annotated[int, msgspec.Meta(ge=1, le=3_600_000)]


class SmsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Settings of SMS, ``PROCESSORS_SMS_*``: of Twilio, or a provider with the same API.

    Attributes:
        account_sid: The account. Empty: no SMS is sent.
        auth_token: The account's secret; it signs the provider's requests to us, too. [secret]
        auth_token_old: One that is being replaced: requests signed with it are still taken.
            [secret]
        api_key: Key to sign in with instead of the account's secret.
        api_key_secret: Its secret. [secret]
        sender: Number, short code or name that texts come from.
        messaging_service: Id of a messaging service that chooses the sender itself.
        url: Where the API is. Default https://api.twilio.com.
        webhook_url: Public address under which the webhooks are served, such as
            https://chat.example.com. Empty: the provider reports nothing, and STOP is not heard.
        segments_max: Segments of one text, at most; each is paid for. Default 3.
        too_long: What becomes of a longer text: shorten (default) or refuse.
        countries: Countries whose numbers are written to, as two letters each, such as DE,FR.
            Empty: all.
        timeout_ms: Longest wait for an answer. Default 10 s.
        settle_ms: How long after an attempt without an answer the provider may still take it: it
            is not repeated before. Default 60 s.
        connections_max: Connections to the provider, at most. Default 20.
    """

    account_sid: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9]{0,64}$")] = ""
    auth_token: str = ""
    auth_token_old: str = ""
    api_key: str = ""
    api_key_secret: str = ""
    sender: str = ""
    messaging_service: str = ""
    url: str = "https://api.twilio.com"
    webhook_url: str = ""
    segments_max: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3
    too_long: Literal["shorten", "refuse"] = "shorten"
    countries: tuple[Annotated[str, msgspec.Meta(pattern="^[A-Z]{2}$")], ...] = ()
    timeout_ms: Millis = 10_000
    settle_ms: Millis = 60_000
    connections_max: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 20

    def __post_init__(self) -> None:
        if self.account_sid and bool(self.sender) == bool(self.messaging_service):
            raise ValueError("either sender or messaging_service must say who texts are from")
        if bool(self.api_key) != bool(self.api_key_secret):
            raise ValueError("api_key and api_key_secret go together")
        if self.account_sid and not (self.auth_token or self.api_key):
            raise ValueError("auth_token, or api_key with api_key_secret, must sign in")
        if self.webhook_url and not self.auth_token:
            raise ValueError("webhook_url needs auth_token, which signs what comes there")
        for name in ("url", "webhook_url"):
            if getattr(self, name) and not re.match(r"https?://[^/]", getattr(self, name)):
                raise ValueError(f"{name} must begin with https://")

    @property
    def tokens(self) -> tuple[str, ...]:
        """The secrets by which the provider's requests are known."""
        return tuple(filter(None, (self.auth_token, self.auth_token_old)))

    @property
    def sign_in(self) -> tuple[str, str]:
        """Name and password for the API."""
        if self.api_key:
            return self.api_key, self.api_key_secret
        return self.account_sid, self.auth_token
