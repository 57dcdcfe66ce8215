"""Sending against a real PostgreSQL: sequence, rows, duplicates, refusals."""

from __future__ import annotations

import asyncio
import random
from uuid import uuid4

import pytest

from processors.errors import Refused
from tests.integration.processors.world import World

pytestmark = pytest.mark.servers

EVENTS = "SELECT count(*) FROM outbox WHERE topic = 'conversation'"


async def test_concurrent_sends_get_gapless_sequence_and_exact_rows(world: World) -> None:
    """
    Goal: 800 messages, a third of them sent twice, are 800 rows numbered 1 to 800.

    Method: eight connections send shuffled originals and repeats to one conversation of 20.
    """
    conversation_id, users = await world.conversation(20)
    chance = random.Random(7)
    originals = [(f"m{n}", users[n % 20]) for n in range(800)]
    work = originals + originals[::3]
    chance.shuffle(work)
    results: dict[str, list[object]] = {}

    async def sender() -> None:
        while work:
            client_id, user = work.pop()
            result = await world.send(conversation_id, user, client_id=client_id)
            results.setdefault(client_id, []).append(result)

    await asyncio.gather(*(sender() for _ in range(8)))

    sequence = await world.values("SELECT seq FROM messages ORDER BY seq")
    assert sequence == list(range(1, 801))
    assert await world.value("SELECT last_seq FROM conversations") == 800
    assert await world.value("SELECT count(*) FROM message_deliveries") == 800 * 19
    assert await world.value(EVENTS) == 800
    assert len(world.commits) == 800
    for same in results.values():
        assert len({(r.message_id, r.seq, r.recipients) for r in same}) == 1  # type: ignore[attr-defined]
        assert sorted(r.duplicate for r in same) == [False, True][: len(same)]  # type: ignore[attr-defined]
    ids = await world.values("SELECT id FROM messages ORDER BY seq")
    assert [message_id.version for message_id in ids] == [7] * 800
    stamps = [message_id.int >> 80 for message_id in ids]
    assert stamps == sorted(stamps)
    times = await world.values("SELECT created_at FROM messages ORDER BY seq")
    assert times == sorted(times)


async def test_event_and_rows_say_what_was_sent(world: World) -> None:
    conversation_id, (ada, bob, cleo) = await world.conversation(3)

    result = await world.send(conversation_id, ada, client_id="c1", content='näh "quoted" \u2028')

    rows = await world.database.fetch("SELECT user_id, seq, state FROM message_deliveries")
    assert {(row["user_id"], row["seq"], row["state"]) for row in rows} == {
        (bob, 1, 10),
        (cleo, 1, 10),
    }
    event = await world.database.fetchrow(
        "SELECT topic, key, payload FROM outbox WHERE topic = 'conversation'"
    )
    assert event is not None
    assert (event["topic"], event["key"]) == ("conversation", str(conversation_id))
    sent_at = event["payload"].pop("sentAt")
    assert event["payload"] == {
        "type": "message.created",
        "conversationId": str(conversation_id),
        "messageId": str(result.message_id),
        "seq": 1,
        "senderId": str(ada),
        "clientMessageId": "c1",
        "kind": "text",
        "content": 'näh "quoted" \u2028',
    }
    assert await world.value("SELECT $1 = iso_utc(created_at) FROM messages", sent_at)


async def test_client_id_with_another_content_is_refused(world: World) -> None:
    conversation_id, (ada, bob) = await world.conversation(2)
    await world.send(conversation_id, ada, client_id="c1", content="one")

    with pytest.raises(Refused, match="client-message-id-reused"):
        await world.send(conversation_id, ada, client_id="c1", content="two")

    # The id belongs to its sender: another may use the same one.
    assert (await world.send(conversation_id, bob, client_id="c1", content="two")).seq == 2


async def test_who_may_not_send_is_told_why_and_changes_nothing(world: World) -> None:
    conversation_id, (ada, bob, cleo) = await world.conversation(3)
    closed, _ = await world.conversation(0)
    _, (stranger,) = await world.conversation(1)
    await world.database.execute(
        "UPDATE conversation_members SET left_at = now() WHERE user_id = $1", bob
    )
    await world.database.execute("UPDATE users SET disabled_at = now() WHERE id = $1", cleo)
    await world.database.execute(
        "UPDATE conversations SET deleted_at = now() WHERE id = $1", closed
    )

    for conversation, user, code in (
        (conversation_id, stranger, "not-a-member"),
        (conversation_id, uuid4(), "not-a-member"),
        (conversation_id, bob, "left"),
        (conversation_id, cleo, "user-disabled"),
        (uuid4(), ada, "unknown-conversation"),
        (closed, ada, "conversation-deleted"),
    ):
        with pytest.raises(Refused) as refusal:
            await world.send(conversation, user)
        assert refusal.value.code == code

    assert await world.value("SELECT count(*) FROM messages") == 0
    assert await world.value(EVENTS) == 0
    assert await world.value("SELECT sum(last_seq) FROM conversations") == 0
    assert not world.commits


async def test_duplicate_of_a_member_who_left_returns_the_first_result(world: World) -> None:
    conversation_id, (ada, _) = await world.conversation(2)
    first = await world.send(conversation_id, ada, client_id="c1")
    await world.database.execute("UPDATE conversation_members SET left_at = now()")

    again = await world.send(conversation_id, ada, client_id="c1")

    assert (again.message_id, again.seq, again.recipients) == (first.message_id, 1, 1)
    assert again.duplicate


async def test_members_who_left_get_no_row(world: World) -> None:
    conversation_id, (ada, bob, cleo) = await world.conversation(3)
    await world.database.execute(
        "UPDATE conversation_members SET left_at = now() WHERE user_id = $1", bob
    )

    assert (await world.send(conversation_id, ada)).recipients == 1
    assert await world.values("SELECT user_id FROM message_deliveries") == [cleo]


@pytest.mark.parametrize(("members", "recipients"), [(1001, 1000), (1002, None)])
async def test_large_conversations_keep_watermarks_alone(
    world: World, members: int, recipients: int | None
) -> None:
    conversation_id, users = await world.conversation(members)

    first = await world.send(conversation_id, users[0], client_id="c1")
    again = await world.send(conversation_id, users[0], client_id="c1")

    assert (first.recipients, again.recipients) == (recipients, recipients)
    assert await world.value("SELECT count(*) FROM message_deliveries") == (recipients or 0)
    assert await world.value(EVENTS) == 1
