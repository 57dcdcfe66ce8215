"""An SMS reaches the provider once, wherever the process dies that delivers the notification."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from engine import Snooze
from processors.database.migrations import migrate
from processors.senders.bundle import Senders
from processors.senders.sms import open_sms_sender
from processors.senders.sms_api import SmsApi
from processors.services.preferences import Wish
from processors.services.statuses import texts_of_others
from processors.settings import from_env
from tests.integration.processors.notified import NOON_MS, Notified, open_notified
from tests.peers.sms import SmsPeer
from tests.support.steps import kill_at_each_step

pytestmark = pytest.mark.servers


class DeliversOnce:
    """Ada is to get an SMS about an event."""

    async def prepare(self) -> dict[str, Any]:
        async with open_notified(os.environ["ENGINE_POSTGRES_URL"]) as notified:
            phone = f"+4917{random.SystemRandom().randrange(10**9):09}"
            _, (ada,) = await notified.people(1, phone=phone)
            await notified.parts.preferences.set(ada, Wish("*", "sms", enabled=True))
            await notified.event(ada, channels=("sms",))
            delivery = (await notified.deliveries("sms"))[-1]
            return {"phone": phone, "delivery": str(delivery)}

    async def run(self, scene: dict[str, Any]) -> None:
        async with open_notified(os.environ["ENGINE_POSTGRES_URL"]) as notified:
            sender = open_sms_sender(
                from_env(os.environ).sms,
                clock=notified.clock,
                others=texts_of_others(notified.world.database),
            )
            notified.senders = Senders(sms=sender)
            notified.build()
            await self.deliver(notified, UUID(scene["delivery"]))
            assert sender
            await sender.close()

    async def deliver(self, notified: Notified, delivery: UUID) -> None:
        """Run the job until it no longer asks to be put off, as an engine does."""
        while True:
            try:
                await notified.dispatch(delivery)
            except Snooze as wait:
                await notified.clock.advance(wait.after_ms / 1000)
            else:
                return

    async def observe(self, scene: dict[str, Any]) -> Any:
        async with open_notified(os.environ["ENGINE_POSTGRES_URL"]) as notified:
            row = await notified.row(UUID(scene["delivery"]))
        api = SmsApi(from_env(os.environ).sms)
        texts = await api.texts_to(scene["phone"], 0)
        await api.close()
        return [row["state"], [text.sid == row["provider_id"] for text in texts]]


@pytest.fixture
async def peer() -> AsyncIterator[SmsPeer]:
    """Give a provider whose time is that of the scenes."""
    async with SmsPeer(now=lambda: datetime.fromtimestamp(NOON_MS / 1000, UTC)) as peer:
        yield peer


async def test_an_sms_survives_a_kill_at_every_step(postgres_url: str, peer: SmsPeer) -> None:
    await migrate(postgres_url)
    environ = peer.environ() | {"ENGINE_POSTGRES_URL": postgres_url}

    seen = await asyncio.to_thread(kill_at_each_step, f"{__name__}:DeliversOnce", environ)

    assert seen.unkilled == ["sent", [True]]
    assert seen.differing() == {}
    assert seen.total >= 5
