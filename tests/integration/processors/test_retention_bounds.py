"""How much one transaction of a removal does, and whom it waits for."""

from __future__ import annotations

from uuid import UUID

import pytest

from processors.services import removal
from tests.integration.processors.keeper import DAY_S, Keeper

pytestmark = pytest.mark.servers

GRACE_S = 8 * DAY_S


async def notify(keeper: Keeper, conversation: UUID, users: list[UUID]) -> None:
    """Tell users of each message of a conversation."""
    await keeper.world.database.execute(
        "INSERT INTO notifications (user_id, type, dedup_key, conversation_id, message_id, seq)"
        " SELECT u, 'message', m.id::text, m.conversation_id, m.id, m.seq"
        " FROM messages m CROSS JOIN unnest($2::uuid[]) AS u WHERE m.conversation_id = $1",
        conversation,
        users,
    )


async def forbid_removals(keeper: Keeper, table: str, *, above: int) -> None:
    """Let statements fail that remove more rows of a table than that."""
    await keeper.world.database.execute(
        "CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF (SELECT count(*) FROM gone) > {above} THEN RAISE 'too many at once'; END IF;"
        f" RETURN NULL; END $$; CREATE TRIGGER forbid AFTER DELETE ON {table}"
        " REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION forbid()"
    )


async def test_notifications_go_in_steps_however_many_a_message_has(keeper: Keeper) -> None:
    conversation, users = await keeper.conversation(3, members=6)
    await notify(keeper, conversation, users)
    await keeper.age(conversation, days=31, up_to_seq=2)
    await forbid_removals(keeper, "notifications", above=4)
    keeper.set(batch_rows=4)

    result = await keeper.old()

    assert result.counts == {"notificationsRemoved": 12, "messagesCleared": 2, "marksMoved": 1}
    assert await keeper.world.values("SELECT DISTINCT seq FROM notifications") == [3]


async def test_notifications_of_a_deleted_conversation_go_in_steps(keeper: Keeper) -> None:
    conversation, users = await keeper.conversation(2, members=6)
    await notify(keeper, conversation, users)
    await keeper.world.database.execute("UPDATE conversations SET deleted_at = now()")
    await forbid_removals(keeper, "notifications", above=4)
    keeper.set(batch_rows=4)
    keeper.clock.move(31 * DAY_S)

    result = await keeper.deleted()

    assert result.counts["notificationsRemoved"] == 12
    assert result.counts["conversationsRemoved"] == 1


async def test_messages_with_many_delivery_rows_go_in_smaller_steps(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one alone has more than a step may have."""
    conversation, _ = await keeper.conversation(5, members=3)
    small, _ = await keeper.conversation(2)
    for each in (conversation, small):
        await keeper.age(each, days=31, up_to_seq=5)
    await keeper.old()
    keeper.clock.move(GRACE_S)
    await forbid_removals(keeper, "messages", above=1)
    monkeypatch.setattr(removal, "DELIVERIES_MAX", 1)

    result = await keeper.old()

    assert result.counts == {"messagesRemoved": 7}


async def test_a_deleted_conversation_with_many_delivery_rows_goes_in_smaller_steps(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keeper.conversation(5, members=3)
    await keeper.world.database.execute("UPDATE conversations SET deleted_at = now()")
    keeper.clock.move(31 * DAY_S)
    await forbid_removals(keeper, "messages", above=2)
    monkeypatch.setattr(removal, "DELIVERIES_MAX", 4)

    result = await keeper.deleted()

    assert result.counts["messagesRemoved"] == 5


async def test_messages_wait_for_a_notification_in_others_hands_and_nobody_else_does(
    keeper: Keeper,
) -> None:
    """Goal: no removal holds a message while it waits for a notification, as a receipt may."""
    conversation, users = await keeper.conversation(3)
    await notify(keeper, conversation, users[:1])
    await keeper.age(conversation, days=31, up_to_seq=3)
    async with keeper.world.database.transaction() as other:
        await other.execute("SELECT FROM notifications WHERE seq = 2 FOR UPDATE")
        first = await keeper.old()
        left = await keeper.living(conversation), await keeper.mark(conversation)

    second = await keeper.old()

    assert first.counts == {"notificationsRemoved": 2, "messagesCleared": 2, "marksMoved": 1}
    assert left == ([2], 1)
    assert second.counts == {"notificationsRemoved": 1, "messagesCleared": 1, "marksMoved": 1}


async def test_rows_wait_for_a_notification_in_others_hands(keeper: Keeper) -> None:
    """Those that their authors deleted may be told of until their rows go."""
    conversation, users = await keeper.conversation(2)
    await keeper.age(conversation, days=31, up_to_seq=2)
    await keeper.old()
    await notify(keeper, conversation, users[:1])
    keeper.clock.move(GRACE_S)
    async with keeper.world.database.transaction() as other:
        await other.execute("SELECT FROM notifications WHERE seq = 1 FOR UPDATE")
        first = await keeper.old()

    second = await keeper.old()

    assert first.counts == {"notificationsRemoved": 1, "messagesRemoved": 1}
    assert second.counts == {"notificationsRemoved": 1, "messagesRemoved": 1}


async def fail_for(keeper: Keeper, conversation: UUID, code: str) -> None:
    """Let statements fail that take a message of a conversation out of the search index."""
    await keeper.index()
    await keeper.world.database.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF old.conversation_id = '{conversation}' THEN"
        f" RAISE 'too long' USING ERRCODE = '{code}'; END IF; RETURN old; END $$;"
        " CREATE TRIGGER fail BEFORE DELETE ON message_search"
        " FOR EACH ROW EXECUTE FUNCTION fail()"
    )


@pytest.mark.parametrize("code", ["55P03", "57014"])
async def test_one_conversation_that_cannot_be_cleared_does_not_keep_the_others(
    keeper: Keeper, code: str
) -> None:
    conversations = sorted([(await keeper.conversation(2))[0] for _ in range(3)])
    for conversation in conversations:
        await keeper.age(conversation, days=31, up_to_seq=2)
    await fail_for(keeper, conversations[1], code)

    first = await keeper.old()
    left = [await keeper.living(each) for each in conversations]
    await keeper.world.database.execute("DROP TRIGGER fail ON message_search")
    second = await keeper.old()

    assert first.complete
    assert first.counts == {"messagesCleared": 4, "marksMoved": 2, "conversationsPassedOver": 1}
    assert left == [[], [1, 2], []]
    assert second.counts == {"messagesCleared": 2, "marksMoved": 1}


async def test_jobs_that_go_on_do_not_try_again_what_was_passed_over(keeper: Keeper) -> None:
    conversations = sorted([(await keeper.conversation(2))[0] for _ in range(2)])
    for conversation in conversations:
        await keeper.age(conversation, days=31, up_to_seq=2)
    await fail_for(keeper, conversations[0], "55P03")
    keeper.set(job_rows_max=1)

    result = await keeper.old()

    following = await keeper.world.value(
        "SELECT payload->'data' FROM outbox WHERE topic = 'job' AND payload->>'id' = $1",
        result.follow_up,
    )
    assert result.counts["messagesCleared"] == 1
    assert following["after"] == f"pages:{conversations[0]}"


async def test_rows_that_cannot_be_removed_do_not_keep_the_others(keeper: Keeper) -> None:
    conversations = sorted([(await keeper.conversation(2))[0] for _ in range(3)])
    for conversation in conversations:
        await keeper.age(conversation, days=31, up_to_seq=2)
    await keeper.old()
    keeper.clock.move(GRACE_S)
    await fail_for(keeper, conversations[1], "55P03")

    result = await keeper.old()

    assert result.counts == {"messagesRemoved": 4, "conversationsPassedOver": 1}
    assert [await keeper.rows(each) for each in conversations] == [[], [1, 2], []]
