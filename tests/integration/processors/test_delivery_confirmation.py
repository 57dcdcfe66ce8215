"""Receipts against a real PostgreSQL: monotonic, exact, in any order and at the same time."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import hypothesis
import pytest
from hypothesis import strategies as st

from processors.errors import Refused
from schemas.messages import ConfirmationResult, DeliveryConfirmation, Receipt
from tests.integration.processors.world import World

pytestmark = pytest.mark.servers

COUNTERS = "SELECT n_delivered, n_read FROM messages ORDER BY conversation_id, seq"


async def confirm(
    world: World, user: UUID, *claims: tuple[UUID, str], job_id: str = "", **marks: Any
) -> ConfirmationResult:
    receipts = tuple(Receipt(message_id=message, state=state) for message, state in claims)  # type: ignore[arg-type]
    confirmation = DeliveryConfirmation(user_id=user, receipts=receipts, **marks)
    return await world.messages.apply_receipts(confirmation, job_id=job_id or str(uuid4()))


async def sent(world: World, conversation_id: UUID, sender: UUID, count: int) -> list[UUID]:
    return [(await world.send(conversation_id, sender)).message_id for _ in range(count)]


async def events(world: World, kind: str) -> list[dict[str, Any]]:
    rows = await world.database.fetch(
        "SELECT payload, topic, key FROM outbox WHERE payload->>'type' = $1 ORDER BY id", kind
    )
    return [dict(row["payload"], channel=(row["topic"], row["key"])) for row in rows]


async def test_states_advance_and_never_go_back(world: World) -> None:
    conversation_id, (ada, bob, _) = await world.conversation(3)
    one, two = await sent(world, conversation_id, ada, 2)

    first = await confirm(world, bob, (one, "read"), (two, "delivered"), (one, "delivered"))
    late = await confirm(world, bob, (one, "delivered"), (two, "delivered"))

    assert (first.advanced, first.unchanged, first.ignored) == (2, 0, 0)
    assert (late.advanced, late.unchanged, late.ignored) == (0, 2, 0)
    assert [tuple(row) for row in await world.database.fetch(COUNTERS)] == [(1, 1), (1, 0)]
    (event,) = await events(world, "receipts.advanced")
    assert event["channel"] == ("user", str(ada))
    assert event["conversationId"] == str(conversation_id)
    assert event["userId"] == str(bob)
    counts = {"recipients": 2, "delivered": 1}
    assert event["receipts"] == [
        dict(counts, messageId=str(one), seq=1, state="read", read=1),
        dict(counts, messageId=str(two), seq=2, state="delivered", read=0),
    ]


async def test_only_the_recipient_may_confirm(world: World) -> None:
    conversation_id, (ada, _) = await world.conversation(2)
    (one,) = await sent(world, conversation_id, ada, 1)

    for stranger in (ada, uuid4()):
        result = await confirm(world, stranger, (one, "read"), (uuid4(), "read"))
        assert (result.advanced, result.ignored) == (0, 2)

    assert tuple((await world.database.fetch(COUNTERS))[0]) == (0, 0)


async def test_second_run_of_a_job_returns_the_first_result(world: World) -> None:
    conversation_id, (ada, bob) = await world.conversation(2)
    (one,) = await sent(world, conversation_id, ada, 1)

    results = await asyncio.gather(
        *(confirm(world, bob, (one, "read"), job_id="same") for _ in range(4))
    )

    assert {result.advanced for result in results} == {1}
    assert len(await events(world, "receipts.advanced")) == 1
    assert await world.value("SELECT count(*) FROM job_inbox") == 1


async def test_device_times_are_clamped(world: World) -> None:
    """A device's clock moves a time neither before the sending nor into the future."""
    conversation_id, (ada, bob) = await world.conversation(2)
    early, late = await sent(world, conversation_id, ada, 2)
    before = datetime(2001, 1, 1, tzinfo=UTC)
    receipts = (
        Receipt(message_id=early, state="read", at=before),
        Receipt(message_id=late, state="read", at=4_102_444_800_000),
    )

    await world.messages.apply_receipts(
        DeliveryConfirmation(user_id=bob, receipts=receipts), job_id="clock"
    )

    assert await world.values(
        "SELECT read_at = sent_at AND delivered_at = sent_at FROM message_deliveries"
        " WHERE message_id = $1",
        early,
    ) == [True]
    assert await world.values(
        "SELECT read_at BETWEEN sent_at AND clock_timestamp() FROM message_deliveries"
        " WHERE message_id = $1",
        late,
    ) == [True]


async def test_read_watermark_moves_forward_within_the_conversation(world: World) -> None:
    """Goal: watermarks 5, 3, 5 and a thousand million over 800 messages end at 5, 5, 5, 800."""
    conversation_id, (ada, bob) = await world.conversation(2)
    await sent(world, conversation_id, ada, 800)

    results = [
        await confirm(world, bob, conversation_id=conversation_id, read_up_to_seq=seq)
        for seq in (5, 3, 5, 10**9)
    ]

    assert [result.read_up_to_seq for result in results] == [5, 5, 5, 800]
    moved = await events(world, "watermark.advanced")
    assert [event["readUpToSeq"] for event in moved] == [5, 800]
    assert moved[0]["channel"] == ("conversation", str(conversation_id))
    assert await world.value("SELECT sum(n_read) FROM messages") == 800
    assert await world.value("SELECT count(*) FROM message_deliveries WHERE state < 30") == 0


async def test_delivered_watermark_leaves_reading_alone(world: World) -> None:
    conversation_id, (ada, bob) = await world.conversation(2)
    await sent(world, conversation_id, ada, 4)

    await confirm(world, bob, conversation_id=conversation_id, read_up_to_seq=1)
    result = await confirm(
        world, bob, conversation_id=conversation_id, read_up_to_seq=2, delivered_up_to_seq=3
    )

    assert (result.delivered_up_to_seq, result.read_up_to_seq) == (3, 2)
    assert [tuple(row) for row in await world.database.fetch(COUNTERS)] == [
        (1, 1),
        (1, 1),
        (1, 0),
        (0, 0),
    ]


async def test_watermark_over_more_rows_than_one_statement_moves(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processors.services.receipts.ROWS_AT_ONCE", 3)
    conversation_id, (ada, bob) = await world.conversation(2)
    await sent(world, conversation_id, ada, 9)

    await confirm(world, bob, conversation_id=conversation_id, read_up_to_seq=8)

    assert await world.values("SELECT n_read FROM messages ORDER BY seq") == [1] * 8 + [0]


async def test_watermark_of_a_large_conversation(world: World) -> None:
    conversation_id, users = await world.conversation(1002)
    (one,) = await sent(world, conversation_id, users[0], 1)

    result = await confirm(
        world, users[1], (one, "read"), conversation_id=conversation_id, read_up_to_seq=1
    )

    assert (result.read_up_to_seq, result.ignored) == (1, 1)
    assert len(await events(world, "watermark.advanced")) == 1


async def test_watermark_needs_a_membership(world: World) -> None:
    conversation_id, (ada, bob) = await world.conversation(2)
    (one,) = await sent(world, conversation_id, ada, 1)

    for conversation, user, code in (
        (conversation_id, uuid4(), "not-a-member"),
        (uuid4(), bob, "unknown-conversation"),
    ):
        with pytest.raises(Refused) as refusal:
            await confirm(world, user, conversation_id=conversation, read_up_to_seq=1)
        assert refusal.value.code == code

    await world.database.execute("UPDATE conversation_members SET left_at = now()")
    result = await confirm(
        world, bob, (one, "read"), conversation_id=conversation_id, read_up_to_seq=1
    )
    # Who has left may still confirm what came before; the watermark stays.
    assert (result.advanced, result.read_up_to_seq) == (1, 0)


async def test_overlapping_batches_keep_counters_exact(world: World) -> None:
    """
    Goal: batches of many users over the same messages neither deadlock nor miscount.

    Method: 5 readers confirm 60 messages in overlapping batches, half of them in falling order,
    and by watermark, all at once over 8 connections.
    """
    conversation_id, (ada, *readers) = await world.conversation(6)
    messages = await sent(world, conversation_id, ada, 60)
    chance = random.Random(3)
    work = []
    for reader in readers:
        for start in range(0, 60, 5):
            batch = messages[start : start + 20]
            if chance.random() < 0.5:
                batch = batch[::-1]
            state = chance.choice(["delivered", "read"])
            work.append(confirm(world, reader, *((message, state) for message in batch)))
        work.append(confirm(world, reader, conversation_id=conversation_id, read_up_to_seq=30))
    chance.shuffle(work)

    await asyncio.gather(*work)

    wrong = await world.values(
        "SELECT m.seq FROM messages m JOIN message_deliveries d ON d.message_id = m.id"
        " GROUP BY m.id HAVING n_delivered <> count(*) FILTER (WHERE state >= 20)"
        " OR n_read <> count(*) FILTER (WHERE state >= 30)"
    )
    assert wrong == []
    assert await world.value("SELECT min(n_delivered) FROM messages") == 5
    assert await world.value("SELECT min(n_read) FROM messages WHERE seq <= 30") == 5
    statistics = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await world.value(statistics) == 0


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("receipts"),
            st.lists(
                st.tuples(st.integers(0, 5), st.sampled_from(["delivered", "read"])),
                min_size=1,
                max_size=6,
            ),
        ),
        st.tuples(st.sampled_from(["delivered_up_to_seq", "read_up_to_seq"]), st.integers(1, 8)),
    ),
    min_size=1,
    max_size=6,
)


@hypothesis.given(steps=STEPS, data=st.data())
@hypothesis.settings(
    max_examples=25,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
async def test_receipts_converge_in_any_order(
    world: World, steps: list[tuple[str, Any]], data: st.DataObject
) -> None:
    """
    Goal: whatever the order and repetition, the same confirmations give the same rows.

    Method: two conversations get the same steps, one of them shuffled and with repeats.
    """
    shuffled = data.draw(st.permutations(steps + steps[::2]))

    assert await played(world, steps) == await played(world, shuffled)


async def played(world: World, steps: list[tuple[str, Any]]) -> list[tuple[Any, ...]]:
    conversation_id, (ada, bob) = await world.conversation(2)
    messages = await sent(world, conversation_id, ada, 6)
    for kind, value in steps:
        if kind == "receipts":
            await confirm(world, bob, *((messages[n], state) for n, state in value))
        else:
            await confirm(world, bob, conversation_id=conversation_id, **{kind: value})
    rows = await world.database.fetch(
        "SELECT d.seq, d.state, d.delivered_at IS NOT NULL, d.read_at IS NOT NULL, n_delivered,"
        " n_read, last_delivered_seq, last_read_seq FROM message_deliveries d"
        " JOIN messages m ON m.id = message_id"
        " JOIN conversation_members c ON c.conversation_id = d.conversation_id AND c.user_id = $2"
        " WHERE d.conversation_id = $1 ORDER BY d.seq",
        conversation_id,
        bob,
    )
    return [tuple(row) for row in rows]
