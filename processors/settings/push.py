"""Settings of push notifications."""

from __future__ import annotations

from typing import Annotated

import msgspec

Millis = Annotated[int, msgspec.Meta(ge=1, le=3_600_000)]
Url = Annotated[str, msgspec.Meta(pattern=r"^https?://[^/?#\s]+$")]


class PushSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Settings of push notifications, ``PROCESSORS_PUSH_*``.

    A provider without its key is off: deliveries over it are dropped.

    Attributes:
        fcm_service_account: The JSON of the service account that may send through FCM; best read
            from its file by ``PROCESSORS_PUSH_FCM_SERVICE_ACCOUNT_FILE``. Empty: FCM is off.
            [secret]
        fcm_url: Where FCM takes messages. Default ``https://fcm.googleapis.com``.
        fcm_timeout_ms: How long one request to FCM may take. Default 10 s.
        apns_key: The signing key from Apple, the text of its ``.p8`` file. Empty: APNs is off.
            [secret]
        apns_key_id: The key's id, 10 characters.
        apns_team_id: The team's id, 10 characters.
        apns_topics: Apps that may be sent to, as topic,topic: their bundle ids. The first is that
            of targets which name none.
        apns_url: APNs for apps from the store. Default ``https://api.push.apple.com``.
        apns_sandbox_url: APNs for development builds.
            Default ``https://api.sandbox.push.apple.com``.
        apns_ca_file: PEM file of the authority to trust in place of the system's, for a peer in
            tests.
        apns_timeout_ms: How long one request to APNs may take, connecting included. Default 10 s.
        apns_ping_ms: Silence with requests open after which a PING asks whether APNs is still
            there; no answer within the same time ends the connection. Default 2 s.
        apns_token_ms: Age at which the signed token is renewed; Apple wants 20 to 60 minutes.
            Default 40 min.
        apns_streams_max: Requests open at a time per connection; Apple may allow fewer.
            Default 500.
        webpush_vapid_key: The private key by which browsers' push services know us, P-256, as PEM
            or base64url. Empty: web push is off. [secret]
        webpush_subject: Whom push services may write to, ``mailto:…`` or ``https://…``.
        webpush_hosts: Push services that may be sent to, as host,host; ``*.`` before a host means
            all below it.
        webpush_allow_loopback: Allow push services on this machine, also without TLS, for tests
            and development. Default no.
        webpush_timeout_ms: How long one request to a push service may take. Default 10 s.
        surge_targets: So many targets in a row refused for reasons that could also be the wrong
            set-up, and none accepted between, count as the wrong set-up. Default 20.
    """

    fcm_service_account: str = ""
    fcm_url: Url = "https://fcm.googleapis.com"
    fcm_timeout_ms: Millis = 10_000
    apns_key: str = ""
    apns_key_id: Annotated[str, msgspec.Meta(pattern=r"^([A-Z0-9]{10})?$")] = ""
    apns_team_id: Annotated[str, msgspec.Meta(pattern=r"^([A-Z0-9]{10})?$")] = ""
    apns_topics: tuple[Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9.-]{1,255}$")], ...] = ()
    apns_url: Url = "https://api.push.apple.com"
    apns_sandbox_url: Url = "https://api.sandbox.push.apple.com"
    apns_ca_file: str = ""
    apns_timeout_ms: Millis = 10_000
    apns_ping_ms: Millis = 2_000
    apns_token_ms: Annotated[int, msgspec.Meta(ge=1_200_000, le=3_540_000)] = 2_400_000
    apns_streams_max: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 500
    webpush_vapid_key: str = ""
    webpush_subject: Annotated[str, msgspec.Meta(pattern=r"^((mailto:|https://)\S{1,500})?$")] = ""
    webpush_hosts: tuple[
        Annotated[str, msgspec.Meta(pattern=r"^(\*\.)?[a-z0-9.-]{1,253}$")], ...
    ] = (
        "fcm.googleapis.com",
        "*.push.services.mozilla.com",
        "*.notify.windows.com",
        "*.push.apple.com",
    )
    webpush_allow_loopback: bool = False
    webpush_timeout_ms: Millis = 10_000
    surge_targets: Annotated[int, msgspec.Meta(ge=2, le=1_000)] = 20

    def __post_init__(self) -> None:
        if self.apns_key and not (self.apns_key_id and self.apns_team_id and self.apns_topics):
            raise ValueError(
                "apns_key needs apns_key_id, apns_team_id and apns_topics beside it "
                "(PROCESSORS_PUSH_APNS_KEY_ID, …_TEAM_ID, …_TOPICS)"
            )
        if self.webpush_vapid_key and not self.webpush_subject:
            raise ValueError(
                "webpush_vapid_key needs webpush_subject beside it, such as "
                "mailto:ops@example.com (PROCESSORS_PUSH_WEBPUSH_SUBJECT)"
            )
