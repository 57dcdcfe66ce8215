"""What is gathered is sent together, each message once, whoever flushes and how often."""

from __future__ import annotations

import asyncio
from datetime import time
from typing import Any
from uuid import UUID

import pytest

from engine import Retry, Snooze
from processors.rules.answers import Answer, Kind
from processors.rules.quiet_hours import EVERY_DAY, Window
from processors.services.preferences import Wish
from schemas.messages import DeliveryResult, DigestResult, FlushDigest
from tests.integration.processors.notified import Notified

pytestmark = pytest.mark.servers

QUARTER_S = 900


async def gathered(notified: Notified, messages: int = 3) -> tuple[UUID, UUID, UUID]:
    """Gather messages for bob's email: conversation, writer, reader."""
    conversation, (ada, bob) = await notified.people(2)
    await notified.world.database.execute(
        "UPDATE users SET email = 'bob@example.org' WHERE id = $1", bob
    )
    for number in range(messages):
        await notified.tell(await notified.message(conversation, ada, content=f"text {number}"))
    return conversation, ada, bob


async def flush(notified: Notified, user: UUID, conversation: UUID) -> DigestResult:
    order = FlushDigest(user_id=user, channel="email", conversation_id=conversation)
    return await notified.parts.digests.flush(order)


async def digest(notified: Notified) -> Any:
    rows = await notified.world.database.fetch("SELECT * FROM notification_digests")
    return [(row["n"], row["first_seq"], row["last_seq"]) for row in rows]


async def test_the_first_message_makes_the_digest_and_has_it_flushed(notified: Notified) -> None:
    conversation, _, bob = await gathered(notified)

    assert await digest(notified) == [(3, 1, 3)]
    (job,) = await notified.jobs("digest")
    assert job["delay"] == QUARTER_S * 1_000
    assert job["data"] == {
        "action": "digest",
        "userId": str(bob),
        "channel": "email",
        "conversationId": str(conversation),
    }


async def test_one_email_quotes_what_was_gathered(notified: Notified) -> None:
    conversation, _, bob = await gathered(notified)
    with pytest.raises(Snooze) as signal:
        await flush(notified, bob, conversation)
    assert signal.value.after_ms == QUARTER_S * 1_000
    await notified.clock.advance(QUARTER_S)

    assert await flush(notified, bob, conversation) == DigestResult(messages=3, deliveries=1)
    assert await notified.dispatch(await notified.delivery()) == DeliveryResult(state="sent")

    (mail,) = notified.mail.asked
    assert mail.subject == "3 new messages in test"
    assert [f"text {number}" in mail.text for number in range(3)] == [True] * 3
    assert mail.thread == str(conversation)
    assert mail.unsubscribe_url == "https://chat.example/stop/message"
    # The digest leads to a delivery alone: the app lists the messages.
    assert len(await notified.parts.notify.listed(bob)) == 3


async def test_flushing_again_sends_nothing(notified: Notified) -> None:
    conversation, _, bob = await gathered(notified)
    await notified.clock.advance(QUARTER_S)

    results = await asyncio.gather(*(flush(notified, bob, conversation) for _ in range(4)))

    assert sorted(result.deliveries for result in results) == [0, 0, 0, 1]
    assert len(await notified.deliveries()) == 1


async def test_messages_that_come_while_it_is_flushed_start_the_next_one(
    notified: Notified,
) -> None:
    conversation, ada, bob = await gathered(notified)
    await notified.clock.advance(QUARTER_S)
    await flush(notified, bob, conversation)

    await notified.tell(await notified.message(conversation, ada))

    assert await digest(notified) == [(1, 4, 4)]
    ids = [job["id"] for job in await notified.jobs("digest")]
    assert len(set(ids)) == 2


async def test_gathering_and_flushing_together_loses_and_doubles_nothing(
    notified: Notified,
) -> None:
    conversation, ada, bob = await gathered(notified, messages=1)
    await notified.clock.advance(QUARTER_S)
    messages = [await notified.message(conversation, ada) for _ in range(10)]

    await asyncio.gather(
        *(notified.tell(message) for message in messages),
        *(flush_if_due(notified, bob, conversation) for _ in range(5)),
    )
    await notified.clock.advance(QUARTER_S)
    await flush_if_due(notified, bob, conversation)

    told = await notified.world.values(
        "SELECT (payload->>'n')::int FROM notifications WHERE type = 'digest'"
    )
    assert sum(told) == 11
    assert await digest(notified) == []


async def flush_if_due(notified: Notified, user: UUID, conversation: UUID) -> None:
    try:
        await flush(notified, user, conversation)
    except Snooze:
        await asyncio.sleep(0)


async def test_what_was_read_meanwhile_is_not_quoted(notified: Notified) -> None:
    conversation, _, bob = await gathered(notified)
    await notified.clock.advance(QUARTER_S)
    await flush(notified, bob, conversation)
    await read(notified, bob, 2)

    await notified.dispatch(await notified.delivery())

    (mail,) = notified.mail.asked
    assert mail.subject == "user 0 wrote to you"
    assert "text 2" in mail.text
    assert "text 1" not in mail.text


async def read(notified: Notified, user: UUID, seq: int) -> None:
    await notified.world.database.execute(
        "UPDATE conversation_members SET last_delivered_seq = $2, last_read_seq = $2"
        " WHERE user_id = $1", user, seq
    )  # fmt: skip


async def test_reading_everything_takes_the_digest_away(notified: Notified) -> None:
    conversation, _, bob = await gathered(notified)
    async with notified.world.database.transaction() as connection:
        await notified.parts.notify.cancel_read(connection, [(bob, conversation, 3)])
    await notified.clock.advance(QUARTER_S)

    assert await flush(notified, bob, conversation) == DigestResult(messages=0, deliveries=0)


async def test_a_digest_whose_messages_are_deleted_says_nothing(notified: Notified) -> None:
    conversation, _, bob = await gathered(notified)
    await notified.clock.advance(QUARTER_S)
    await flush(notified, bob, conversation)
    await notified.world.database.execute("UPDATE messages SET deleted_at = now(), body = NULL")

    result = await notified.dispatch(await notified.delivery())

    assert result == DeliveryResult(state="dropped", code="already-read")


async def test_a_digest_keeps_quiet_hours(notified: Notified) -> None:
    conversation, _, bob = await gathered(notified)
    window = Window(time(12, 10), time(13), EVERY_DAY, "UTC")
    await notified.parts.preferences.set_quiet_hours(bob, [window])
    await notified.clock.advance(QUARTER_S)
    await flush(notified, bob, conversation)
    delivery = await notified.delivery()

    with pytest.raises(Snooze) as signal:
        await notified.dispatch(delivery)

    assert signal.value.after_ms == 45 * 60_000
    await notified.clock.advance(45 * 60)
    assert await notified.dispatch(delivery) == DeliveryResult(state="sent")


async def test_what_follows_too_soon_is_gathered_and_the_gap_grows(notified: Notified) -> None:
    """Goal: at most one email in 10 min, then in an hour, about one conversation."""
    conversation, (ada, bob) = await notified.people(2, email="x@example.org")
    await notified.parts.preferences.set(bob, Wish("message", "email", enabled=True))

    async def write() -> DeliveryResult:
        await notified.tell(await notified.message(conversation, ada))
        return await notified.dispatch((await notified.deliveries("email"))[-1])

    first, second, third = await write(), await write(), await write()

    assert (first.state, second.state, third.state) == ("sent", "digested", "digested")
    assert await digest(notified) == [(2, 2, 3)]
    (job,) = await notified.jobs("digest")
    assert job["delay"] == 600_000
    await notified.clock.advance(600)
    assert await flush(notified, bob, conversation) == DigestResult(messages=2, deliveries=1)
    await notified.dispatch((await notified.deliveries("email"))[-1])
    assert [mail.subject for mail in notified.mail.asked][1:] == ["2 new messages in test"]
    assert await notified.world.value("SELECT gap_ms FROM notification_paces") == 3_600_000
    assert (await write()).state == "digested"


async def test_gathering_again_changes_nothing(notified: Notified) -> None:
    conversation, (ada, bob) = await notified.people(2, email="x@example.org")
    await notified.parts.preferences.set(bob, Wish("message", "email", enabled=True))
    await notified.tell(await notified.message(conversation, ada))
    delivery = await notified.delivery("email")
    await notified.parts.preferences.set(bob, Wish("message", "email", enabled=True, digest=True))

    results = await asyncio.gather(*(notified.dispatch(delivery) for _ in range(3)))

    assert {result.state for result in results} == {"digested"}
    assert await digest(notified) == [(1, 1, 1)]
    assert len(await notified.jobs("digest")) == 1


async def paced(notified: Notified, messages: int) -> tuple[UUID, list[UUID]]:
    """Prepare emails about messages of one conversation: it, and the deliveries."""
    conversation, (ada, bob) = await notified.people(2, email="x@example.org")
    await notified.parts.preferences.set(bob, Wish("message", "email", enabled=True))
    for _ in range(messages):
        await notified.tell(await notified.message(conversation, ada))
    return conversation, await notified.deliveries("email")


async def test_of_a_burst_one_is_sent_and_the_others_are_gathered(notified: Notified) -> None:
    """Goal: the throttle holds where deliveries are made in one moment, too."""
    _, deliveries = await paced(notified, 4)
    arrived, all_are_here = set[Any](), asyncio.Event()

    async def together(name: str, *, retry_after_ms: int = 0) -> None:
        # Behind the decision and before the claim.
        arrived.add(asyncio.current_task())
        if len(arrived) == len(deliveries):
            all_are_here.set()
        await all_are_here.wait()

    dispatch = notified.parts.dispatcher.dispatch
    results = await asyncio.gather(*(dispatch(each, limit=together) for each in deliveries))

    assert sorted(result.state for result in results) == ["digested"] * 3 + ["sent"]
    assert len(notified.mail.asked) == 1
    ((n, _, _),) = await digest(notified)
    assert n == 3


async def test_a_delivery_that_is_given_back_gives_its_turn_back(notified: Notified) -> None:
    _, (first, second, third) = await paced(notified, 3)
    notified.mail.answers.append(Answer(Kind.LATER, "451"))
    with pytest.raises(Retry):
        await notified.dispatch(first)

    states = [(await notified.dispatch(each)).state for each in (second, third, first)]

    assert states == ["sent", "digested", "digested"]
    assert await notified.world.value("SELECT gap_ms FROM notification_paces") == 600_000


async def test_a_turn_given_back_is_as_it_was_before(notified: Notified) -> None:
    _, (first, second) = await paced(notified, 2)
    await notified.dispatch(first)
    pace = "SELECT (sent_at, delivery_id, gap_ms) FROM notification_paces"
    before = await notified.world.values(pace)
    await notified.clock.advance(600)
    notified.mail.answers.append(Answer(Kind.LATER, "451"))

    with pytest.raises(Retry):
        await notified.dispatch(second)

    assert await notified.world.values(pace) == before
    assert (await notified.dispatch(second)).state == "sent"


async def test_an_attempt_that_was_killed_is_repeated_in_its_own_turn(notified: Notified) -> None:
    _, (delivery,) = await paced(notified, 1)

    async def die(_: Any) -> None:
        raise ConnectionAbortedError

    notified.mail.on_ask = die
    with pytest.raises(ConnectionAbortedError):
        await notified.dispatch(delivery)
    notified.mail.on_ask = None
    await notified.clock.advance(120)

    assert (await notified.dispatch(delivery)).state == "sent"
    assert await notified.world.value("SELECT gap_ms FROM notification_paces") == 600_000
