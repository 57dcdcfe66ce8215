"""From an event to what arrives: over all channels, and through an engine's limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from engine import App, Clock, Registry, Retry, Snooze, SystemClock
from engine.testing import EngineHarness
from processors.database.middleware import database_errors
from processors.notification import register
from processors.rules.answers import Answer, Kind
from processors.senders.bundle import Senders, open_senders
from processors.services.notification_parts import Notifications
from processors.services.preferences import Wish
from processors.services.statuses import texts_of_others
from processors.settings import from_env
from schemas.messages import BadgeResult, DeliveryResult, UpdateBadge
from tests.integration.processors.notified import Notified
from tests.peers.apns import ApnsPeer, Reply, apns_peer
from tests.peers.fcm import FcmPeer
from tests.peers.fcm import Refuse as FcmRefuse
from tests.peers.sms import SmsPeer
from tests.peers.smtp import CLOSE, SmtpPeer
from tests.peers.web_push import Refuse as WebRefuse
from tests.peers.web_push import WebPushPeer, public_keys

pytestmark = pytest.mark.servers


@asynccontextmanager
async def connected(
    notified: Notified, environ: dict[str, str], *, clock: Clock | None = None
) -> AsyncIterator[Senders]:
    """Let notifications use the senders that these settings ask for."""
    others = texts_of_others(notified.world.database)
    time = clock or notified.clock
    async with open_senders(from_env(environ), clock=time, others=others) as senders:
        notified.senders = senders
        notified.build()
        yield senders


async def mailed(notified: Notified) -> UUID:
    _, (ada,) = await notified.people(1, email="ada@example.org")
    await notified.event(ada, channels=("email",))
    return await notified.delivery("email")


async def texted(notified: Notified) -> UUID:
    _, (ada,) = await notified.people(1, phone="+14155550100")
    await notified.parts.preferences.set(ada, Wish("*", "sms", enabled=True))
    await notified.event(ada, channels=("sms",))
    return await notified.delivery("sms")


async def test_an_email_arrives_under_the_delivery_s_id(notified: Notified) -> None:
    with SmtpPeer() as peer:
        async with connected(notified, peer.environ()):
            delivery = await mailed(notified)
            result = await notified.dispatch(delivery)

    assert result == DeliveryResult(state="sent")
    (arrived,) = peer.arrived
    assert arrived.message["Subject"] == "Your invoice"
    assert delivery.hex in arrived.message["Message-ID"]
    assert arrived.message["List-Unsubscribe"] == "<https://chat.example/stop/billing.invoice>"


async def test_a_lost_reply_repeats_the_email_under_its_id(notified: Notified) -> None:
    with SmtpPeer(script={"data": CLOSE}) as peer:
        async with connected(notified, peer.environ()):
            delivery = await mailed(notified)
            with pytest.raises(Retry):
                await notified.dispatch(delivery)
            peer.script.clear()
            result = await notified.dispatch(delivery)

    assert result == DeliveryResult(state="sent")
    assert len({arrived.message["Message-ID"] for arrived in peer.arrived}) == 1


async def test_an_unknown_recipient_is_not_written_to_again(notified: Notified) -> None:
    with SmtpPeer(script={"rcpt": "550 5.1.1 unknown"}) as peer:
        async with connected(notified, peer.environ()):
            result = await notified.dispatch(await mailed(notified))

    assert result.state == "failed"
    assert await notified.world.values("SELECT reason FROM suppressions") == ["bounce"]


@dataclass
class Line:
    """An SMS provider on the clock of the notifications."""

    notified: Notified

    @asynccontextmanager
    async def open(self) -> AsyncIterator[SmsPeer]:
        def now() -> datetime:
            return datetime.fromtimestamp(self.notified.clock.now_ms() // 1000, UTC)

        async with SmsPeer(now=now) as peer:
            environ = peer.environ() | {"PROCESSORS_SMS_TIMEOUT_MS": "1000"}
            async with connected(self.notified, environ):
                yield peer


async def test_a_text_without_an_answer_is_found_and_not_sent_again(notified: Notified) -> None:
    async with Line(notified).open() as peer:
        peer.creating.append("close-after")
        delivery = await texted(notified)
        result = await notified.dispatch(delivery)

    assert result == DeliveryResult(state="sent")
    assert [text.body for text in peer.texts] == ["Your invoice: It is here."]
    row = await notified.row(delivery)
    assert row["provider_id"] == peer.texts[0].sid


async def test_a_text_that_nobody_can_find_is_sent_once_it_surely_was_not(
    notified: Notified,
) -> None:
    async with Line(notified).open() as peer:
        peer.creating.append("close-before")
        delivery = await texted(notified)
        with pytest.raises(Snooze) as signal:
            await notified.dispatch(delivery)
        await notified.clock.advance(signal.value.after_ms / 1_000)
        result = await notified.dispatch(delivery)

    assert result == DeliveryResult(state="sent")
    assert len(peer.texts) == 1


@asynccontextmanager
async def all_pushes(
    notified: Notified, directory: Path
) -> AsyncIterator[tuple[FcmPeer, ApnsPeer, WebPushPeer]]:
    """Run a peer of each push provider."""
    async with FcmPeer() as fcm, apns_peer(directory) as apns, WebPushPeer() as web:
        environ = fcm.environ() | apns.environ() | web.environ()
        # The peers judge the age of tokens by the real time.
        async with connected(notified, environ, clock=SystemClock()):
            yield fcm, apns, web


async def test_a_message_reaches_all_devices_and_reading_clears_their_badges(
    notified: Notified, tmp_path: Path
) -> None:
    async with all_pushes(notified, tmp_path) as (fcm, apns, web):
        conversation, (ada, bob) = await notified.people(2)
        android = await notified.device(bob)
        iphone = await notified.device(bob, provider="apns")
        await notified.parts.targets.register(
            bob, "webpush", web.endpoint("bob"), kind="subscription", keys=public_keys("bob")
        )
        await notified.tell(await notified.message(conversation, ada))
        await notified.clock.advance(5)
        results = [await notified.dispatch(each) for each in await notified.deliveries()]
        async with notified.world.database.transaction() as connection:
            await notified.parts.notify.cancel_read(connection, [(bob, conversation, 1)])
        badges = await notified.parts.badges.update(
            UpdateBadge(user_id=bob), job_id="badge-1", limit=notified.limits
        )

    assert results == [DeliveryResult(state="sent")] * 3
    assert badges == BadgeResult(unread=0, targets=2)
    assert [message.address for message in fcm.received] == [android, android]
    first, second = apns.accepted
    assert (first.token, second.token) == (iphone, iphone)
    assert first.payload["aps"]["alert"] == {"title": "user 0 in test", "body": "hello"}
    assert first.payload["conversationId"] == str(conversation)
    assert (first.payload["aps"]["badge"], second.payload["aps"]["badge"]) == (1, 0)
    assert "alert" not in second.payload["aps"]
    (arrived,) = web.received
    assert (arrived.content["title"], arrived.content["body"]) == ("user 0 in test", "hello")


async def test_each_provider_says_in_its_own_words_that_a_device_is_gone(
    notified: Notified, tmp_path: Path
) -> None:
    async with all_pushes(notified, tmp_path) as (fcm, apns, web):
        _, (ada,) = await notified.people(1)
        for provider in ("fcm", "apns"):
            await notified.device(ada, provider=provider)
        await notified.parts.targets.register(
            ada, "webpush", web.endpoint("ada"), kind="subscription", keys=public_keys("ada")
        )
        fcm.sending.append(FcmRefuse(404, "NOT_FOUND", "UNREGISTERED"))
        apns.answer = lambda _: Reply(410, "Unregistered")
        web.answers.append(WebRefuse(410))
        await notified.event(ada, channels=("push",))
        results = [await notified.dispatch(each) for each in await notified.deliveries()]

    assert {result.state for result in results} == {"failed"}
    rows = await notified.world.database.fetch("SELECT * FROM push_targets")
    assert {row["provider"] for row in rows if row["disabled_at"]} == {"fcm", "apns", "webpush"}


@dataclass
class HeldServices:
    """As much of the services as notifications ask for."""

    notifications: Notifications


@asynccontextmanager
async def engine_of(notified: Notified) -> AsyncIterator[EngineHarness]:
    """Run an engine for notifications on their clock, with the jobs that wait in the outbox."""
    types = Registry()
    types.around(database_errors(snooze_ms=2_000, draw=lambda: 0.5))
    register(types, notified.settings)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[HeldServices]:
        yield HeldServices(notified.parts)

    app = App(types, lifespan=lifespan)
    async with EngineHarness(app, clock=notified.clock, concurrency=2) as engine:
        for job in await notified.jobs("deliver"):
            engine.add("notification", job["data"], lane=job["lane"], id=job["id"])
        yield engine


# A manual clock beside a real database: on a busy machine its waits may be too short.
@pytest.mark.full
async def test_bad_credentials_stop_one_provider_which_goes_on_by_itself(
    notified: Notified,
) -> None:
    """Goal: what an operator is promised. Method: FCM refuses our credentials for six minutes."""
    _, users = await notified.people(6, email="x@example.org")
    for user in users:
        await notified.device(user)
    is_broken = True

    async def refuse(_: object) -> None:
        if is_broken:
            notified.fcm.answers.append(Answer(Kind.MISCONFIGURED, "THIRD_PARTY_AUTH_ERROR"))

    notified.fcm.on_ask = refuse
    await notified.event(*users, channels=("push", "email"))

    async with engine_of(notified) as engine:
        await engine.until(lambda: len(notified.mail.asked) == 6, what="the emails")
        await engine.until(lambda: len(engine.done()) == 6, what="the end of their jobs")
        asked_at_first = len(notified.fcm.asked)
        notified.clock.move(299)
        await engine.advance(0.1)
        assert len(notified.fcm.asked) == asked_at_first
        await engine.advance(2)
        await engine.until(lambda: len(notified.fcm.asked) > asked_at_first, what="another try")
        is_broken = False
        # Each try that was under way has shut the provider anew, for five minutes from then.
        for _ in range(6):
            notified.clock.move(300)
            await engine.advance(2)
        await engine.until(lambda: len(engine.done()) == 12, what="the end of all jobs")
        assert engine.dead() == {}

    assert asked_at_first <= 2
    states = await notified.world.values("SELECT DISTINCT state FROM notification_deliveries")
    assert states == ["sent"]


# A manual clock beside a real database: on a busy machine its waits may be too short.
@pytest.mark.full
async def test_a_provider_in_trouble_spends_attempts_until_the_job_is_dead(
    notified: Notified,
) -> None:
    """Goal: a delivery whose job is dead is still there for `dead retry`."""
    _, (ada,) = await notified.people(1)
    await notified.device(ada)
    notified.set(event_ttl_s=2_000_000)
    notified.fcm.answers.extend([Answer(Kind.LATER, "UNAVAILABLE")] * 20)
    await notified.event(ada, channels=("push",))
    delivery = await notified.delivery()

    async with engine_of(notified) as engine:
        for tries in range(1, 21):
            await engine.until(
                lambda tries=tries: len(notified.fcm.asked) == tries, what=f"try {tries}"
            )
            await engine.until(lambda: engine.delayed() or engine.dead(), what="its end")
            for due_ms in engine.delayed():
                notified.clock.move(max(0, due_ms - notified.clock.now_ms()) / 1_000)
                await engine.advance(0.1)
        (dead,) = engine.dead().values()

    assert dead.reason == "exhausted"
    assert len(notified.fcm.asked) == 20
    assert (await notified.row(delivery))["state"] == "pending"
    assert await notified.dispatch(delivery) == DeliveryResult(state="sent")
