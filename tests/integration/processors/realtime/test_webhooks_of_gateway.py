"""The gateway serves the webhooks, and what they bring holds for the next notification."""

from __future__ import annotations

import re
from uuid import UUID, uuid4

import aiohttp
import pytest
import redis.asyncio

from processors.rules.unsubscribe import Unsubscribe, unsubscribe_url
from processors.services.preferences import PreferenceService, Wish
from tests.integration.processors.realtime.rig import Rig, RunningGateway
from tests.peers.sms import SmsPeer

pytestmark = pytest.mark.servers

KEY = "a-key-of-enough-length"
EMAIL = {
    "EMAIL_UNSUBSCRIBE_URL": "https://chat.example",
    "EMAIL_UNSUBSCRIBE_KEYS": KEY,
}


def link(gateway: RunningGateway, user: UUID, kind: str = "message") -> str:
    return unsubscribe_url(gateway.http, Unsubscribe(user, kind, "email"), [KEY])


async def post(url: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data={"List-Unsubscribe": "One-Click"}) as response,
    ):
        return response.status


async def test_one_click_switches_a_type_off_everywhere(rig: Rig) -> None:
    """Goal: what was said of single conversations does not bring the emails back."""
    gateway, ada = await rig.gateway(**EMAIL), await rig.world.user()
    preferences = PreferenceService(rig.world.database)
    one, other, silent = uuid4(), uuid4(), uuid4()
    await preferences.set(ada, Wish("message", "email", enabled=True, conversation_id=one))
    await preferences.set(ada, Wish("*", "*", enabled=True, conversation_id=other))
    await preferences.set(ada, Wish("*", "push", enabled=True, conversation_id=silent))

    assert await post(link(gateway, ada)) == 200
    assert await post(link(gateway, ada)) == 200

    off = Wish("message", "email", enabled=False)
    told = await preferences.of(ada)
    assert {each for each in told if each.channel == "email"} == {
        off,
        off._replace(conversation_id=one),
        off._replace(conversation_id=other),
    }
    assert {each.channel for each in told if each.enabled} == {"*", "push"}


async def test_unsubscribing_from_everything_leaves_no_type(rig: Rig) -> None:
    gateway, ada = await rig.gateway(**EMAIL), await rig.world.user()
    preferences = PreferenceService(rig.world.database)
    await preferences.set(ada, Wish("billing.invoice", "email", enabled=True))
    await preferences.set(ada, Wish("billing.invoice", "push", enabled=True))

    assert await post(link(gateway, ada, "*")) == 200

    enabled = [each for each in await preferences.of(ada) if each.enabled]
    assert enabled == [Wish("billing.invoice", "push", enabled=True)]


async def test_a_user_who_is_no_more_is_told_so(rig: Rig) -> None:
    gateway = await rig.gateway(**EMAIL)

    assert await post(link(gateway, uuid4())) == 404


async def test_the_page_keeps_its_own_policy(rig: Rig) -> None:
    gateway = await rig.gateway(**EMAIL)
    async with (
        aiohttp.ClientSession() as session,
        session.get(link(gateway, uuid4())) as response,
        session.get(f"{gateway.http}/live") as probe,
    ):
        assert "form-action 'self'" in response.headers["Content-Security-Policy"]
        assert probe.headers["Content-Security-Policy"].startswith("default-src 'none'; frame")
        assert response.headers["Server"] == "streamlane"


async def test_stop_becomes_a_job(rig: Rig) -> None:
    async with SmsPeer() as peer:
        environ = {
            name.removeprefix("PROCESSORS_"): value for name, value in peer.environ().items()
        }
        gateway = await rig.gateway(**environ, SMS_WEBHOOK_URL="https://chat.example")
        public = "https://chat.example/webhooks/sms/inbound"
        status = await peer.call(
            public.replace("https://chat.example", gateway.http),
            {"MessageSid": "SM1", "From": "+14155550100", "Body": "STOP"},
            signed_url=public,
        )

    assert status == 200
    async with redis.asyncio.Redis.from_url(rig.redis_url) as client:
        ((_, job),) = await client.xrange("mq:{notification}:normal")
    assert re.search(rb'"state": ?"stopped"', job[b"data"])


async def test_without_settings_there_are_no_webhooks(rig: Rig) -> None:
    gateway = await rig.gateway()

    assert await post(link(gateway, uuid4())) == 404
    assert await post(f"{gateway.http}/webhooks/sms/inbound") == 404
