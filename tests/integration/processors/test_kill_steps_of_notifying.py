"""Notifications that are killed anywhere and run again leave what one run leaves."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from engine import Retry, Snooze
from processors.database.migrations import migrate
from processors.rules.answers import Answer, Kind
from processors.senders.base import Push, PushTarget, Sms
from processors.senders.bundle import Senders
from processors.services.preferences import Wish
from schemas.messages import FlushDigest, RecordStatus
from tests.integration.processors.notified import SENT, Notified, open_notified
from tests.integration.processors.world import World
from tests.support.steps import kill_at_each_step, step

pytestmark = pytest.mark.servers

LOG = "CREATE TABLE IF NOT EXISTS provider_log (delivery_id uuid NOT NULL)"
TOOK = "INSERT INTO provider_log VALUES ($1)"

FLUSHES = """
SELECT count(*) FROM outbox
WHERE payload->'data'->>'conversationId' = $1::uuid::text AND payload->'data'->>'action' = 'digest'
"""
LIVE = """
SELECT count(*) FROM outbox
WHERE payload->>'conversationId' = $1::uuid::text AND payload->>'type' = 'notification.created'
"""
DIGESTED = """
SELECT sum((payload->>'n')::integer) FROM notifications WHERE user_id = $1 AND type = 'digest'
"""
DELIVERED = """
SELECT count(*) FROM outbox o JOIN notification_deliveries d
  ON o.payload->>'id' = 'deliver-' || d.id WHERE d.user_id = $1
"""


class FoldingPushes:
    """Takes pushes into a log, as a provider in another process does."""

    def __init__(self, world: World, answer: Answer) -> None:
        self._world = world
        self._answer = answer

    async def send(self, target: PushTarget, push: Push) -> Answer:
        step()
        await self._world.database.execute(TOOK, push.delivery_id)
        step()
        return self._answer


class AskedTexts:
    """Takes SMS into a log, which it looks into where an earlier try may have reached it."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def send(self, sms: Sms) -> Answer:
        step()
        known = await self._world.values(
            "SELECT 1 FROM provider_log WHERE delivery_id = $1", sms.delivery_id
        )
        if not (sms.tried_from_ms and known):
            step()
            await self._world.database.execute(TOOK, sms.delivery_id)
        step()
        return SENT


@asynccontextmanager
async def opened(answer: Answer = SENT) -> AsyncIterator[Notified]:
    async with open_notified(os.environ["ENGINE_POSTGRES_URL"]) as notified:
        world = notified.world
        notified.senders = Senders({"fcm": FoldingPushes(world, answer)}, None, AskedTexts(world))
        notified.build()
        yield notified


async def until_done(notified: Notified, delivery: UUID) -> None:
    """Run a delivery's job until it ends, waiting as an engine does."""
    for _ in range(10):
        try:
            await notified.dispatch(delivery)
        except (Snooze, Retry) as signal:
            await notified.clock.advance((signal.after_ms or 1_000) / 1_000)
        else:
            return
    raise AssertionError("the delivery does not come to its end")


class Tells:
    """Members are told of two messages: one by push, another one by a digest."""

    async def prepare(self) -> dict[str, Any]:
        async with opened() as notified:
            conversation, (ada, bob, cleo) = await notified.people(3)
            await notified.device(bob)
            await notified.world.database.execute(
                "UPDATE users SET email = 'c@example.org' WHERE id = $1", cleo
            )
            messages = [await notified.message(conversation, ada) for _ in range(2)]
            return {"conversation": str(conversation), "messages": [str(each) for each in messages]}

    async def run(self, scene: dict[str, Any]) -> None:
        async with opened() as notified:
            await notified.tell(*map(UUID, scene["messages"]))

    async def observe(self, scene: dict[str, Any]) -> Any:
        here = "WHERE conversation_id = $1"
        deliveries = (
            "SELECT count(*) FROM notification_deliveries d"
            " JOIN notifications n ON n.id = d.notification_id " + here
        )
        jobs = (
            "SELECT count(*) FROM outbox o JOIN notification_deliveries d"
            " ON o.payload->>'id' = 'deliver-' || d.id"
            " JOIN notifications n ON n.id = d.notification_id " + here
        )
        async with opened() as notified:
            return [
                await notified.world.value(statement, UUID(scene["conversation"]))
                for statement in (
                    f"SELECT count(*) FROM notifications {here}",
                    deliveries,
                    jobs,
                    f"SELECT sum(n) FROM notification_digests {here}",
                    FLUSHES,
                    LIVE,
                )
            ]


class Pushes:
    """A push goes out."""

    answer = SENT

    async def prepare(self) -> dict[str, Any]:
        async with opened() as notified:
            await notified.world.database.execute(LOG)
            _, (ada,) = await notified.people(1)
            token = await notified.device(ada)
            await notified.event(ada, channels=("push",))
            delivery = await notified.world.value(
                "SELECT id FROM notification_deliveries WHERE user_id = $1", ada
            )
            return {"delivery": str(delivery), "token": token}

    async def run(self, scene: dict[str, Any]) -> None:
        async with opened(self.answer) as notified:
            await until_done(notified, UUID(scene["delivery"]))

    async def observe(self, scene: dict[str, Any]) -> Any:
        delivery = UUID(scene["delivery"])
        async with opened() as notified:
            row = await notified.row(delivery)
            ids = await notified.world.values("SELECT DISTINCT delivery_id FROM provider_log")
            target = "SELECT reason FROM push_targets WHERE token = $1"
            return [
                row["state"],
                row["error_code"],
                ids.count(delivery),
                await notified.world.value(target, scene["token"]),
            ]


class LosesItsTarget(Pushes):
    """A push goes to a device that is gone."""

    answer = Answer(Kind.TARGET_GONE, "UNREGISTERED")


class Texts:
    """An SMS goes out."""

    async def prepare(self) -> dict[str, Any]:
        async with opened() as notified:
            await notified.world.database.execute(LOG)
            _, (ada,) = await notified.people(1, phone="+491701")
            await notified.parts.preferences.set(ada, Wish("*", "sms", enabled=True))
            await notified.event(ada, channels=("sms",))
            delivery = await notified.world.value(
                "SELECT id FROM notification_deliveries WHERE user_id = $1", ada
            )
            return {"delivery": str(delivery)}

    async def run(self, scene: dict[str, Any]) -> None:
        async with opened() as notified:
            await until_done(notified, UUID(scene["delivery"]))

    async def observe(self, scene: dict[str, Any]) -> Any:
        delivery = UUID(scene["delivery"])
        async with opened() as notified:
            sent = await notified.world.values(
                "SELECT 1 FROM provider_log WHERE delivery_id = $1", delivery
            )
            return [(await notified.row(delivery))["state"], len(sent)]


class Flushes:
    """A digest of two messages is flushed."""

    async def prepare(self) -> dict[str, Any]:
        async with opened() as notified:
            conversation, (ada, bob) = await notified.people(2, email="x@example.org")
            for _ in range(2):
                await notified.tell(await notified.message(conversation, ada))
            return {"conversation": str(conversation), "bob": str(bob)}

    async def run(self, scene: dict[str, Any]) -> None:
        async with opened() as notified:
            await notified.clock.advance(900)
            await notified.parts.digests.flush(
                FlushDigest(
                    user_id=UUID(scene["bob"]),
                    channel="email",
                    conversation_id=UUID(scene["conversation"]),
                )
            )

    async def observe(self, scene: dict[str, Any]) -> Any:
        async with opened() as notified:
            bob = UUID(scene["bob"])
            return [
                await notified.world.value(statement, bob)
                for statement in (
                    "SELECT count(*) FROM notification_digests WHERE user_id = $1",
                    "SELECT count(*) FROM notification_deliveries WHERE user_id = $1",
                    DIGESTED,
                    DELIVERED,
                )
            ]


class Bounces(Texts):
    """A provider reports that a number does not exist."""

    async def run(self, scene: dict[str, Any]) -> None:
        async with opened() as notified:
            report = RecordStatus(
                channel="sms",
                state="bounced",
                delivery_id=UUID(scene["delivery"]),
                address_hash=UUID(scene["delivery"]).hex * 2,
            )
            await notified.parts.statuses.record(report, attempt=1)

    async def observe(self, scene: dict[str, Any]) -> Any:
        delivery = UUID(scene["delivery"])
        async with opened() as notified:
            suppressed = await notified.world.values(
                "SELECT reason FROM suppressions WHERE address_hash = $1", delivery.bytes * 2
            )
            return [(await notified.row(delivery))["state"], suppressed]


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("Tells", [4, 2, 2, 2, 1, 2]),
        ("Pushes", ["sent", None, 1, None]),
        ("LosesItsTarget", ["failed", "UNREGISTERED", 1, "UNREGISTERED"]),
        ("Texts", ["sent", 1]),
        ("Flushes", [0, 1, 2, 1]),
        ("Bounces", ["failed", ["bounce"]]),
    ],
)
async def test_a_kill_at_any_step_changes_nothing(
    postgres_url: str, scenario: str, expected: Any
) -> None:
    await migrate(postgres_url)

    steps = kill_at_each_step(f"{__name__}:{scenario}", {"ENGINE_POSTGRES_URL": postgres_url})

    assert steps.unkilled == expected
    assert steps.differing() == {}
    assert steps.total >= 1
