"""One delivery: decided when it is due, claimed, sent and recorded, whatever the answer."""

from __future__ import annotations

import asyncio
from datetime import time, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from engine import Retry, Snooze
from engine.errors import Limited
from processors.rules.addresses import address_hash
from processors.rules.answers import Answer, Kind
from processors.rules.quiet_hours import EVERY_DAY, Window
from processors.senders.bundle import Senders
from processors.services.preferences import Wish
from schemas.messages import DeliveryConfirmation, DeliveryResult
from tests.integration.processors.notified import Notified

pytestmark = pytest.mark.servers


async def pushed(notified: Notified) -> tuple[UUID, UUID, UUID]:
    """Prepare a push of a message that is due: conversation, reader and delivery."""
    conversation, (ada, bob) = await notified.people(2)
    await notified.device(bob)
    await notified.tell(await notified.message(conversation, ada))
    await notified.clock.advance(5)
    return conversation, bob, await notified.delivery("push")


async def texted(notified: Notified) -> UUID:
    """Prepare an SMS of an event."""
    _, (ada,) = await notified.people(1, phone="+491701234567")
    await notified.parts.preferences.set(ada, Wish("*", "sms", enabled=True))
    await notified.event(ada, channels=("sms",))
    return await notified.delivery("sms")


async def mailed(notified: Notified) -> UUID:
    """Prepare an email of an event."""
    _, (ada,) = await notified.people(1, email="ada@example.org", locale="de")
    await notified.event(ada, channels=("email",))
    return await notified.delivery("email")


async def state(notified: Notified, delivery: UUID) -> tuple[str, str | None]:
    row = await notified.row(delivery)
    return row["state"], row["error_code"]


async def test_a_push_says_who_wrote_what_and_where(notified: Notified) -> None:
    conversation, _, delivery = await pushed(notified)

    assert await notified.dispatch(delivery) == DeliveryResult(state="sent")

    ((token, push),) = notified.fcm.asked
    assert token == await notified.world.value("SELECT token FROM push_targets")
    assert (push.title, push.body) == ("user 0 in test", "hello")
    assert push.delivery_id == delivery
    assert (push.badge, push.silent) == (1, False)
    assert 0 < push.ttl_s <= 86_400
    assert push.data["conversationId"] == str(conversation)
    assert (push.data["type"], push.data["seq"]) == ("message", "1")
    row = await notified.row(delivery)
    assert (row["state"], row["provider_id"], row["attempts"]) == ("sent", "p-1", 1)
    assert row["lease_until"] is None


async def test_delivered_twice_has_the_effect_once(notified: Notified) -> None:
    *_, delivery = await pushed(notified)

    results = [await notified.dispatch(delivery), await notified.dispatch(delivery)]

    assert results == [DeliveryResult(state="sent")] * 2
    assert len(notified.fcm.asked) == 1


async def test_of_jobs_that_run_together_one_sends(notified: Notified) -> None:
    *_, delivery = await pushed(notified)

    ends = await asyncio.gather(
        *(notified.dispatch(delivery) for _ in range(4)), return_exceptions=True
    )

    assert len(notified.fcm.asked) == 1
    sent = [end for end in ends if end == DeliveryResult(state="sent")]
    assert sent
    assert all(isinstance(end, Snooze) for end in ends if end not in sent)
    assert await notified.dispatch(delivery) == DeliveryResult(state="sent")


async def test_it_waits_for_its_time(notified: Notified) -> None:
    conversation, (ada, bob) = await notified.people(2)
    await notified.device(bob)
    await notified.tell(await notified.message(conversation, ada))

    with pytest.raises(Snooze) as signal:
        await notified.dispatch(await notified.delivery())

    assert signal.value.after_ms == 4_000
    assert notified.fcm.asked == []


@pytest.mark.parametrize("how", ["read", "delivered"])
async def test_an_acknowledgement_makes_a_push_needless(notified: Notified, how: str) -> None:
    conversation, bob, delivery = await pushed(notified)
    marks: dict[str, Any] = {f"{how}_up_to_seq": 1}
    confirmation = DeliveryConfirmation(user_id=bob, conversation_id=conversation, **marks)
    await notified.world.messages.apply_receipts(confirmation, job_id="r")

    result = await notified.dispatch(delivery)

    assert result.state in ("cancelled", "dropped")
    assert notified.fcm.asked == []


async def test_only_reading_counts_where_the_operator_says_so(notified: Notified) -> None:
    notified.set(push_cancelled_by="read")
    conversation, bob, delivery = await pushed(notified)
    confirmation = DeliveryConfirmation(
        user_id=bob, conversation_id=conversation, delivered_up_to_seq=1
    )
    await notified.world.messages.apply_receipts(confirmation, job_id="r")

    assert await notified.dispatch(delivery) == DeliveryResult(state="sent")


async def test_reading_cancels_what_waits_and_sets_the_badge_once(notified: Notified) -> None:
    conversation, bob, delivery = await pushed(notified)
    reads = [(bob, conversation, 1)]
    for _ in range(2):
        async with notified.world.database.transaction() as connection:
            await notified.parts.notify.cancel_read(connection, reads)

    assert await state(notified, delivery) == ("cancelled", "already-read")
    assert await notified.parts.notify.unread(bob) == 0
    (badge,) = await notified.jobs("badge")
    assert badge["data"]["userId"] == str(bob)
    assert await notified.dispatch(delivery) == DeliveryResult(
        state="cancelled", code="already-read"
    )


async def test_reading_just_before_the_claim_still_counts(notified: Notified) -> None:
    conversation, bob, delivery = await pushed(notified)

    async def read(name: str, *, retry_after_ms: int = 0) -> None:
        async with notified.world.database.transaction() as connection:
            await notified.parts.notify.cancel_read(connection, [(bob, conversation, 1)])

    result = await notified.parts.dispatcher.dispatch(delivery, limit=read)

    assert result == DeliveryResult(state="cancelled", code="already-read")
    assert notified.fcm.asked == []


async def test_what_is_being_sent_is_not_cancelled(notified: Notified) -> None:
    conversation, bob, delivery = await pushed(notified)

    async def read(_: Any) -> None:
        async with notified.world.database.transaction() as connection:
            await notified.parts.notify.cancel_read(connection, [(bob, conversation, 1)])

    notified.fcm.on_ask = read

    assert await notified.dispatch(delivery) == DeliveryResult(state="sent")


async def test_who_looks_at_the_conversation_needs_no_push(notified: Notified) -> None:
    _, bob, delivery = await pushed(notified)
    notified.presence.active.add(bob)

    assert await notified.dispatch(delivery) == DeliveryResult(state="dropped", code="active")


async def change(notified: Notified, statement: str, *arguments: Any) -> None:
    await notified.world.database.execute(statement, *arguments)


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE conversation_members SET muted_until = '2026-06-02'", "muted"),
        ("UPDATE conversation_members SET notify_level = 'mentions'", "not-mentioned"),
        ("UPDATE conversation_members SET left_at = now()", "not-a-member"),
        ("UPDATE messages SET deleted_at = now(), body = NULL", "message-deleted"),
        ("UPDATE conversations SET deleted_at = now()", "conversation-deleted"),
        ("UPDATE push_targets SET disabled_at = now()", "target-gone"),
        ("UPDATE users SET disabled_at = now()", "user-disabled"),
        ("UPDATE notifications SET expires_at = created_at", "expired"),
        ("UPDATE notifications SET read_at = created_at", "already-read"),
        ("UPDATE message_deliveries SET state = 30", "already-read"),
        ("UPDATE message_deliveries SET state = 20", "already-delivered"),
    ],
)
async def test_what_holds_when_it_is_sent_counts(
    notified: Notified, statement: str, code: str
) -> None:
    """Goal: a delivery is decided on when it is due, whatever held when it was enqueued."""
    *_, delivery = await pushed(notified)
    await change(notified, statement)

    assert await notified.dispatch(delivery) == DeliveryResult(state="dropped", code=code)
    assert await state(notified, delivery) == ("dropped", code)
    assert notified.fcm.asked == []


async def test_a_preference_that_came_meanwhile_counts(notified: Notified) -> None:
    _, bob, delivery = await pushed(notified)
    await notified.parts.preferences.set(bob, Wish("message", "push", enabled=False))

    assert await notified.dispatch(delivery) == DeliveryResult(state="dropped", code="preference")


async def test_a_device_that_is_another_user_s_now_is_left_alone(notified: Notified) -> None:
    *_, delivery = await pushed(notified)
    _, (cleo,) = await notified.people(1)
    token = await notified.world.value("SELECT token FROM push_targets")
    await notified.parts.targets.register(cleo, "fcm", token)

    assert await notified.dispatch(delivery) == DeliveryResult(state="dropped", code="target-gone")


@pytest.mark.parametrize(("prepare", "channel"), [(pushed, "fcm"), (mailed, "email")])
async def test_a_channel_that_is_not_set_up_drops_its_deliveries(
    notified: Notified, prepare: Any, channel: str
) -> None:
    notified.senders = Senders()
    notified.build()
    found = await prepare(notified)
    delivery = found[-1] if isinstance(found, tuple) else found

    assert await notified.dispatch(delivery) == DeliveryResult(state="dropped", code="channel-off")


async def test_quiet_hours_put_it_off_and_ask_again(notified: Notified) -> None:
    _, bob, delivery = await pushed(notified)
    window = Window(time(11), time(14), EVERY_DAY, "UTC")
    await notified.parts.preferences.set_quiet_hours(bob, [window])

    with pytest.raises(Snooze) as signal:
        await notified.dispatch(delivery)

    assert signal.value.after_ms == (2 * 3_600 - 5) * 1_000
    row = await notified.row(delivery)
    assert (row["state"], row["next_at"].hour) == ("pending", 14)
    await notified.clock.advance(2 * 3_600)
    notified.presence.active.add(bob)
    assert await notified.dispatch(delivery) == DeliveryResult(state="dropped", code="active")


async def test_mandatory_events_come_through_quiet_hours_and_wishes(notified: Notified) -> None:
    _, (ada,) = await notified.people(1)
    await notified.device(ada)
    window = Window(time(0), time(0), EVERY_DAY, "")
    await notified.parts.preferences.set_quiet_hours(ada, [window])
    await notified.parts.preferences.set(ada, Wish("*", "*", enabled=False))
    await notified.event(ada, type="security.login", channels=("push",))

    assert await notified.dispatch(await notified.delivery()) == DeliveryResult(state="sent")


async def test_a_token_that_is_gone_is_disabled_and_a_newer_one_stays(notified: Notified) -> None:
    *_, delivery = await pushed(notified)
    notified.fcm.answers.append(Answer(Kind.TARGET_GONE, "UNREGISTERED"))

    assert await notified.dispatch(delivery) == DeliveryResult(state="failed", code="UNREGISTERED")

    target = await notified.world.database.fetchrow("SELECT * FROM push_targets")
    assert target is not None
    assert (target["disabled_at"], target["reason"]) == (notified.now, "UNREGISTERED")


async def test_a_token_registered_since_it_was_gone_stays(notified: Notified) -> None:
    *_, delivery = await pushed(notified)
    before_ms = notified.clock.now_ms() - 3_600_000
    notified.fcm.answers.append(Answer(Kind.TARGET_GONE, "Unregistered", gone_since_ms=before_ms))

    await notified.dispatch(delivery)

    assert await notified.world.value("SELECT disabled_at FROM push_targets") is None


async def test_a_token_that_changed_while_it_was_sent_to_stays(notified: Notified) -> None:
    *_, delivery = await pushed(notified)
    notified.fcm.answers.append(Answer(Kind.TARGET_GONE, "UNREGISTERED"))

    async def renew(_: Any) -> None:
        await change(notified, "UPDATE push_targets SET token = 'new'")

    notified.fcm.on_ask = renew
    await notified.dispatch(delivery)

    assert await notified.world.value("SELECT disabled_at FROM push_targets") is None


async def test_an_address_that_is_gone_is_suppressed_by_its_hash(notified: Notified) -> None:
    delivery = await mailed(notified)
    notified.mail.answers.append(Answer(Kind.TARGET_GONE, "5.1.1"))

    assert await notified.dispatch(delivery) == DeliveryResult(state="failed", code="5.1.1")

    row = await notified.world.database.fetchrow("SELECT * FROM suppressions")
    assert row is not None
    assert row["address_hash"] == address_hash("email", "Ada@example.org")
    assert row["reason"] == "bounce"
    user = await notified.world.value("SELECT user_id FROM notifications")
    await notified.event(user, key="e2", channels=("email",), type="security.login")
    (_, second) = await notified.deliveries("email")
    assert await notified.dispatch(second) == DeliveryResult(state="dropped", code="suppressed")


async def test_a_refused_message_is_not_repeated(notified: Notified) -> None:
    *_, delivery = await pushed(notified)
    notified.fcm.answers.append(Answer(Kind.REFUSED, "INVALID_ARGUMENT"))

    results = [await notified.dispatch(delivery), await notified.dispatch(delivery)]

    assert results == [DeliveryResult(state="failed", code="INVALID_ARGUMENT")] * 2
    assert len(notified.fcm.asked) == 1


@pytest.mark.parametrize("asked_ms", [0, 30_000])
async def test_trouble_of_the_provider_is_tried_again(notified: Notified, asked_ms: int) -> None:
    *_, delivery = await pushed(notified)
    notified.fcm.answers.append(Answer(Kind.LATER, "UNAVAILABLE", retry_after_ms=asked_ms))

    with pytest.raises(Retry) as signal:
        await notified.dispatch(delivery)

    assert signal.value.after_ms == (asked_ms or None)
    assert await state(notified, delivery) == ("pending", "UNAVAILABLE")
    await notified.clock.advance(asked_ms / 1_000)
    assert await notified.dispatch(delivery) == DeliveryResult(state="sent")
    assert [push.delivery_id for _, push in notified.fcm.asked] == [delivery, delivery]


async def test_a_provider_s_limit_is_shut_for_all(notified: Notified) -> None:
    *_, delivery = await pushed(notified)
    notified.fcm.answers.append(
        Answer(Kind.LIMITED, "QUOTA_EXCEEDED", retry_after_ms=7_000, scope="provider")
    )

    with pytest.raises(Limited, match="fcm"):
        await notified.dispatch(delivery)

    assert notified.limits.shut == {"fcm": 7_000}
    assert await state(notified, delivery) == ("pending", "QUOTA_EXCEEDED")
    await notified.clock.advance(7)
    notified.limits.shut.clear()
    assert await notified.dispatch(delivery) == DeliveryResult(state="sent")


async def test_a_shut_limit_keeps_back_before_anything_is_claimed(notified: Notified) -> None:
    *_, delivery = await pushed(notified)
    notified.limits.shut["fcm"] = 1

    with pytest.raises(Limited):
        await notified.dispatch(delivery)

    row = await notified.row(delivery)
    assert (row["state"], row["attempts"], notified.fcm.asked) == ("pending", 0, [])


async def test_a_device_s_limit_is_its_own(notified: Notified) -> None:
    *_, delivery = await pushed(notified)
    notified.fcm.answers.append(Answer(Kind.LIMITED, "TooManyRequests"))

    with pytest.raises(Snooze) as signal:
        await notified.dispatch(delivery)

    assert signal.value.after_ms == 60_000
    assert notified.limits.shut == {}


async def test_bad_credentials_stop_one_provider_and_no_other(notified: Notified) -> None:
    """Goal: deliveries over other channels go on; those of this one stay and resume alone."""
    *_, delivery = await pushed(notified)
    other = await mailed(notified)
    notified.fcm.answers.append(Answer(Kind.MISCONFIGURED, "THIRD_PARTY_AUTH_ERROR"))

    with pytest.raises(Limited, match="fcm"):
        await notified.dispatch(delivery)

    assert notified.limits.shut == {"fcm": 300_000}
    assert await state(notified, delivery) == ("pending", "configuration: THIRD_PARTY_AUTH_ERROR")
    assert await notified.dispatch(other) == DeliveryResult(state="sent")
    notified.limits.shut.clear()
    await notified.clock.advance(300)
    assert await notified.dispatch(delivery) == DeliveryResult(state="sent")


async def test_an_sms_of_unknown_fate_is_never_sent_again(notified: Notified) -> None:
    delivery = await texted(notified)
    notified.sms.answers.append(Answer(Kind.UNKNOWN, "timeout"))

    results = [await notified.dispatch(delivery), await notified.dispatch(delivery)]

    assert results == [DeliveryResult(state="unknown", code="timeout")] * 2
    assert len(notified.sms.asked) == 1


async def test_an_sms_of_which_more_can_be_learned_is_asked_about(notified: Notified) -> None:
    delivery = await texted(notified)
    first_ms = notified.clock.now_ms()
    notified.sms.answers.append(Answer(Kind.UNKNOWN, "timeout", retry_after_ms=20_000))

    with pytest.raises(Snooze) as signal:
        await notified.dispatch(delivery)

    assert signal.value.after_ms == 20_000
    assert await state(notified, delivery) == ("sending", "timeout")
    await notified.clock.advance(20)
    assert await notified.dispatch(delivery) == DeliveryResult(state="sent")
    first, second = notified.sms.asked
    assert (first.tried_from_ms, first.tried_until_ms) == (0, 0)
    assert (second.tried_from_ms, second.tried_until_ms) == (first_ms, first_ms)


async def test_a_try_whose_end_is_known_needs_no_question(notified: Notified) -> None:
    delivery = await texted(notified)
    notified.sms.answers.append(Answer(Kind.LATER, "503"))
    with pytest.raises(Retry):
        await notified.dispatch(delivery)

    await notified.dispatch(delivery)

    assert [sms.tried_from_ms for sms in notified.sms.asked] == [0, 0]


async def crash(_: Any) -> None:
    raise ConnectionResetError("the process is gone")


async def test_after_a_crash_a_push_goes_out_under_the_same_id(notified: Notified) -> None:
    *_, delivery = await pushed(notified)
    notified.fcm.on_ask = crash
    with pytest.raises(ConnectionResetError):
        await notified.dispatch(delivery)
    notified.fcm.on_ask = None

    with pytest.raises(Snooze) as signal:
        await notified.dispatch(delivery)
    assert signal.value.after_ms == 120_000
    await notified.clock.advance(120)

    assert await notified.dispatch(delivery) == DeliveryResult(state="sent")
    assert [push.delivery_id for _, push in notified.fcm.asked] == [delivery, delivery]


async def test_after_a_crash_the_sms_provider_is_asked_first(notified: Notified) -> None:
    delivery = await texted(notified)
    first_ms = notified.clock.now_ms()
    notified.sms.on_ask = crash
    with pytest.raises(ConnectionResetError):
        await notified.dispatch(delivery)
    notified.sms.on_ask = None
    await notified.clock.advance(120)

    await notified.dispatch(delivery)

    assert notified.sms.asked[1].tried_from_ms == first_ms


async def test_what_may_have_left_and_is_needless_now_stays_unknown(notified: Notified) -> None:
    _, bob, delivery = await pushed(notified)
    notified.fcm.on_ask = crash
    with pytest.raises(ConnectionResetError):
        await notified.dispatch(delivery)
    await notified.clock.advance(120)
    notified.presence.active.add(bob)

    assert await notified.dispatch(delivery) == DeliveryResult(state="unknown", code="interrupted")


async def test_mail_of_an_event_speaks_the_reader_s_language(notified: Notified) -> None:
    delivery = await mailed(notified)

    await notified.dispatch(delivery)

    (mail,) = notified.mail.asked
    assert (mail.to, mail.subject, mail.delivery_id) == (
        "ada@example.org",
        "Your invoice",
        delivery,
    )
    assert mail.text.startswith("It is here.")
    assert "Abbestellen" in mail.html
    assert mail.unsubscribe_url == "https://chat.example/stop/billing.invoice"


async def test_encrypted_words_are_told_to_no_provider(notified: Notified) -> None:
    _, _, delivery = await pushed(notified)
    await change(
        notified, "UPDATE messages SET body = NULL, ciphertext = '\\x00', key_id = $1", uuid4()
    )

    await notified.dispatch(delivery)

    ((_, push),) = notified.fcm.asked
    assert push.body == "New message"


async def test_a_job_for_a_delivery_that_is_gone_is_done(notified: Notified) -> None:
    assert await notified.dispatch(uuid4()) == DeliveryResult(state="gone")


async def test_nothing_is_sent_after_it_expired(notified: Notified) -> None:
    *_, delivery = await pushed(notified)
    notified.fcm.answers.append(Answer(Kind.LATER, "UNAVAILABLE"))
    with pytest.raises(Retry):
        await notified.dispatch(delivery)
    await notified.clock.advance(timedelta(days=1).total_seconds())

    assert await notified.dispatch(delivery) == DeliveryResult(state="dropped", code="expired")
