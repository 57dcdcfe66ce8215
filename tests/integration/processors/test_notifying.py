"""Who is told of messages and events: once, with all that hangs on it, or not at all."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from processors.services.preferences import Wish
from schemas.messages import NotifyMessages, NotifyResult
from tests.integration.processors.notified import Notified

pytestmark = pytest.mark.servers


async def test_members_are_told_of_a_message_and_its_sender_is_not(notified: Notified) -> None:
    conversation, (ada, bob, cleo) = await notified.people(3)
    token = await notified.device(bob)
    message = await notified.message(conversation, ada)

    result = await notified.tell(message)

    assert result == NotifyResult(notifications=2, deliveries=1, digests=0)
    rows = await notified.world.database.fetch("SELECT * FROM notifications ORDER BY user_id")
    assert {row["user_id"] for row in rows} == {bob, cleo}
    assert {(row["type"], row["seq"], row["message_id"]) for row in rows} == {
        ("message", 1, message)
    }
    row = await notified.row(await notified.delivery())
    assert (row["user_id"], row["channel"], row["state"]) == (bob, "push", "pending")
    assert token == await notified.world.value(
        "SELECT token FROM push_targets WHERE id = $1", row["target_id"]
    )


async def test_a_push_waits_for_an_acknowledgement_and_its_job_is_named_by_it(
    notified: Notified,
) -> None:
    conversation, (ada, bob) = await notified.people(2)
    await notified.device(bob)

    await notified.tell(await notified.message(conversation, ada))

    delivery = await notified.delivery()
    (job,) = await notified.jobs("deliver")
    assert job["id"] == f"deliver-{delivery}"
    assert job["delay"] == 4_000
    assert job["data"] == {"action": "deliver", "deliveryId": str(delivery)}
    assert ((await notified.row(delivery))["next_at"] - notified.now).total_seconds() == 4


async def test_the_app_hears_of_it_at_once_and_without_any_words(notified: Notified) -> None:
    conversation, (ada, bob) = await notified.people(2)
    message = await notified.message(conversation, ada, content="secret")

    await notified.tell(message)

    (event,) = await notified.events(bob)
    assert event["type"] == "notification.created"
    assert (event["conversationId"], event["seq"]) == (str(conversation), 1)
    assert [each["messageId"] for each in event["notifications"]] == [str(message)]
    assert "secret" not in str(event)
    assert await notified.events(ada) == []


async def counts(notified: Notified) -> list[Any]:
    return [
        await notified.world.value(f"SELECT count(*) FROM {table}")
        for table in ("notifications", "notification_deliveries", "notification_digests", "outbox")
    ] + [await notified.world.value("SELECT sum(n) FROM notification_digests")]


async def test_telling_again_changes_nothing(notified: Notified) -> None:
    conversation, (ada, bob, _) = await notified.people(3, email="x@example.org")
    await notified.device(bob)
    messages = [await notified.message(conversation, ada) for _ in range(3)]
    first = await notified.tell(*messages)
    before = await counts(notified)

    again = [await notified.tell(*messages), await notified.tell(messages[0], messages[0])]

    assert first == NotifyResult(notifications=6, deliveries=3, digests=2)
    assert again == [NotifyResult(), NotifyResult()]
    assert await counts(notified) == before


async def test_jobs_that_run_together_tell_once(notified: Notified) -> None:
    conversation, (ada, bob, cleo) = await notified.people(3, email="x@example.org")
    await notified.device(bob)
    await notified.device(cleo)
    messages = [await notified.message(conversation, ada) for _ in range(4)]

    results = await asyncio.gather(
        *(notified.tell(*messages[n:], *messages[:n]) for n in range(4)),
        notified.tell(*messages),
    )

    assert sum(result.notifications for result in results) == 8
    assert sum(result.deliveries for result in results) == 8
    assert len(await notified.jobs("deliver")) == 8
    assert len(await notified.jobs("digest")) == 2


async def mute(notified: Notified, conversation: UUID, user: UUID, **options: Any) -> None:
    await notified.parts.preferences.mute(conversation, user, **options)


async def test_who_does_not_want_to_hear_is_not_told(notified: Notified) -> None:
    conversation, users = await notified.people(7)
    ada, muted, silent, mentions, named, gone, late = users
    await mute(notified, conversation, muted, until=notified.now.replace(hour=13))
    await mute(notified, conversation, silent, level="none")
    await mute(notified, conversation, mentions, level="mentions")
    await mute(notified, conversation, named, level="mentions")
    await mute(notified, conversation, late, until=notified.now.replace(hour=11))
    await notified.world.database.execute(
        "UPDATE conversation_members SET left_at = now() WHERE user_id = $1", gone
    )
    message = await notified.message(conversation, ada)
    await notified.world.database.execute(
        "UPDATE messages SET mentions = $1 WHERE id = $2", [named, silent, muted], message
    )

    await notified.tell(message)

    assert set(await notified.world.values("SELECT user_id FROM notifications")) == {named, late}


async def test_what_was_read_before_is_not_told(notified: Notified) -> None:
    conversation, (ada, bob, cleo) = await notified.people(3)
    messages = [await notified.message(conversation, ada) for _ in range(2)]
    await notified.world.database.execute(
        "UPDATE conversation_members SET last_delivered_seq = 1, last_read_seq = 1"
        " WHERE user_id = $1", bob
    )  # fmt: skip
    await notified.world.database.execute(
        "UPDATE conversation_members SET joined_seq = 1 WHERE user_id = $1", cleo
    )

    await notified.tell(*messages)

    assert await notified.world.values("SELECT seq FROM notifications") == [2, 2]


async def test_gone_messages_and_conversations_are_passed_over(notified: Notified) -> None:
    conversation, (ada, _) = await notified.people(2)
    closed, (other, _) = await notified.people(2)
    deleted = await notified.message(conversation, ada)
    stays = await notified.message(conversation, ada)
    lost = await notified.message(closed, other)
    await notified.world.database.execute(
        "UPDATE messages SET deleted_at = now(), body = NULL WHERE id = $1", deleted
    )
    await notified.world.database.execute(
        "UPDATE conversations SET deleted_at = now() WHERE id = $1", closed
    )

    result = await notified.tell(deleted, lost, uuid4(), stays)

    assert result.notifications == 1
    assert await notified.world.values("SELECT message_id FROM notifications") == [stays]


async def test_preferences_choose_the_ways(notified: Notified) -> None:
    conversation, (ada, bob) = await notified.people(2, email="b@example.org", phone="+491701")
    await notified.device(bob)
    preferences = notified.parts.preferences
    await preferences.set(bob, Wish("message", "push", enabled=False))
    await preferences.set(bob, Wish("message", "sms", enabled=True))
    await preferences.set(bob, Wish("*", "in_app", enabled=False))

    result = await notified.tell(await notified.message(conversation, ada))

    assert (result.deliveries, result.digests) == (1, 1)
    assert (await notified.row(await notified.delivery()))["channel"] == "sms"
    assert await notified.world.values("SELECT channel FROM notification_digests") == ["email"]
    assert await notified.world.values("SELECT listed FROM notifications") == [False]
    assert await notified.events(bob) == []


async def test_who_wants_nothing_has_no_row(notified: Notified) -> None:
    conversation, (ada, bob) = await notified.people(2, email="b@example.org")
    await notified.parts.preferences.set(
        bob, Wish("*", "*", enabled=False, conversation_id=conversation)
    )

    assert await notified.tell(await notified.message(conversation, ada)) == NotifyResult()
    assert (await counts(notified))[:3] == [0, 0, 0]


async def test_the_tenant_speaks_where_users_do_not(notified: Notified) -> None:
    conversation, (ada, bob, cleo) = await notified.people(3)
    await notified.world.database.execute("UPDATE conversations SET tenant_id = 'acme'")
    for user in (bob, cleo):
        await notified.device(user)
    await notified.parts.preferences.set_default("acme", Wish("message", "push", enabled=False))
    await notified.parts.preferences.set(cleo, Wish("*", "push", enabled=True))

    await notified.tell(await notified.message(conversation, ada))

    assert (await notified.row(await notified.delivery()))["user_id"] == cleo


async def test_an_event_is_heard_once_by_each_user(notified: Notified) -> None:
    _, (ada, bob) = await notified.people(2, email="x@example.org")
    await notified.device(ada)

    first = await notified.event(ada, uuid4())
    second = await notified.event(ada, bob)
    other = await notified.event(ada, key="e2", channels=("in_app",))

    assert (first.notifications, first.deliveries) == (1, 2)
    assert (second.notifications, second.deliveries) == (1, 1)
    assert (other.notifications, other.deliveries) == (1, 0)
    (event, _) = await notified.events(ada)
    assert (event["title"], event["notificationType"]) == ("Your invoice", "billing.invoice")
    assert [job.get("delay") for job in await notified.jobs("deliver")] == [None] * 3


async def test_what_must_be_told_goes_where_it_says_whatever_users_want(notified: Notified) -> None:
    _, (ada,) = await notified.people(1, email="a@example.org", phone="+491701")
    await notified.parts.preferences.set(ada, Wish("*", "*", enabled=False))

    await notified.event(ada, type="security.login", channels=("sms", "email"))
    everywhere = await notified.event(ada, key="e3", type="security.login")
    plain = await notified.event(ada, key="e2")

    assert plain == NotifyResult()
    assert everywhere == NotifyResult(notifications=1, deliveries=1)
    assert {job["lane"] for job in await notified.jobs("deliver")} == {"high"}
    channels = await notified.world.values("SELECT channel FROM notification_deliveries")
    assert sorted(channels) == ["email", "email", "sms"]


async def test_a_large_room_is_told_page_by_page(
    notified: Notified, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processors.services.notifications.ROWS_AT_ONCE", 6)
    conversation, users = await notified.people(15)
    messages = [await notified.message(conversation, users[0]) for _ in range(3)]

    result = await notified.tell(*messages)

    assert result.notifications == 14 * 3
    assert await notified.world.value(
        "SELECT count(*) FROM outbox WHERE payload->>'type' = 'notification.created'"
    ) == 14  # fmt: skip


async def test_what_is_too_much_for_one_job_goes_to_the_next(
    notified: Notified, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processors.services.notifications.PAGES_MAX", 1)
    monkeypatch.setattr("processors.services.notifications.MESSAGES_AT_ONCE", 2)
    conversation, (ada, _) = await notified.people(2)
    messages = [await notified.message(conversation, ada) for _ in range(5)]

    first = await notified.tell(*messages)
    (job,) = [job for job in await notified.jobs("message") if job["id"].startswith("tell-")]
    rest = await notified.tell(*map(UUID, job["data"]["messageIds"]))

    assert (first.notifications, rest.notifications) == (2, 2)
    assert job["data"]["messageIds"] == [str(message) for message in messages[2:]]


async def test_reading_while_it_is_told_leaves_nothing_unread(notified: Notified) -> None:
    """Goal: a badge that counts it is never left behind. Method: reading lands between the look
    at the members and the end of the transaction."""
    conversation, (ada, bob) = await notified.people(2)
    message = await notified.message(conversation, ada)
    fetchrow = notified.world.database.fetchrow

    async def read_first(statement: str, *arguments: Any) -> Any:
        if "INSERT INTO notifications" in statement:
            await notified.world.database.execute(
                "UPDATE conversation_members SET last_delivered_seq = 1, last_read_seq = 1"
                " WHERE user_id = $1", bob
            )  # fmt: skip
        return await fetchrow(statement, *arguments)

    notified.world.database.fetchrow = read_first  # type: ignore[method-assign]
    await notified.tell(message)

    assert await notified.parts.notify.unread(bob) == 0


async def test_a_room_too_large_for_one_job_is_told_by_several(
    notified: Notified, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: each job is short, and none begins from the start."""
    monkeypatch.setattr("processors.services.notifications.ROWS_AT_ONCE", 3)
    monkeypatch.setattr("processors.services.notifications.PAGES_MAX", 2)
    conversation, users = await notified.people(16)
    message = await notified.message(conversation, users[0])
    told = [(await notified.tell(message)).notifications]

    for done in range(2):
        job = (await notified.jobs("message"))[-1]
        order = msgspec.convert(job["data"], NotifyMessages)
        assert order.message_ids == (message,)
        assert order.after_user == sorted(users)[6 * (done + 1) - 1]
        told.append((await notified.parts.notify.notify_messages(order)).notifications)

    assert sum(told) == 15
    assert max(told) <= 6
    assert set(await notified.world.values("SELECT user_id FROM notifications")) == set(users[1:])


async def test_a_mark_that_is_about_to_be_committed_counts(notified: Notified) -> None:
    """Goal: a reader whose transaction saw no notification, and ends after it was written."""
    conversation, (ada, bob) = await notified.people(2)
    message = await notified.message(conversation, ada)
    database = notified.world.database

    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE conversation_members SET last_delivered_seq = 1, last_read_seq = 1"
            " WHERE user_id = $1", bob
        )  # fmt: skip
        await notified.parts.notify.cancel_read(connection, [(bob, conversation, 1)])
        telling = asyncio.create_task(notified.tell(message))
        for _ in range(10_000):
            if telling.done() or await database.fetchrow(
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
                " AND wait_event_type = 'Lock'"
            ):
                break
        assert not telling.done(), "the job did not wait for the reader"
    await telling

    assert await notified.parts.notify.unread(bob) == 0
