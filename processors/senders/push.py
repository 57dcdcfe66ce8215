"""Opens the push providers that are set up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from engine import Clock
from processors.errors import ConfigurationError
from processors.rules.surge import Surge
from processors.senders.base import Provider, PushSender
from processors.settings.push import PushSettings

CONNECTIONS_MAX = 100


@asynccontextmanager
async def open_push_senders(
    settings: PushSettings, *, clock: Clock
) -> AsyncIterator[Mapping[Provider, PushSender]]:
    """
    Open a sender for each provider that has its key; connections are made when they are needed.

    Args:
        settings: Keys and addresses.
        clock: The time.

    Raises:
        ConfigurationError: A key cannot be used; nothing is sent before it can.
    """
    async with AsyncExitStack() as stack:
        senders: dict[Provider, PushSender] = {}
        if settings.fcm_service_account:
            senders["fcm"] = await _open_fcm(stack, settings, clock)
        if settings.apns_key:
            senders["apns"] = _open_apns(stack, settings, clock)
        if settings.webpush_vapid_key:
            senders["webpush"] = await _open_web_push(stack, settings, clock)
        yield senders


async def _open_fcm(stack: AsyncExitStack, settings: PushSettings, clock: Clock) -> PushSender:
    from processors.senders.fcm import FcmSender
    from processors.senders.google import AccessTokens, read_account

    account = read_account(settings.fcm_service_account)
    session = await stack.enter_async_context(
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX))
    )
    tokens = AccessTokens(session, account, timeout_ms=settings.fcm_timeout_ms, clock=clock)
    return FcmSender(
        session,
        account,
        tokens,
        url=settings.fcm_url,
        timeout_ms=settings.fcm_timeout_ms,
        surge=Surge(settings.surge_targets),
        clock=clock,
    )


def _open_apns(stack: AsyncExitStack, settings: PushSettings, clock: Clock) -> PushSender:
    try:
        from processors.senders.apns import ApnsSender
    except ImportError as error:
        raise ConfigurationError(
            "push to Apple's devices needs packages that are not installed: "
            "pip install 'streamlane[push]'"
        ) from error
    sender = ApnsSender(settings, clock)
    stack.push_async_callback(sender.close)
    return sender


async def _open_web_push(stack: AsyncExitStack, settings: PushSettings, clock: Clock) -> PushSender:
    from processors.senders.web_push import PublicResolver, WebPushSender
    from processors.senders.web_push_crypto import Vapid, read_vapid_key

    vapid = Vapid(read_vapid_key(settings.webpush_vapid_key), settings.webpush_subject, clock)
    connector = aiohttp.TCPConnector(
        limit=CONNECTIONS_MAX,
        resolver=PublicResolver(allow_loopback=settings.webpush_allow_loopback),
    )
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
    return WebPushSender(session, vapid, settings, clock=clock)
