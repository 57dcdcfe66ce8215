"""Reports of providers, badges, devices, preferences and the list in the app."""

from __future__ import annotations

import asyncio
import random
from datetime import time
from typing import Any
from uuid import UUID, uuid4

import pytest

from engine import Retry
from engine.errors import Limited
from processors.errors import Refused
from processors.rules.addresses import address_hash
from processors.rules.answers import Answer, Kind
from processors.rules.quiet_hours import EVERY_DAY, Window
from processors.rules.unsubscribe import Unsubscribe
from processors.services.preferences import Wish
from schemas.messages import BadgeResult, RecordStatus, StatusResult, UpdateBadge
from tests.integration.processors.notified import Notified

pytestmark = pytest.mark.servers


async def mailed(notified: Notified) -> UUID:
    """Send an email; returns its delivery."""
    _, (ada,) = await notified.people(1, email="ada@example.org")
    await notified.event(ada, channels=("email",))
    delivery = await notified.delivery("email")
    await notified.dispatch(delivery)
    return delivery


async def report(notified: Notified, attempt: int = 1, **fields: Any) -> StatusResult:
    status = RecordStatus(**{"channel": "email", **fields})
    return await notified.parts.statuses.record(status, attempt=attempt)


async def state(notified: Notified, delivery: UUID) -> tuple[str, str | None]:
    row = await notified.row(delivery)
    return row["state"], row["error_code"]


async def test_a_bounce_fails_the_delivery_and_suppresses_whom_it_went_to(
    notified: Notified,
) -> None:
    delivery = await mailed(notified)
    await notified.world.database.execute("UPDATE users SET email = 'new@example.org'")

    first = await report(notified, delivery_id=delivery, state="bounced", code="5.1.1")
    second = await report(notified, delivery_id=delivery, state="bounced", code="5.1.1")

    assert first == StatusResult(advanced=True, suppressed=True)
    assert second == StatusResult(advanced=False, suppressed=False)
    assert await state(notified, delivery) == ("failed", "5.1.1")
    assert await notified.world.values("SELECT address_hash FROM suppressions") == [
        address_hash("email", "ada@example.org")
    ]


async def test_a_full_mailbox_suppresses_nobody(notified: Notified) -> None:
    delivery = await mailed(notified)

    result = await report(notified, provider_id="p-1", state="bounced", code="5.2.2")

    assert result == StatusResult(advanced=True, suppressed=False)
    assert await state(notified, delivery) == ("failed", "5.2.2")


@pytest.mark.parametrize("seed", range(8))
async def test_reports_in_any_order_keep_the_first_end(notified: Notified, seed: int) -> None:
    delivery = await mailed(notified)
    reports = ["delivered", "failed", "complained", "delivered", "failed"]
    random.Random(seed).shuffle(reports)

    for each in reports:
        await report(notified, delivery_id=delivery, state=each)

    first_end = next(each for each in reports if each != "complained")
    assert (await state(notified, delivery))[0] == first_end
    assert await notified.world.values("SELECT reason FROM suppressions") == ["complaint"]


async def test_a_report_that_comes_before_the_answer_counts(notified: Notified) -> None:
    _, (ada,) = await notified.people(1, email="ada@example.org")
    await notified.event(ada, channels=("email",))
    delivery = await notified.delivery("email")

    async def deliver_first(_: Any) -> None:
        await report(notified, delivery_id=delivery, state="delivered")

    notified.mail.on_ask = deliver_first
    result = await notified.dispatch(delivery)

    assert result.state == "delivered"
    assert (await notified.row(delivery))["provider_id"] == "p-1"


async def test_a_report_of_a_message_that_is_not_known_yet_waits(notified: Notified) -> None:
    with pytest.raises(Retry):
        await report(notified, provider_id="SM-early", state="delivered")

    late = await report(notified, attempt=4, provider_id="SM-early", state="delivered")

    assert late == StatusResult(advanced=False, suppressed=False)


async def test_a_stop_is_lifted_by_its_own_kind_alone(notified: Notified) -> None:
    stopped = address_hash("sms", "+491701")
    bounced = address_hash("sms", "+491702")
    await notified.world.database.execute(
        "INSERT INTO suppressions (channel, address_hash, reason) VALUES ('sms', $1, 'bounce')",
        bounced,
    )

    for hashed in (stopped, bounced):
        for each in ("stopped", "started"):
            await report(notified, channel="sms", address_hash=hashed.hex(), state=each)

    assert await notified.world.values("SELECT address_hash FROM suppressions") == [bounced]


async def test_an_sms_to_somebody_who_opted_out_is_a_stop(notified: Notified) -> None:
    _, (ada,) = await notified.people(1, phone="+491701")
    await notified.parts.preferences.set(ada, Wish("*", "sms", enabled=True))
    await notified.event(ada, channels=("sms",))
    notified.sms.answers.append(Answer(Kind.TARGET_GONE, "21610"))

    await notified.dispatch(await notified.delivery("sms"))

    assert await notified.world.values("SELECT reason FROM suppressions") == ["stop"]


async def badge(notified: Notified, user: UUID) -> BadgeResult:
    return await notified.parts.badges.update(
        UpdateBadge(user_id=user), job_id="j", limit=notified.limits
    )


async def test_a_badge_is_the_number_of_unread_ones(notified: Notified) -> None:
    _, (ada,) = await notified.people(1)
    token = await notified.device(ada)
    await notified.device(ada, provider="webpush", kind="subscription")
    for key in ("a", "b", "c"):
        await notified.event(ada, key=key, channels=("in_app",))
    listed = await notified.parts.notify.listed(ada)

    assert await notified.parts.notify.mark_read(ada, [listed[0]["id"], uuid4()]) == 1
    assert await badge(notified, ada) == BadgeResult(unread=2, targets=1)

    ((told, push),) = notified.fcm.asked
    assert told == token
    assert (push.badge, push.silent, push.title, push.data["unread"]) == (2, True, "", "2")


@pytest.mark.parametrize(
    ("answer", "signal"),
    [
        (Answer(Kind.LATER, "UNAVAILABLE"), Retry),
        (Answer(Kind.MISCONFIGURED, "auth"), Limited),
        (Answer(Kind.LIMITED, "quota", scope="provider"), Limited),
    ],
)
async def test_trouble_with_a_badge_steers_its_job(
    notified: Notified, answer: Answer, signal: type[Exception]
) -> None:
    _, (ada,) = await notified.people(1)
    await notified.device(ada)
    notified.fcm.answers.append(answer)

    with pytest.raises(signal):
        await badge(notified, ada)


async def test_a_badge_for_a_device_that_is_gone_disables_it(notified: Notified) -> None:
    _, (ada,) = await notified.people(1)
    await notified.device(ada)
    notified.fcm.answers.append(Answer(Kind.TARGET_GONE, "UNREGISTERED"))

    assert await badge(notified, ada) == BadgeResult(unread=0, targets=0)
    assert await notified.world.value("SELECT reason FROM push_targets") == "UNREGISTERED"
    assert await badge(notified, ada) == BadgeResult(unread=0, targets=0)
    assert len(notified.fcm.asked) == 1


async def test_marking_as_read_tells_the_other_clients_once(notified: Notified) -> None:
    _, (ada, bob) = await notified.people(2)
    await notified.device(ada)
    await notified.event(ada, channels=("in_app", "push"))
    (listed,) = await notified.parts.notify.listed(ada)

    counts = await asyncio.gather(
        *(notified.parts.notify.mark_read(ada, [listed["id"]]) for _ in range(3)),
        notified.parts.notify.mark_read(bob, [listed["id"]]),
    )

    assert sorted(counts) == [0, 0, 0, 1]
    told = [event for event in await notified.events(ada) if event["type"] == "notifications.read"]
    assert [event["notificationIds"] for event in told] == [[str(listed["id"])]]
    assert len(await notified.jobs("badge")) == 1
    assert (await state(notified, await notified.delivery()))[0] == "cancelled"


async def test_the_list_goes_back_page_by_page(notified: Notified) -> None:
    _, (ada,) = await notified.people(1)
    for number in range(5):
        await notified.event(ada, key=str(number), title=f"event {number}", channels=("in_app",))

    first = await notified.parts.notify.listed(ada, limit=3)
    rest = await notified.parts.notify.listed(ada, before=first[-1]["id"], limit=3)

    titles = [row["payload"]["title"] for row in first + rest]
    assert titles == [f"event {number}" for number in (4, 3, 2, 1, 0)]


async def targets(notified: Notified) -> dict[str, tuple[Any, ...]]:
    rows = await notified.world.database.fetch("SELECT * FROM push_targets")
    return {row["token"]: (row["user_id"], row["reason"], row["disabled_at"]) for row in rows}


async def test_a_token_s_life(notified: Notified) -> None:
    _, (ada, bob) = await notified.people(2)
    register = notified.parts.targets.register
    first = await register(ada, "apns", "t1", app_id="org.chat", device_id="phone")
    await notified.clock.advance(60)
    again = await register(ada, "apns", "t1", app_id="org.chat", device_id="phone")
    await register(ada, "apns", "t2", app_id="org.chat", device_id="phone")

    assert first == again
    assert await targets(notified) == {
        "t1": (ada, "replaced", notified.now),
        "t2": (ada, None, None),
    }
    await register(bob, "apns", "t2", app_id="org.chat", device_id="phone")
    assert (await targets(notified))["t2"] == (bob, None, None)
    assert await notified.parts.targets.unregister(ada, token="t2") == 0
    assert await notified.parts.targets.unregister(bob, device_id="phone") == 1
    assert (await targets(notified))["t2"] == (bob, "signed-out", notified.now)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"token": ""}, "invalid-target"),
        ({"token": "a\nb"}, "invalid-target"),
        ({"kind": "subscription"}, "invalid-target"),
        ({"user_id": uuid4()}, "unknown-user"),
    ],
)
async def test_a_bad_target_is_refused(
    notified: Notified, fields: dict[str, Any], code: str
) -> None:
    _, (ada,) = await notified.people(1)
    asked: dict[str, Any] = {"user_id": ada, "provider": "fcm", "token": "t", **fields}

    with pytest.raises(Refused) as error:
        await notified.parts.targets.register(**asked)
    assert error.value.code == code


async def test_preferences_are_set_listed_and_taken_back(notified: Notified) -> None:
    conversation, (ada,) = await notified.people(1)
    preferences = notified.parts.preferences
    one = Wish("billing.*", "email", enabled=False)
    other = Wish("*", "push", enabled=True, digest=True, conversation_id=conversation)
    for wish in (one, other, one._replace(enabled=True)):
        await preferences.set(ada, wish)

    assert await preferences.of(ada) == [other, one._replace(enabled=True)]
    await preferences.clear(ada, other)
    await preferences.unsubscribe(Unsubscribe(ada, "billing.*", "email"))
    assert await preferences.of(ada) == [one]


@pytest.mark.parametrize("wish", [Wish("A", "push", True), Wish("a", "fax", True)])
async def test_a_bad_preference_is_refused(notified: Notified, wish: Wish) -> None:
    _, (ada,) = await notified.people(1)
    with pytest.raises(Refused, match="invalid-preference"):
        await notified.parts.preferences.set(ada, wish)


async def test_quiet_hours_are_replaced_or_refused(notified: Notified) -> None:
    _, (ada,) = await notified.people(1)
    preferences = notified.parts.preferences
    night = Window(time(22), time(7), EVERY_DAY, "")
    await preferences.set_quiet_hours(ada, [night, night._replace(starts=time(12))])
    await preferences.set_quiet_hours(ada, [night])
    await preferences.set_zone(ada, "Asia/Tokyo")

    assert await notified.world.values("SELECT starts FROM quiet_hours") == [time(22)]
    for bad in ([night, night], [night._replace(days=0)], [night._replace(tz="Mars")]):
        with pytest.raises(Refused, match="invalid-quiet-hours"):
            await preferences.set_quiet_hours(ada, bad)
    with pytest.raises(Refused, match="unknown-zone"):
        await preferences.set_zone(ada, "../etc/passwd")
    with pytest.raises(Refused, match="not-a-member"):
        await preferences.mute(uuid4(), ada)
