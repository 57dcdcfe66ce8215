"""Each action reaches its service, and sealed words are told only where that is allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
import pytest

from engine.wire.payload import payload_decoder
from processors.notification import notification
from processors.services.protocols import Place
from schemas.messages import (
    BadgeResult,
    DeliveryResult,
    DigestResult,
    Notification,
    NotifyResult,
    StatusResult,
)
from tests.integration.processors.encrypted import service
from tests.integration.processors.notified import Notified

pytestmark = pytest.mark.servers

decode = payload_decoder(Notification)


@dataclass
class Attempt:
    """As much of a job as the handler asks for."""

    limit: Any
    id: str = "j1"
    attempt: int = 4


@dataclass
class Held:
    """As much of the services."""

    notifications: Any


async def run(notified: Notified, **fields: Any) -> Any:
    """Run a job as an engine does, from the bytes on."""
    payload = decode(msgspec.json.encode(fields))
    job: Any = Attempt(notified.limits)
    services: Any = Held(notified.parts)
    return await notification(job, payload, services)


async def test_each_action_is_done(notified: Notified) -> None:
    conversation, (ada, bob) = await notified.people(2, email="x@example.org")
    message = await notified.message(conversation, ada)

    told = await run(notified, action="message", messageIds=[str(message)])
    event = await run(
        notified, action="event", type="login", userIds=[str(bob)], dedupKey="k", title="t"
    )
    delivery = await notified.delivery()
    sent = await run(notified, action="deliver", deliveryId=str(delivery))
    await notified.clock.advance(900)
    digest = await run(
        notified, action="digest", userId=str(bob), channel="email",
        conversationId=str(conversation),
    )  # fmt: skip
    badge = await run(notified, action="badge", userId=str(bob))
    status = await run(
        notified, action="status", channel="email", deliveryId=str(delivery), state="delivered"
    )

    assert told == NotifyResult(notifications=1, deliveries=0, digests=1)
    assert event == NotifyResult(notifications=1, deliveries=1, digests=0)
    assert sent == DeliveryResult(state="sent")
    assert digest == DigestResult(messages=1, deliveries=1)
    assert badge == BadgeResult(unread=2, targets=0)
    assert status == StatusResult(advanced=True, suppressed=False)


async def sealed(notified: Notified, *, version: int) -> UUID:
    """Prepare a push of a message that was sealed as this version of it."""
    conversation, (ada, bob) = await notified.people(2)
    await notified.device(bob)
    message = await notified.message(conversation, ada)
    sealer = service(notified.world)
    envelope = await sealer.seal(Place(conversation, message, version), "Grüße".encode())
    await notified.world.database.execute(
        "UPDATE messages SET body = NULL, ciphertext = $2, key_id = $3 WHERE id = $1",
        message, envelope.ciphertext, envelope.key_id,
    )  # fmt: skip
    await notified.tell(message)
    await notified.clock.advance(5)
    return await notified.delivery()


@pytest.mark.parametrize(
    ("allowed", "version", "body"),
    [(False, 1, "New message"), (True, 1, "Grüße"), (True, 2, "New message")],
    ids=["kept", "told", "does not open"],
)
async def test_sealed_words_are_told_only_where_that_is_allowed(
    notified: Notified, allowed: bool, version: int, body: str
) -> None:
    notified.sealer = service(notified.world)
    notified.set(decrypt_previews=allowed)
    delivery = await sealed(notified, version=version)

    assert await notified.dispatch(delivery) == DeliveryResult(state="sent")

    ((_, push),) = notified.fcm.asked
    assert push.body == body


async def test_no_words_at_all_where_previews_are_off(notified: Notified) -> None:
    notified.set(previews=False)
    conversation, (ada, bob) = await notified.people(2)
    await notified.device(bob)
    await notified.tell(await notified.message(conversation, ada, content="secret"))
    await notified.clock.advance(5)

    await notified.dispatch(await notified.delivery())

    ((_, push),) = notified.fcm.asked
    assert push.body == "New message"
