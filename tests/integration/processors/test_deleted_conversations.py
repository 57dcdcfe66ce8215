"""Deleted conversations go with all that belongs to them, and no other goes."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from processors.errors import Refused
from processors.settings.search import SearchSettings
from schemas.messages import CleanupDeletedConversations
from tests.integration.processors.keeper import DAY_S, TABLES, Keeper

pytestmark = pytest.mark.servers


async def furnished(keeper: Keeper, messages: int = 3) -> tuple[UUID, list[UUID]]:
    """Make a conversation that has a row in each table that can refer to one."""
    conversation, users = await keeper.conversation(messages - 1)
    await keeper.send_with(conversation, users[0], await keeper.upload(users[0]))
    database = keeper.world.database
    await keeper.index()
    await database.execute(
        "INSERT INTO message_reads SELECT id, $2, now() FROM messages WHERE conversation_id = $1",
        conversation,
        users[1],
    )
    await database.execute(
        "INSERT INTO encryption_keys (id, conversation_id, purpose, epoch, kek_id, wrapped)"
        " VALUES ($1, $2, 'data', 1, 'k', 'w')",
        uuid4(),
        conversation,
    )
    await database.execute(
        "INSERT INTO notifications (user_id, type, dedup_key, conversation_id)"
        " VALUES ($1, 'added', $2, $3)",
        users[1],
        str(conversation),
        conversation,
    )
    await database.execute(
        "INSERT INTO notification_digests VALUES ($1, 'email', $2, now(), 1, 1, 1)",
        users[1],
        conversation,
    )
    return conversation, users


async def leftovers(keeper: Keeper, conversation: UUID) -> dict[str, int]:
    """Count rows that still name a conversation, by table."""
    found = {}
    for table in (*TABLES, "notification_digests", "message_reads"):
        if table in ("audit_log", "outbox", "job_inbox", "object_deletions", "attachments"):
            continue
        found[table] = await keeper.world.value(
            f"SELECT count(*) FROM {table} t WHERE t::text LIKE '%' || $1 || '%'",
            str(conversation),
        )
    return {table: rows for table, rows in found.items() if rows}


async def test_a_conversation_goes_with_all_that_belongs_to_it(keeper: Keeper) -> None:
    conversation, _ = await furnished(keeper)
    other, _ = await furnished(keeper)
    before = await leftovers(keeper, other)
    await keeper.governance.soft_delete(conversation, actor="ann")
    early = await keeper.deleted()
    keeper.clock.move(31 * DAY_S)

    late = await keeper.deleted()

    assert early.counts == {}
    assert late.counts == {
        "messagesRemoved": 3,
        "attachmentsRemoved": 1,
        "objectsQueued": 1,
        "notificationsRemoved": 1,
        "membersRemoved": 2,
        "keysRemoved": 1,
        "conversationsRemoved": 1,
    }
    assert await leftovers(keeper, conversation) == {}
    assert await leftovers(keeper, other) == before
    actions = await keeper.world.values("SELECT action FROM audit_log ORDER BY id")
    assert actions == ["conversation.deleted", "conversation.removed"]


async def test_an_index_elsewhere_is_told_of_what_went(keeper: Keeper) -> None:
    conversation, _ = await furnished(keeper)
    await furnished(keeper)
    gone = await keeper.world.values(
        "SELECT id FROM messages WHERE conversation_id = $1", conversation
    )
    await keeper.governance.soft_delete(conversation, actor="ann")
    keeper.clock.move(31 * DAY_S)
    keeper.search = SearchSettings(index="some.index:open")

    await keeper.deleted()

    assert await keeper.unindexed() == set(gone)


async def test_a_dry_run_counts_and_changes_nothing(keeper: Keeper) -> None:
    conversation, _ = await furnished(keeper)
    await keeper.governance.soft_delete(conversation, actor="ann")
    keeper.clock.move(31 * DAY_S)
    before = await keeper.tables()

    result = await keeper.deleted(dry_run=True)

    assert result.counts == {"conversationsRemoved": 1, "messagesRemoved": 3}
    assert await keeper.tables() == before


async def test_a_hold_keeps_a_deleted_conversation(keeper: Keeper) -> None:
    conversation, _ = await furnished(keeper)
    await keeper.governance.soft_delete(conversation, actor="ann")
    await keeper.governance.set_legal_hold(conversation, held=True, actor="law", reason="case 7")
    keeper.clock.move(400 * DAY_S)
    before = await leftovers(keeper, conversation)

    result = await keeper.deleted()
    # Retention of the messages in it does not get around the hold either.
    await keeper.old()

    assert result.counts == {}
    assert await leftovers(keeper, conversation) == before


async def test_a_restored_conversation_is_left_alone(keeper: Keeper) -> None:
    conversation, users = await furnished(keeper)
    await keeper.governance.soft_delete(conversation, actor="ann")
    with pytest.raises(Refused, match="conversation-deleted"):
        await keeper.world.send(conversation, users[0])
    await keeper.governance.restore(conversation, actor="ann")
    keeper.clock.move(31 * DAY_S)

    result = await keeper.deleted()

    assert result.counts == {}
    assert (await keeper.world.send(conversation, users[0])).seq == 4


async def test_the_days_of_an_order_replace_those_of_the_settings(keeper: Keeper) -> None:
    conversation, _ = await furnished(keeper)
    await keeper.governance.soft_delete(conversation, actor="ann")
    keeper.clock.move(3 * DAY_S)

    result = await keeper.deleted(older_than_days=2, conversation_id=conversation)

    assert result.counts["conversationsRemoved"] == 1


async def test_three_workers_remove_each_conversation_once(keeper: Keeper) -> None:
    for _ in range(6):
        conversation, _ = await furnished(keeper, messages=5)
        await keeper.governance.soft_delete(conversation, actor="ann")
    keeper.clock.move(31 * DAY_S)
    keeper.set(batch_rows=2)

    results = await asyncio.gather(*(keeper.deleted() for _ in range(3)))
    results += [await keeper.deleted()]

    def total(name: str) -> int:
        return sum(result.counts.get(name, 0) for result in results)

    assert total("messagesRemoved") == 30
    assert total("conversationsRemoved") == 6
    assert total("attachmentsRemoved") == total("objectsQueued") == 6
    assert await keeper.world.value("SELECT count(*) FROM conversations") == 0


async def test_a_limit_holds_over_deliveries_of_the_same_job(keeper: Keeper) -> None:
    conversation, _ = await furnished(keeper, messages=5)
    await keeper.governance.soft_delete(conversation, actor="ann")
    keeper.clock.move(31 * DAY_S)
    order = CleanupDeletedConversations(rows_max=2)

    results = [
        await keeper.retention.purge_conversations(order, job_id="a"),
        await keeper.retention.purge_conversations(order, job_id="a"),
    ]

    assert results[0] == results[1]
    assert await keeper.world.value("SELECT count(*) FROM messages") == 3


async def test_each_decision_leaves_one_row_in_the_audit_log(keeper: Keeper) -> None:
    conversation, _ = await keeper.conversation(1)
    people = keeper.governance
    for _ in range(2):
        await people.set_legal_hold(conversation, held=True, actor="law", reason="case 7")
        await people.set_retention(conversation, 90, actor="ann")
        await people.set_policy("acme", 30, actor="bob")
    await people.set_legal_hold(conversation, held=False, actor="law", reason="closed")
    await people.clear_policy("acme", actor="bob")
    for _ in range(2):
        await people.soft_delete(conversation, actor="ann")
    await people.restore(conversation, actor="ann")

    rows = await keeper.world.database.fetch(
        "SELECT actor, action, subject FROM audit_log ORDER BY id"
    )

    where = {"conversationId": str(conversation)}
    assert [tuple(row) for row in rows] == [
        ("law", "hold.set", {**where, "reason": "case 7"}),
        ("ann", "retention.set", {**where, "days": 90, "before": None}),
        ("bob", "retention.set", {"scope": "tenant", "id": "acme", "days": 30, "before": None}),
        ("law", "hold.lifted", {**where, "reason": "closed"}),
        ("bob", "retention.cleared", {"scope": "tenant", "id": "acme", "before": 30}),
        ("ann", "conversation.deleted", {**where, "lastSeq": 1}),
        ("ann", "conversation.restored", where),
    ]


async def test_decisions_that_cannot_be_meant_are_refused(keeper: Keeper) -> None:
    conversation, _ = await keeper.conversation(0)
    people = keeper.governance

    for refused, code in (
        (people.soft_delete(uuid4(), actor="ann"), "unknown-conversation"),
        (people.set_retention(uuid4(), 5, actor="ann"), "unknown-conversation"),
        (people.set_retention(conversation, 0, actor="ann"), "invalid-days"),
        (people.set_policy("acme", 36_501, actor="ann"), "invalid-days"),
        (
            people.set_legal_hold(conversation, held=True, actor="law", reason=" "),
            "no-reason",
        ),
    ):
        with pytest.raises(Refused) as error:
            await refused
        assert error.value.code == code
    assert await keeper.world.value("SELECT count(*) FROM audit_log") == 0
