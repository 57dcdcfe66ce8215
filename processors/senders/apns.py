"""
Apple Push Notification service, by its HTTP/2 provider API.

https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import orjson
import structlog

from engine import Clock
from processors.errors import ConfigurationError
from processors.rules import apns as rules
from processors.rules.answers import Answer, Kind
from processors.rules.fitting import clean, fitted
from processors.rules.surge import Surge
from processors.senders.base import Push, PushTarget
from processors.senders.http2 import Http2Client, Http2Error, Response, Unsent
from processors.settings.push import PushSettings

log = structlog.get_logger("processors.apns")

PAYLOAD_BYTES_MAX: Final = 4_096
COLLAPSE_BYTES_MAX: Final = 64
SHORTER: Final = 0.5
"""What is left of the bound for a push that was too large all the same."""


class TokenSigner:
    """
    The provider token: signed seldom, since Apple refuses keys whose token changes often.

    Args:
        settings: Key, ids, and the age at which the token is renewed.
        clock: Time.
    """

    RENEWED_MS_MIN: Final = 1_200_000
    """Apple takes a new token for a key once in 20 minutes."""

    def __init__(self, settings: PushSettings, clock: Clock) -> None:
        try:
            import jwt
        except ImportError as error:
            raise ConfigurationError(
                "APNs needs the extra push: pip install 'streamlane[push]'"
            ) from error
        self._encode: Callable[..., str] = jwt.encode
        self._settings = settings
        self._clock = clock
        self._token = ""
        self._signed_ms = 0
        self.token()

    def token(self, *, refused: str = "") -> str:
        """
        Return the token, signed anew when it is old.

        Args:
            refused: A token that Apple called expired: another one is signed, unless that was
                done already or this one is too young for it.

        Raises:
            ConfigurationError: The key cannot sign.
        """
        now_ms = self._clock.now_ms()
        age_ms = now_ms - self._signed_ms
        expired = bool(refused) and refused == self._token and age_ms >= self.RENEWED_MS_MIN
        if not self._token or expired or not 0 <= age_ms < self._settings.apns_token_ms:
            self._token = self._signed(now_ms)
            self._signed_ms = now_ms
        return self._token

    def _signed(self, now_ms: int) -> str:
        claims = {"iss": self._settings.apns_team_id, "iat": now_ms // 1000}
        try:
            return self._encode(
                claims,
                self._settings.apns_key,
                algorithm="ES256",
                headers={"kid": self._settings.apns_key_id},
            )
        except Exception as error:  # noqa: BLE001 - a library's word for a key that is none
            raise ConfigurationError(
                "PROCESSORS_PUSH_APNS_KEY is no signing key: give it the text of the .p8 file "
                f"from Apple ({type(error).__name__})"
            ) from None


class ApnsSender:
    """
    Sends pushes to Apple's devices.

    Args:
        settings: Keys, addresses, bounds.
        clock: Time.
    """

    def __init__(self, settings: PushSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._signer = TokenSigner(settings, clock)
        self._surge = Surge(settings.surge_targets)
        context = _trust(settings.apns_ca_file)
        self._hosts = {
            name: _Host(
                Http2Client(
                    url,
                    context=context,
                    timeout_s=settings.apns_timeout_ms / 1000,
                    streams_max=settings.apns_streams_max,
                    ping_s=settings.apns_ping_ms / 1000,
                )
            )
            for name, url in (
                ("production", settings.apns_url),
                ("sandbox", settings.apns_sandbox_url),
            )
        }

    async def close(self) -> None:
        """Hang up."""
        await asyncio.gather(*(host.client.close() for host in self._hosts.values()))

    async def send(self, target: PushTarget, push: Push) -> Answer:
        """Ask APNs once; again after a token that had run out, and shorter after a 413."""
        topic = target.app_id or self._settings.apns_topics[0]
        if topic not in self._settings.apns_topics:
            return Answer(Kind.MISCONFIGURED, "UnknownTopic", scope="provider")
        body = payload(push, PAYLOAD_BYTES_MAX)
        if body is None:
            return Answer(Kind.REFUSED, "PayloadTooLarge")
        ask = partial(self._ask, target, push, topic)
        token = self._signer.token()
        answer, status = await ask(token, body)
        if rules.is_token_expired(answer) and self._signer.token(refused=token) != token:
            answer, status = await ask(self._signer.token(), body)
        shorter = payload(push, round(len(body) * SHORTER)) if rules.is_too_large(status) else None
        if shorter is not None:
            answer, status = await ask(self._signer.token(), shorter)
        return self._judged(answer, target, topic)

    async def _ask(
        self, target: PushTarget, push: Push, topic: str, /, token: str, body: bytes
    ) -> tuple[Answer, int]:
        host = self._hosts[target.environment]
        path = f"/3/device/{quote(target.token, safe='')}"
        try:
            response = await host.request(path, self._headers(push, topic, token), body)
        except Http2Error as error:
            code = "unsent" if isinstance(error, Unsent) else "lost"
            log.info("apns_without_answer", code=code, detail=str(error)[:200])
            return Answer(Kind.LATER, code, scope="provider"), 0
        now_ms = self._clock.now_ms()
        answer = rules.answer(response.status, response.headers, response.body, now_ms=now_ms)
        return answer, response.status

    def _judged(self, answer: Answer, target: PushTarget, topic: str) -> Answer:
        """Tell one bad device from an environment or topic for which every device is bad."""
        group = f"{target.environment} {topic}"
        if answer.kind is Kind.SENT:
            self._surge.accepted(group)
        elif answer.code in rules.BAD_TARGETS and self._surge.refused(group, target.id):
            log.error("apns_refuses_all_targets", environment=target.environment, topic=topic)
            return Answer(Kind.MISCONFIGURED, answer.code, scope="provider")
        return answer

    def _headers(self, push: Push, topic: str, token: str) -> list[tuple[str, str]]:
        expires = self._clock.now_ms() // 1000 + push.ttl_s if push.ttl_s else 0
        headers = [
            ("authorization", f"bearer {token}"),
            ("apns-id", str(push.delivery_id)),
            ("apns-topic", topic),
            ("apns-push-type", "background" if push.silent else "alert"),
            # Background pushes of priority 10 are refused.
            ("apns-priority", "10" if push.urgent and not push.silent else "5"),
            ("apns-expiration", str(expires)),
        ]
        if push.collapse_key:
            headers.append(("apns-collapse-id", collapse_id(push.collapse_key)))
        return headers


class _Host:
    """One environment's host, to which one request alone goes until it has taken a token."""

    def __init__(self, client: Http2Client) -> None:
        self.client = client
        self._first = asyncio.Lock()
        self._is_proven = False

    async def request(self, path: str, headers: list[tuple[str, str]], body: bytes) -> Response:
        if self._is_proven:
            return await self._request(path, headers, body)
        async with self._first:
            return await self._request(path, headers, body)

    async def _request(self, path: str, headers: list[tuple[str, str]], body: bytes) -> Response:
        response = await self.client.request("POST", path, headers, body)
        self._is_proven = rules.is_token_proven(response.status) or (
            self._is_proven and response.status != 403
        )
        return response


def collapse_id(key: str) -> str:
    """Bring a key into APNs' bound; a longer one is told by its hash."""
    raw = key.encode("utf-8", "replace")
    if len(raw) <= COLLAPSE_BYTES_MAX and key.isascii() and key.isprintable():
        return key
    return hashlib.sha256(raw).hexdigest()[:COLLAPSE_BYTES_MAX]


def payload(push: Push, bytes_max: int) -> bytes | None:
    """
    Write a push as APNs takes it, its text shortened to fit; None where even no text fits.

    Args:
        push: The push.
        bytes_max: Most bytes of the whole.
    """

    def written(body: str) -> bytes:
        aps: dict[str, Any] = {}
        if push.silent:
            aps["content-available"] = 1
        else:
            aps["alert"] = {"title": clean(push.title), "body": body}
            aps["sound"] = "default"
        if push.badge is not None:
            aps["badge"] = push.badge
        data = {name: clean(value) for name, value in push.data.items() if name != "aps"}
        return orjson.dumps(data | {"aps": aps})

    body = fitted(clean(push.body), weigh=lambda text: len(written(text)), weight_max=bytes_max)
    return None if body is None else written(body)


def _trust(ca_file: str) -> ssl.SSLContext | None:
    if not ca_file:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"PROCESSORS_PUSH_APNS_CA_FILE: cannot read {ca_file}: {error}"
        ) from None
