"""
Apple Push Notification service, by its HTTP/2 provider API.

https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import Final
from urllib.parse import quote

import orjson
import structlog

from engine import Clock
from processors.errors import ConfigurationError
from processors.rules import apns as rules
from processors.rules.answers import Answer, Kind
from processors.rules.fitting import clean, fitted
from processors.rules.surge import Surge
from processors.senders import apple
from processors.senders.base import Push, PushTarget
from processors.senders.http2 import Http2Client, Http2Error, Response, Unsent
from processors.settings.push import PushSettings

log = structlog.get_logger("processors.apns")

PAYLOAD_BYTES_MAX: Final = 4_096
TOPICS: Final = "topics"
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
                ),
                timeout_s=settings.apns_timeout_ms / 1000,
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
            # One target names its app wrongly; where all do, an app lacks in the settings.
            if self._surge.refused(TOPICS, target.id):
                return Answer(Kind.MISCONFIGURED, "UnknownTopic", scope="provider")
            return Answer(Kind.REFUSED, "UnknownTopic")
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
            self._surge.accepted(TOPICS)
        elif answer.code in rules.BAD_TARGETS and self._surge.refused(group, target.id):
            log.error("apns_refuses_all_targets", environment=target.environment, topic=topic)
            return Answer(Kind.MISCONFIGURED, answer.code, scope="provider")
        return answer

    def _headers(self, push: Push, topic: str, token: str) -> list[tuple[str, str]]:
        return [
            ("authorization", f"bearer {token}"),
            ("apns-id", str(push.delivery_id)),
            ("apns-topic", topic),
            *apple.headers(push, now_ms=self._clock.now_ms()),
        ]


class _Host:
    """
    One environment's host, to which one request alone goes until it has taken a token.

    Args:
        client: Speaks to it.
        timeout_s: How long a request may take, the wait for that one included.
    """

    def __init__(self, client: Http2Client, *, timeout_s: float) -> None:
        self.client = client
        self._timeout_s = timeout_s
        self._first = asyncio.Lock()
        self._is_proven = False

    async def request(self, path: str, headers: list[tuple[str, str]], body: bytes) -> Response:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._first.acquire()
        except TimeoutError:
            raise Unsent("no token was accepted meanwhile") from None
        if self._is_proven:
            # Whoever waited goes on together.
            self._first.release()
            return await self._request(path, headers, body)
        try:
            return await self._request(path, headers, body)
        finally:
            self._first.release()

    async def _request(self, path: str, headers: list[tuple[str, str]], body: bytes) -> Response:
        response = await self.client.request("POST", path, headers, body)
        self._is_proven = rules.is_token_proven(response.status) or (
            self._is_proven and response.status != 403
        )
        return response


def payload(push: Push, bytes_max: int) -> bytes | None:
    """
    Write a push as APNs takes it, its text shortened to fit; None where even no text fits.

    Args:
        push: The push.
        bytes_max: Most bytes of the whole.
    """

    def written(body: str) -> bytes:
        aps = apple.signs(push)
        if not push.silent:
            aps |= {"alert": {"title": clean(push.title), "body": body}, "sound": "default"}
        return orjson.dumps(apple.custom(push) | {"aps": aps})

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
