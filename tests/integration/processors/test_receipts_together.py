"""Receipts of many jobs and recipients in one call; private reading; what reading cancels."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest

from processors.errors import Refused
from processors.services.receipts import REFUSALS, parts
from schemas.messages import ConfirmationResult, DeliveryConfirmation, Receipt
from tests.integration.processors.world import World

pytestmark = pytest.mark.servers


def reads(user: UUID, *messages: UUID, **fields: Any) -> DeliveryConfirmation:
    receipts = tuple(Receipt(message_id=each, state="read") for each in messages)
    return DeliveryConfirmation(user_id=user, receipts=receipts, **fields)


async def apply(world: World, **jobs: DeliveryConfirmation) -> dict[str, Any]:
    return await world.messages.apply_receipts_many(jobs)


async def events(world: World, kind: str) -> list[Any]:
    return await world.values(
        "SELECT payload FROM outbox WHERE payload->>'type' = $1 ORDER BY id", kind
    )


async def test_jobs_that_share_a_message_are_told_apart(world: World) -> None:
    conversation, (ada, bob, cleo) = await world.conversation(3)
    sent = (await world.send(conversation, ada)).message_id

    outcomes = await apply(
        world,
        bob=reads(bob, sent),
        bob_again=reads(bob, sent),
        cleo=reads(cleo, sent, conversation_id=conversation, read_up_to_seq=1),
        stranger=reads(uuid4(), conversation_id=conversation, read_up_to_seq=1),
        nobody=reads(uuid4(), sent),
    )

    results = {job: each for job, each in outcomes.items() if isinstance(each, ConfirmationResult)}
    counts = {job: (each.advanced, each.unchanged, each.ignored) for job, each in results.items()}
    assert counts == {
        "bob": (1, 0, 0), "bob_again": (0, 1, 0), "cleo": (0, 1, 0), "nobody": (0, 0, 1)
    }  # fmt: skip
    assert results["cleo"].read_up_to_seq == 1
    assert isinstance(outcomes["stranger"], Refused)
    assert await world.value("SELECT (n_delivered, n_read)::text FROM messages") == "(2,2)"
    assert await apply(world, bob=reads(bob, sent)) == {"bob": results["bob"]}


async def test_one_job_may_tell_of_many_recipients(world: World) -> None:
    conversation, (ada, *others) = await world.conversation(4)
    sent = (await world.send(conversation, ada)).message_id
    receipts = tuple(Receipt(message_id=sent, state="read", user_id=each) for each in others)

    outcomes = await apply(world, job=DeliveryConfirmation(user_id=others[0], receipts=receipts))

    assert outcomes["job"].advanced == 3
    assert await world.value("SELECT n_read FROM messages") == 3
    assert {event["userId"] for event in await events(world, "receipts.advanced")} == {
        str(each) for each in others
    }


async def test_the_furthest_mark_of_a_member_counts(world: World) -> None:
    conversation, (ada, bob) = await world.conversation(2)
    for _ in range(5):
        await world.send(conversation, ada)

    outcomes = await apply(
        world,
        far=reads(bob, conversation_id=conversation, read_up_to_seq=4),
        near=reads(bob, conversation_id=conversation, read_up_to_seq=2, delivered_up_to_seq=5),
    )

    marks = {(each.delivered_up_to_seq, each.read_up_to_seq) for each in outcomes.values()}
    assert marks == {(5, 4)}
    assert len(await events(world, "watermark.advanced")) == 1
    assert await world.values("SELECT n_read FROM messages ORDER BY seq") == [1, 1, 1, 1, 0]


async def test_private_reading_is_told_to_nobody(world: World) -> None:
    conversation, (ada, bob) = await world.conversation(2)
    sent = (await world.send(conversation, ada)).message_id
    await world.database.execute("UPDATE users SET private_receipts = true WHERE id = $1", bob)

    await apply(world, one=reads(bob, sent, conversation_id=conversation, read_up_to_seq=1))

    assert await world.value("SELECT (n_delivered, n_read)::text FROM messages") == "(1,0)"
    assert await world.value("SELECT state FROM message_deliveries") == 30
    assert await world.value("SELECT count(*) FROM message_reads") == 0
    told = [row["payload"] for row in await world.database.fetch(
        "SELECT payload FROM outbox WHERE topic = 'conversation' OR key = $1", str(ada)
    )]  # fmt: skip
    assert [event["type"] for event in told] == ["message.created", "watermark.advanced"]
    assert "readUpToSeq" not in told[1]
    own = await world.value("SELECT payload FROM outbox WHERE key = $1", str(bob))
    assert own["readUpToSeq"] == 1
    assert (await apply(world, two=reads(bob, sent)))["two"].unchanged == 1


async def test_small_conversations_keep_who_read(world: World) -> None:
    small, (ada, bob) = await world.conversation(2)
    large, (cleo, *others) = await world.conversation(22)
    one = (await world.send(small, ada)).message_id
    two = (await world.send(large, cleo)).message_id

    await apply(world, a=reads(bob, one), b=reads(others[0], two))

    rows = await world.database.fetch("SELECT message_id, user_id FROM message_reads")
    assert [tuple(row) for row in rows] == [(one, bob)]


async def notified(world: World, user: UUID, message: UUID, conversation: UUID, seq: int) -> None:
    await world.database.execute(
        "WITH n AS (INSERT INTO notifications (user_id, type, dedup_key, conversation_id,"
        " message_id, seq) VALUES ($1, 'message', ($2::uuid)::text, $3, $2::uuid, $4) RETURNING id)"
        " INSERT INTO notification_deliveries (notification_id, user_id, channel, target_id)"
        " SELECT id, $1, 'push', $1 FROM n",
        user,
        message,
        conversation,
        seq,
    )


@pytest.mark.parametrize("by_mark", [True, False])
async def test_reading_cancels_what_would_notify(world: World, by_mark: bool) -> None:
    conversation, (ada, bob) = await world.conversation(2)
    sent = [(await world.send(conversation, ada)).message_id for _ in range(2)]
    for seq, message in enumerate(sent, start=1):
        await notified(world, bob, message, conversation, seq)
    before = await world.value("SELECT count(*) FROM outbox WHERE topic = 'job'")

    mark = reads(bob, conversation_id=conversation, read_up_to_seq=1)
    await apply(world, job=mark if by_mark else reads(bob, sent[0]))

    states = await world.values(
        "SELECT d.state FROM notification_deliveries d JOIN notifications n"
        " ON n.id = notification_id ORDER BY seq"
    )
    assert states == ["cancelled", "pending"]
    unread = await world.values("SELECT seq FROM notifications WHERE read_at IS NULL")
    assert unread == [2]
    jobs = await world.values(
        "SELECT payload->'data' FROM outbox WHERE topic = 'job' ORDER BY id OFFSET $1", before
    )
    assert jobs == []  # nobody's icon shows a number: bob has no device


async def test_the_same_jobs_at_once_have_one_effect(world: World) -> None:
    """Goal: engines that take the same jobs at the same time agree, and do not deadlock."""
    conversation, (ada, *others) = await world.conversation(6)
    sent = [(await world.send(conversation, ada)).message_id for _ in range(10)]
    jobs = {f"j{n}": reads(others[n % 5], *sent[n % 3 :]) for n in range(20)}
    backwards = dict(reversed(jobs.items()))

    results = await asyncio.gather(
        *(apply(world, **(jobs if n % 2 else backwards)) for n in range(6))
    )

    assert all(result == results[0] for result in results)
    assert sum(each.advanced for each in results[0].values()) == 50
    assert await world.value("SELECT sum(n_read) FROM messages") == 50


async def test_reading_updates_the_badges_of_devices_once(world: World) -> None:
    conversation, (ada, bob) = await world.conversation(2)
    await world.database.execute(
        "INSERT INTO push_targets (user_id, provider, token) VALUES ($1, 'fcm', 't')", bob
    )
    sent = [(await world.send(conversation, ada)).message_id for _ in range(3)]
    for seq, message in enumerate(sent, start=1):
        await notified(world, bob, message, conversation, seq)

    for message in sent:
        await apply(world, **{str(message): reads(bob, message)})

    actions = await world.values(
        "SELECT DISTINCT payload->>'id' FROM outbox WHERE payload->'data'->>'action' = 'badge'"
    )
    assert len(actions) == 1


async def test_a_value_that_the_database_refuses_harms_its_job_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: should a check of ours ever let something through, one job fails, not fifty."""
    conversation, (ada, bob) = await world.conversation(2)
    sent = (await world.send(conversation, ada)).message_id
    bad = reads(bob, sent)
    monkeypatch.setattr(
        "processors.services.receipts.instant",
        lambda at: datetime.min.replace(tzinfo=timezone(timedelta(hours=14))) if at == 1 else None,
    )
    broken = (Receipt(message_id=sent, state="read", at=1),)
    bad = DeliveryConfirmation(user_id=bob, receipts=broken)

    outcomes = await apply(world, bad=bad, good=reads(bob, sent))

    assert isinstance(outcomes["bad"], REFUSALS)
    assert outcomes["good"].advanced == 1


def test_many_receipts_are_parted() -> None:
    one = DeliveryConfirmation(
        user_id=uuid4(),
        receipts=tuple(Receipt(message_id=uuid4(), state="read") for _ in range(500)),
    )

    sizes = [len(part) for part in parts({f"j{n}": one for n in range(10)})]

    assert sizes == [4, 4, 2]
