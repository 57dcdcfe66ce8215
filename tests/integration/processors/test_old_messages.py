"""Old messages are cleared, later removed, and nothing else is."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from processors.settings.search import SearchSettings
from tests.integration.processors.keeper import DAY_S, Keeper

pytestmark = pytest.mark.servers

GRACE_S = 8 * DAY_S


async def test_old_messages_lose_all_that_they_said_and_young_ones_nothing(keeper: Keeper) -> None:
    conversation, users = await keeper.conversation(5)
    await keeper.age(conversation, days=31, up_to_seq=3)
    message = await keeper.world.value("SELECT id FROM messages WHERE seq = 2")
    hashed = await keeper.world.value("SELECT body_hash FROM messages WHERE seq = 2")
    await keeper.index()
    await keeper.world.database.execute(
        "INSERT INTO notifications (user_id, type, dedup_key, message_id, payload)"
        " VALUES ($1, 'message', 'a', $2, '{\"body\": \"hello\"}')",
        users[1],
        message,
    )
    await keeper.world.database.execute(
        "UPDATE messages SET mentions = $1 WHERE id = $2", [users[1]], message
    )

    result = await keeper.old()

    assert result.counts == {"messagesCleared": 3, "notificationsRemoved": 1, "marksMoved": 1}
    assert result.complete
    assert await keeper.living(conversation) == [4, 5]
    assert await keeper.rows(conversation) == [1, 2, 3, 4, 5]
    assert await keeper.mark(conversation) == 3
    assert await keeper.world.values("SELECT seq FROM message_search ORDER BY seq") == [4, 5]
    found = await keeper.world.database.fetchrow("SELECT * FROM messages WHERE id = $1", message)
    assert found is not None
    assert (found["mentions"], found["ciphertext"], found["key_id"]) == ([], None, None)
    assert found["body_hash"] != hashed


async def test_clients_are_told_up_to_where_messages_are_gone(keeper: Keeper) -> None:
    conversation, _ = await keeper.conversation(3)
    await keeper.age(conversation, days=31, up_to_seq=2)

    await keeper.old()

    event = await keeper.world.value(
        "SELECT payload FROM outbox WHERE payload->>'type' = 'conversation.purged'"
    )
    assert event == {
        "type": "conversation.purged",
        "conversationId": str(conversation),
        "purgedThroughSeq": 2,
    }


async def test_rows_go_after_the_grace_with_all_that_hangs_on_them(keeper: Keeper) -> None:
    conversation, users = await keeper.conversation(4)
    await keeper.age(conversation, days=31, up_to_seq=3)
    await keeper.world.database.execute(
        "INSERT INTO message_reads SELECT id, $1, now() FROM messages", users[1]
    )

    await keeper.old()
    early = await keeper.old()
    keeper.clock.move(GRACE_S)
    late = await keeper.old()

    assert early.counts == {}
    assert late.counts == {"messagesRemoved": 3}
    assert await keeper.rows(conversation) == [4]
    assert await keeper.world.value("SELECT count(*) FROM message_deliveries") == 1
    assert await keeper.world.value("SELECT count(*) FROM message_reads") == 1
    assert await keeper.mark(conversation) == 3


async def test_numbers_go_on_behind_an_empty_conversation(keeper: Keeper) -> None:
    conversation, users = await keeper.conversation(2)
    await keeper.age(conversation, days=31, up_to_seq=2)
    await keeper.old()
    keeper.clock.move(GRACE_S)
    await keeper.old()

    sent = await keeper.world.send(conversation, users[0])

    assert sent.seq == 3
    assert await keeper.rows(conversation) == [3]
    assert await keeper.mark(conversation) == 2


async def test_a_message_that_its_author_deleted_leaves_no_hole(keeper: Keeper) -> None:
    """Its row stays until all messages before it are gone too."""
    conversation, users = await keeper.conversation(1)
    attachment = await keeper.upload(users[0])
    deleted = await keeper.send_with(conversation, users[0], attachment)
    await keeper.world.send(conversation, users[0])
    await keeper.world.database.execute(
        "UPDATE messages SET body = NULL, deleted_at = now() WHERE id = $1", deleted
    )
    keeper.clock.move(GRACE_S)

    result = await keeper.old()

    assert await keeper.rows(conversation) == [1, 2, 3]
    assert result.counts == {"attachmentsRemoved": 1, "objectsQueued": 1}
    await keeper.age(conversation, days=31, up_to_seq=3)
    await keeper.old()
    keeper.clock.move(GRACE_S)
    assert (await keeper.old()).counts == {"messagesRemoved": 3}


async def test_an_older_message_behind_a_younger_one_waits_for_it(keeper: Keeper) -> None:
    conversation, _ = await keeper.conversation(3)
    await keeper.world.database.execute(
        "UPDATE messages SET created_at = created_at - interval '40 days' WHERE seq <> 2"
    )

    await keeper.old()

    assert await keeper.living(conversation) == [2, 3]
    assert await keeper.mark(conversation) == 1


async def test_the_closest_policy_counts_within_the_legal_bounds(keeper: Keeper) -> None:
    keeper.set(days=30, days_min=5, days_max=60)
    aged: dict[str, UUID] = {}
    for name in ("hold", "own", "tenant", "default", "forever", "too short"):
        aged[name], _ = await keeper.conversation(1)
    own, tenant, held, forever, short = (
        aged[name] for name in ("own", "tenant", "hold", "forever", "too short")
    )
    people = keeper.governance
    await people.set_legal_hold(held, held=True, actor="law", reason="case 7")
    await people.set_retention(held, 10, actor="law")
    await people.set_retention(own, 10, actor="ann")
    await people.set_retention(short, 1, actor="ann")
    await people.set_policy("acme", 50, actor="ann")
    await people.set_policy("slow", None, actor="ann")
    for conversation, name in ((own, "acme"), (tenant, "acme"), (forever, "slow")):
        await keeper.world.database.execute(
            "UPDATE conversations SET tenant_id = $2 WHERE id = $1", conversation, name
        )
    gone_after: dict[str, int] = {}

    for day in (1, 4, 6, 9, 11, 29, 31, 49, 51, 59, 61, 400):
        keeper.clock.move(day * DAY_S - keeper.clock.monotonic())
        await keeper.old()
        for name, conversation in aged.items():
            if not await keeper.living(conversation):
                gone_after.setdefault(name, day)

    assert gone_after == {"too short": 6, "own": 11, "default": 31, "tenant": 51, "forever": 61}


async def test_the_default_of_the_database_stands_above_that_of_the_settings(
    keeper: Keeper,
) -> None:
    conversation, _ = await keeper.conversation(1)
    keeper.clock.move(31 * DAY_S)
    await keeper.governance.set_policy(None, None, actor="ann")

    await keeper.old()
    kept = await keeper.living(conversation)
    await keeper.governance.clear_policy(None, actor="ann")
    await keeper.old()

    assert kept == [1]
    assert await keeper.living(conversation) == []


async def test_the_days_of_an_order_stand_in_for_the_default_alone(keeper: Keeper) -> None:
    own, _ = await keeper.conversation(1)
    other, _ = await keeper.conversation(1)
    await keeper.governance.set_retention(own, 20, actor="ann")
    keeper.clock.move(11 * DAY_S)

    await keeper.old(older_than_days=10)

    assert await keeper.living(own) == [1]
    assert await keeper.living(other) == []


async def test_a_hold_keeps_what_is_left_at_every_stage(keeper: Keeper) -> None:
    conversation, users = await keeper.conversation(1)
    attachment = await keeper.upload(users[0])
    await keeper.send_with(conversation, users[0], attachment)
    await keeper.age(conversation, days=31, up_to_seq=1)
    await keeper.old()
    await keeper.governance.set_legal_hold(conversation, held=True, actor="law", reason="case 7")
    await keeper.world.database.execute(
        "UPDATE messages SET body = NULL, deleted_at = now() WHERE seq = 2"
    )
    keeper.clock.move(100 * DAY_S)

    held = await keeper.old()
    held_rows = await keeper.rows(conversation)
    await keeper.governance.set_legal_hold(conversation, held=False, actor="law", reason="closed")
    await keeper.old()
    keeper.clock.move(GRACE_S)
    await keeper.old()

    assert held.counts == {}
    assert held_rows == [1, 2]
    assert await keeper.rows(conversation) == []
    assert await keeper.world.value("SELECT count(*) FROM object_deletions") == 1


async def test_a_dry_run_tells_by_policy_and_changes_nothing(keeper: Keeper) -> None:
    plain, users = await keeper.conversation(3)
    held, _ = await keeper.conversation(2)
    tenant, _ = await keeper.conversation(2)
    await keeper.world.database.execute(
        "UPDATE conversations SET tenant_id = 'acme' WHERE id = $1", tenant
    )
    await keeper.governance.set_policy("acme", 10, actor="ann")
    await keeper.governance.set_legal_hold(held, held=True, actor="law", reason="case 7")
    await keeper.send_with(plain, users[0], await keeper.upload(users[0]))
    await keeper.age(plain, days=31, up_to_seq=2)
    await keeper.age(held, days=31, up_to_seq=2)
    await keeper.age(tenant, days=11, up_to_seq=1)
    before = await keeper.tables()

    result = await keeper.old(dry_run=True)

    assert await keeper.tables() == before
    told = {each.policy: (each.days, each.conversations, each.messages) for each in result.policies}
    assert told == {"default": (30, 1, 2), "hold": (None, 1, 0), "tenant:acme": (10, 1, 1)}
    assert result.counts == {"conversations": 3, "messagesCleared": 3}
    assert result.dry_run
    assert result.complete


async def test_an_index_elsewhere_is_told_of_what_was_cleared(keeper: Keeper) -> None:
    conversation, _ = await keeper.conversation(3)
    await keeper.age(conversation, days=31, up_to_seq=2)
    old = await keeper.world.values("SELECT id FROM messages WHERE seq <= 2")
    keeper.search = SearchSettings(index="some.index:open")

    await keeper.old()

    assert await keeper.unindexed() == set(old)


async def test_one_conversation_alone_is_cleaned_when_one_is_named(keeper: Keeper) -> None:
    one, _ = await keeper.conversation(1)
    other, _ = await keeper.conversation(1)
    keeper.clock.move(31 * DAY_S)

    await keeper.old(conversation_id=one)
    unknown = await keeper.old(conversation_id=uuid4())

    assert await keeper.living(one) == []
    assert await keeper.living(other) == [1]
    assert unknown.counts == {}


async def test_pages_of_many_conversations_are_gone_through(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processors.services.purge.PAGE", 2)
    monkeypatch.setattr("processors.services.retention_plan.PAGE", 2)
    for _ in range(5):
        await keeper.conversation(2)
    keeper.clock.move(31 * DAY_S)

    planned = await keeper.old(dry_run=True)
    result = await keeper.old()

    assert planned.counts == {"conversations": 5, "messagesCleared": 10}
    assert result.counts == {"messagesCleared": 10, "marksMoved": 5}


async def test_encrypted_messages_are_cleared_like_others(keeper: Keeper) -> None:
    conversation, _ = await keeper.conversation(1)
    await keeper.world.database.execute(
        "UPDATE messages SET body = NULL, ciphertext = 'x', key_id = $1", uuid4()
    )
    keeper.clock.move(31 * DAY_S)

    await keeper.old()

    found = await keeper.world.database.fetchrow("SELECT * FROM messages")
    assert found is not None
    assert (found["ciphertext"], found["key_id"]) == (None, None)
    assert await keeper.mark(conversation) == 1
