"""
Web push: what browsers' push services take (RFC 8030), encrypted for the one browser.

Where a subscription leads is what a user handed in. So its host is one of a list, its address is
looked at once and is the one that is connected to, and no redirect is followed.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from cryptography.hazmat.primitives.asymmetric import ec
from yarl import URL

from engine import Clock
from processors.rules import web_push as rules
from processors.rules.answers import Answer, Kind
from processors.rules.fitting import clean, fitted
from processors.rules.surge import Surge
from processors.senders import apple
from processors.senders.base import Push, PushTarget
from processors.senders.exchange import NoReply, Reply, post
from processors.senders.web_push_crypto import TEXT_BYTES_MAX, BadKeys, Random, Vapid, encrypt
from processors.settings.push import PushSettings

SALT_BYTES: Final = 16
TTL_S_MAX: Final = 2_419_200
SHORTER: Final = 0.5
"""What is left of the bound for a push that was too large all the same."""

TOPIC = re.compile(r"[A-Za-z0-9_-]{1,32}")


class PublicResolver(AbstractResolver):
    """
    Looks names up, and gives out only addresses that may be asked.

    What it gives out is what is connected to: a name that leads elsewhere a moment later gains
    nothing.

    Args:
        allow_loopback: Whether this machine may be asked.
        inner: Looks names up; the system does if left out.
    """

    def __init__(self, *, allow_loopback: bool, inner: AbstractResolver | None = None) -> None:
        self._allow_loopback = allow_loopback
        self._inner = inner or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """
        Look a name up.

        Raises:
            OSError: There is none, or it leads nowhere that may be asked.
        """
        found = await self._inner.resolve(host, port, family)
        public = [
            each
            for each in found
            if rules.may_be_asked(each["host"], allow_loopback=self._allow_loopback)
        ]
        if not public:
            raise OSError(None, "the name leads to no public address")
        return public

    async def close(self) -> None:
        """Close what looks names up."""
        await self._inner.close()


class WebPushSender:
    """
    Sends to browsers.

    Args:
        session: For the requests; its resolver must be a :class:`PublicResolver`.
        vapid: Says who we are.
        settings: Hosts and time limit.
        clock: The time.
        random: Random bytes.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        vapid: Vapid,
        settings: PushSettings,
        *,
        clock: Clock,
        random: Random = os.urandom,
    ) -> None:
        self._session = session
        self._vapid = vapid
        self._settings = settings
        self._surge = Surge(settings.surge_targets)
        self._clock = clock
        self._random = random

    async def send(self, target: PushTarget, push: Push) -> Answer:
        """Ask the push service once; once more, with a shorter body, where it was too large."""
        fault = rules.endpoint_fault(
            target.token,
            hosts=self._settings.webpush_hosts,
            allow_loopback=self._settings.webpush_allow_loopback,
        )
        url = _url(target.token)
        if fault == rules.UNLISTED:
            # Whoever lists it later reaches it.
            return Answer(Kind.REFUSED, fault)
        if fault or url is None:
            return Answer(Kind.TARGET_GONE, fault or rules.MALFORMED)
        text = payload(push, TEXT_BYTES_MAX)
        if text is None:
            return Answer(Kind.REFUSED, "too-large")
        try:
            reply = await self._post(target, url, push, text)
            shorter = payload(push, round(len(text) * SHORTER))
            if rules.is_too_large(reply.status) and shorter is not None:
                reply = await self._post(target, url, push, shorter)
        except BadKeys:
            return Answer(Kind.TARGET_GONE, "bad-keys")
        except NoReply as error:
            # A service whose certificate is wrong is no fault of ours.
            return Answer(Kind.LATER, error.code)
        return self._judged(target, reply)

    async def _post(self, target: PushTarget, url: URL, push: Push, text: bytes) -> Reply:
        # Each message has a key and a salt of its own.
        ours = ec.generate_private_key(ec.SECP256R1())
        body = encrypt(text, target.keys, ours=ours, salt=self._random(SALT_BYTES))
        headers = {
            "Authorization": self._vapid.authorization(target.token),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(max(0, min(push.ttl_s, TTL_S_MAX))),
            "Urgency": "high" if push.urgent and not push.silent else "normal",
            "Topic": topic(push),
        }
        timeout_ms = self._settings.webpush_timeout_ms
        return await post(self._session, url, body, headers, timeout_ms=timeout_ms)

    def _judged(self, target: PushTarget, reply: Reply) -> Answer:
        """Tell a subscription made for another key from a key that is the wrong one for all."""
        now_ms = self._clock.now_ms()
        answer = rules.answer(reply.status, reply.headers, reply.body, now_ms=now_ms)
        service = urlsplit(target.token).hostname or ""
        if answer.kind is Kind.SENT:
            self._surge.accepted(service)
        elif answer.kind is Kind.MISCONFIGURED and not self._surge.refused(service, target.id):
            return Answer(Kind.TARGET_GONE, answer.code)
        return answer


def _url(endpoint: str) -> URL | None:
    """Read an endpoint for the request, as it was handed in: services sign their paths."""
    try:
        url = URL(endpoint, encoded=True)
        # What was looked at must be what is asked, whoever reads it.
        is_same = url.host == urlsplit(endpoint).hostname
    except ValueError:
        return None
    return url if is_same else None


def topic(push: Push) -> str:
    """Name what a push service folds by, so that a delivery sent twice is seen once."""
    if not push.collapse_key:
        return push.delivery_id.hex
    if TOPIC.fullmatch(push.collapse_key):
        return push.collapse_key
    return hashlib.sha256(push.collapse_key.encode("utf-8", "replace")).hexdigest()[:32]


def payload(push: Push, bytes_max: int) -> bytes | None:
    """
    Write what the service worker is handed, its text shortened to fit; None where none fits.

    Args:
        push: The push.
        bytes_max: Most bytes of the whole.
    """
    content: dict[str, Any] = {"data": apple.custom(push), "silent": push.silent}
    if push.collapse_key:
        content["tag"] = clean(push.collapse_key)
    if push.badge is not None:
        content["badge"] = push.badge

    def written(body: str) -> bytes:
        shown = {} if push.silent else {"title": clean(push.title), "body": body}
        return orjson.dumps(shown | content)

    body = fitted(clean(push.body), weigh=lambda text: len(written(text)), weight_max=bytes_max)
    return None if body is None else written(body)
