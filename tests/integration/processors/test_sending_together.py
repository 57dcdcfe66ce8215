"""Many messages in one call: each has an outcome of its own, whatever becomes of the others."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from processors.database.pool import open_database
from processors.errors import Refused, ServiceUnavailable
from processors.services.sending import REFUSALS
from processors.settings import from_env
from schemas.messages import SendMessage, SendResult
from tests.integration.processors.world import World

pytestmark = pytest.mark.servers

JOBS = "SELECT key, payload->'data' AS data FROM outbox WHERE topic = 'job' ORDER BY key"


def message(conversation: UUID, sender: UUID, client_id: str = "", **fields: Any) -> SendMessage:
    given = {"content": "hello"} | fields
    return SendMessage(
        conversation_id=conversation,
        sender_id=sender,
        client_message_id=client_id or str(uuid4()),
        **given,
    )


async def upload(world: World, owner: UUID, state: str = "ready") -> UUID:
    made = await world.value(
        "INSERT INTO attachments (owner_id, object_key, state, expires_at)"
        " VALUES ($1, gen_random_uuid()::text, $2, now() + interval '1 day') RETURNING id",
        owner,
        state,
    )
    assert isinstance(made, UUID)
    return made


async def test_each_has_its_own_outcome(world: World) -> None:
    one, (ada, bob) = await world.conversation(2)
    two, (cleo, _) = await world.conversation(2)
    before = await world.send(one, ada, client_id="before")

    outcomes = await world.messages.send_many(
        [
            message(one, ada, "a"),
            message(two, cleo, "a"),
            message(one, cleo),
            message(one, ada, "a"),
            message(one, ada, "a", content="another"),
            message(one, ada, "before"),
            message(one, bob, content=" "),
            message(uuid4(), bob),
            message(one, bob, "b"),
        ]
    )

    codes = [each.code if isinstance(each, Refused) else "" for each in outcomes]
    assert codes == [
        *("", "", "not-a-member", "", "client-message-id-reused", ""),
        *("invalid-content", "unknown-conversation", ""),
    ]
    sent = [each for each in outcomes if isinstance(each, SendResult)]
    assert [each.seq for each in sent] == [2, 1, 2, 1, 3]
    assert [each.duplicate for each in sent] == [False, False, True, True, False]
    assert sent[3].message_id == before.message_id
    assert await world.values("SELECT last_seq FROM conversations ORDER BY last_seq") == [1, 3]


async def test_overlapping_calls_leave_no_gap_and_no_deadlock(world: World) -> None:
    """
    Goal: calls that share conversations in any order give out 1 to n in each, without waiting in
    a circle.
    """
    scenes = [await world.conversation(3) for _ in range(4)]
    calls = []
    for number in range(16):
        order = scenes if number % 2 else scenes[::-1]
        calls.append(
            [message(place, users[number % 3], f"{number // 2}-{k}")
             for k, (place, users) in enumerate(order * 3)]
        )  # fmt: skip

    outcomes = await asyncio.gather(*(world.messages.send_many(call) for call in calls))

    assert not [each for call in outcomes for each in call if isinstance(each, Exception)]
    for place, _ in scenes:
        seqs = await world.values(
            "SELECT seq FROM messages WHERE conversation_id = $1 ORDER BY seq", place
        )
        assert seqs == list(range(1, len(seqs) + 1))
        assert seqs
        last = await world.value("SELECT last_seq FROM conversations WHERE id = $1", place)
        assert last == len(seqs)
    statistics = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await world.value(statistics) == 0


async def test_events_follow_the_numbers(world: World) -> None:
    one, (ada, bob) = await world.conversation(2)

    await world.messages.send_many([message(one, (ada, bob)[n % 2]) for n in range(20)])

    rows = await world.database.fetch(
        "SELECT payload FROM outbox WHERE topic = 'conversation' ORDER BY id"
    )
    assert [row["payload"]["seq"] for row in rows] == list(range(1, 21))


async def test_jobs_follow_in_the_same_transaction(world: World) -> None:
    one, (ada, _) = await world.conversation(2)
    two, (cleo, _) = await world.conversation(2)
    await world.database.execute("UPDATE conversations SET search_mode = 'none' WHERE id = $1", two)

    first, second, third = await world.messages.send_many(
        [message(one, ada), message(two, cleo), message(one, ada)]
    )

    assert isinstance(first, SendResult)
    assert isinstance(second, SendResult)
    assert isinstance(third, SendResult)
    jobs = [(row["key"], row["data"]) for row in await world.database.fetch(JOBS)]
    of_one = [str(first.message_id), str(third.message_id)]
    indexing, *notifying = jobs
    assert indexing[0] == "indexing"
    assert indexing[1]["action"] == "index"
    assert sorted(indexing[1]["messageIds"]) == sorted(of_one)
    assert sorted(data["messageIds"] for _, data in notifying) == sorted(
        [of_one, [str(second.message_id)]]
    )
    assert {(queue, data["action"]) for queue, data in notifying} == {("notification", "message")}


async def test_attachments_are_claimed_with_the_message(world: World) -> None:
    one, (ada, bob) = await world.conversation(2)
    mine, photo, theirs, unready = (
        await upload(world, ada),
        await upload(world, ada),
        await upload(world, bob),
        await upload(world, ada, "pending"),
    )

    good, foreign, early, plain = await world.messages.send_many(
        [
            message(one, ada, content="", attachments=(photo, mine)),
            message(one, ada, attachments=(mine, theirs)),
            message(one, ada, attachments=(unready,)),
            message(one, ada),
        ]
    )

    assert isinstance(good, SendResult)
    assert [good.seq, plain.seq] == [1, 2]  # type: ignore[union-attr]
    for refused in (foreign, early):
        assert isinstance(refused, Refused)
        assert refused.code == "attachment-unavailable"
    links = await world.values("SELECT attachment_id FROM message_attachments ORDER BY position")
    assert links == [photo, mine]
    states = {row["id"]: row["state"] for row in await world.database.fetch("TABLE attachments")}
    assert states == {mine: "attached", photo: "attached", theirs: "ready", unready: "pending"}
    event = await world.value("SELECT payload FROM outbox WHERE payload ? 'attachments'")
    assert event["attachments"] == [str(photo), str(mine)]


async def test_what_was_seen_may_be_forwarded(world: World) -> None:
    one, (ada, bob) = await world.conversation(2)
    other, (stranger, _) = await world.conversation(2)
    await world.database.execute(
        "INSERT INTO conversation_members (conversation_id, user_id) VALUES ($1, $2)", other, bob
    )
    photo = await upload(world, ada)
    await world.messages.send(message(one, ada, attachments=(photo,)))

    assert (await world.messages.send(message(other, bob, attachments=(photo,)))).seq == 1
    with pytest.raises(Refused, match="attachment-unavailable"):
        await world.messages.send(message(one, ada, attachments=(uuid4(),)))
    # Seen by now: bob brought it into the stranger's conversation.
    assert (await world.messages.send(message(other, stranger, attachments=(photo,)))).seq == 2


async def test_sending_attachments_again_is_a_duplicate(world: World) -> None:
    one, (ada, _) = await world.conversation(2)
    photo = await upload(world, ada)
    sent = message(one, ada, "c", attachments=(photo,))

    first, again = await world.messages.send(sent), await world.messages.send(sent)

    assert (again.message_id, again.duplicate) == (first.message_id, True)
    with pytest.raises(Refused, match="client-message-id-reused"):
        await world.messages.send(message(one, ada, "c"))


async def test_a_value_that_the_database_refuses_harms_its_message_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: should a check of ours ever let something through, one message fails, not fifty."""
    one, (ada, _) = await world.conversation(2)
    monkeypatch.setattr("processors.services.sending.content_fault", lambda _: "")

    good, bad, other = await world.messages.send_many(
        [message(one, ada), message(one, ada, content="nul \x00"), message(one, ada)]
    )

    assert isinstance(good, SendResult)
    assert isinstance(bad, REFUSALS)
    assert isinstance(other, SendResult)
    assert [good.seq, other.seq] == [1, 2]


async def test_trouble_of_the_server_is_everyone_s(world: World) -> None:
    one, (ada, _) = await world.conversation(2)
    await world.database.execute("ALTER TABLE messages RENAME TO gone")

    with pytest.raises(asyncpg.UndefinedTableError):
        await world.messages.send_many([message(one, ada), message(one, ada)])


async def test_a_locked_conversation_stands_in_nobody_s_way(
    world: World, postgres_url: str
) -> None:
    """Goal: what other work keeps locked waits without spending an attempt; the rest goes on."""
    stuck, (ada, _) = await world.conversation(2)
    free, (bob, _) = await world.conversation(2)
    hasty = from_env({"PROCESSORS_LOCK_WAIT_MS_MAX": "200"})
    database = await open_database(postgres_url, hasty)
    service = World(database, hasty).messages
    async with world.database.transaction() as other:
        await other.execute("SELECT FROM conversations WHERE id = $1 FOR UPDATE", stuck)
        first = await service.send_many([message(stuck, ada), message(free, bob)])
        again = await service.send_many([message(free, bob), message(stuck, ada)])
    after = await service.send_many([message(stuck, ada)])
    await database.close()

    assert [type(each) for each in first] == [ServiceUnavailable, SendResult]
    assert [type(each) for each in again] == [SendResult, ServiceUnavailable]
    assert [type(each) for each in after] == [SendResult]
