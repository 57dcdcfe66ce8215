"""Messages that are edited or deleted after they were sent, and what is told of them."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from processors.errors import Refused
from processors.services.changes import ChangeService
from schemas.messages import DeliveryConfirmation
from tests.integration.processors.world import World

pytestmark = pytest.mark.servers


async def events(world: World, kind: str) -> list[Any]:
    return await world.values(
        "SELECT payload FROM outbox WHERE payload->>'type' = $1 ORDER BY id", kind
    )


async def actions(world: World) -> list[str]:
    return await world.values(
        "SELECT payload->'data'->>'action' FROM outbox WHERE topic = 'job' AND key = 'indexing'"
        " ORDER BY id"
    )


async def refused(coroutine: Any) -> str:
    with pytest.raises(Refused) as refusal:
        await coroutine
    return refusal.value.code


async def test_an_edit_is_told_and_indexed(world: World) -> None:
    conversation, (ada, _) = await world.conversation(2)
    sent = await world.send(conversation, ada, client_id="c", content="one")

    version = await world.messages.edit(sent.message_id, ada, "two")

    assert version == 2
    assert await world.value("SELECT body FROM messages") == "two"
    (event,) = await events(world, "message.edited")
    assert (event["content"], event["seq"], event["version"]) == ("two", 1, 2)
    assert await actions(world) == ["index", "update"]
    # A late repetition of the sending finds the message, whatever it says by now.
    assert (await world.send(conversation, ada, client_id="c", content="one")).duplicate


async def test_edits_at_once_are_both_made(world: World) -> None:
    conversation, (ada, _) = await world.conversation(2)
    sent = await world.send(conversation, ada)

    versions = await asyncio.gather(
        *(world.messages.edit(sent.message_id, ada, text) for text in ("a", "b"))
    )

    assert sorted(versions) == [2, 3]
    assert [event["version"] for event in await events(world, "message.edited")] == [2, 3]


async def test_only_the_sender_edits_and_only_what_is_there(world: World) -> None:
    conversation, (ada, bob) = await world.conversation(2)
    sent = await world.send(conversation, ada)
    edit = world.messages.edit

    assert await refused(edit(sent.message_id, bob, "x")) == "not-the-sender"
    assert await refused(edit(sent.message_id, ada, " ")) == "invalid-content"
    assert await refused(edit(uuid4(), ada, "x")) == "unknown-message"
    await world.messages.soft_delete(sent.message_id, ada)
    assert await refused(edit(sent.message_id, ada, "x")) == "message-deleted"


async def test_deleting_takes_the_contents_and_leaves_the_place(world: World) -> None:
    conversation, (ada, _) = await world.conversation(2)
    sent = await world.send(conversation, ada)
    delete = world.messages.soft_delete

    first, again = await delete(sent.message_id, ada), await delete(sent.message_id, ada)

    assert (first, again) == (True, False)
    assert await world.value("SELECT (body, seq)::text FROM messages") == "(,1)"
    (event,) = await events(world, "message.deleted")
    assert event["seq"] == 1
    assert await actions(world) == ["index", "delete"]
    assert (await world.messages.status(sent.message_id)).state == "deleted"


async def test_who_keeps_order_may_delete(world: World) -> None:
    conversation, (ada, bob, cleo) = await world.conversation(3)
    sent = await world.send(conversation, ada)
    await world.database.execute(
        "UPDATE conversation_members SET role = 'admin' WHERE user_id = $1", bob
    )

    assert await refused(world.messages.soft_delete(sent.message_id, cleo)) == "not-allowed"
    assert await world.messages.soft_delete(sent.message_id, bob)


async def test_status_says_how_far_a_message_came(world: World) -> None:
    conversation, (ada, *others) = await world.conversation(3)
    sent = await world.send(conversation, ada)
    states = [(await world.messages.status(sent.message_id)).state]

    for field in ("delivered_up_to_seq", "read_up_to_seq"):
        for user in others:
            await confirm(world, user, conversation_id=conversation, **{field: 1})
        states.append((await world.messages.status(sent.message_id)).state)

    assert states == ["sent", "delivered", "read"]
    assert await refused(world.messages.status(uuid4())) == "unknown-message"


async def confirm(world: World, user: UUID, **fields: Any) -> Any:
    confirmation = DeliveryConfirmation(user_id=user, **fields)
    return await world.messages.apply_receipts(confirmation, job_id=str(uuid4()))


async def test_a_hold_keeps_messages_as_they_are(world: World) -> None:
    conversation, (ada, _) = await world.conversation(2)
    sent = await world.send(conversation, ada, content="evidence")
    await world.database.execute("UPDATE conversations SET legal_hold = true")

    assert await refused(world.messages.edit(sent.message_id, ada, "x")) == "legal-hold"
    assert await refused(world.messages.soft_delete(sent.message_id, ada)) == "legal-hold"
    assert await world.value("SELECT body FROM messages") == "evidence"


async def test_who_is_disabled_changes_nothing(world: World) -> None:
    conversation, (ada, _) = await world.conversation(2)
    sent = await world.send(conversation, ada)
    await world.database.execute("UPDATE users SET disabled_at = now() WHERE id = $1", ada)

    assert await refused(world.messages.edit(sent.message_id, ada, "x")) == "not-the-sender"
    assert await refused(world.messages.soft_delete(sent.message_id, ada)) == "not-allowed"


async def test_an_edit_that_meets_encryption_is_sealed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: encryption that is turned on between the look and the change leaves no plain text."""
    conversation, (ada, _) = await world.conversation(2)
    sent = await world.send(conversation, ada, client_id="c", content="1234")
    plain_hash = await world.value("SELECT body_hash FROM messages")
    columns = ChangeService._columns
    calls: list[None] = []

    async def meanwhile(service: ChangeService, found: Any, content: str) -> Any:
        made = await columns(service, found, content)
        if not calls:
            calls.append(None)
            await world.database.execute(
                "UPDATE conversations SET encrypted = true, search_mode = 'none'"
            )
        return made

    monkeypatch.setattr(ChangeService, "_columns", meanwhile)
    await world.messages.edit(sent.message_id, ada, "SECRET")

    row = await world.database.fetchrow("SELECT body, key_id, body_hash FROM messages")
    assert row is not None
    assert (row["body"], row["key_id"] is not None) == (None, True)
    assert row["body_hash"] != plain_hash
    assert "SECRET" not in str(await events(world, "message.edited"))


async def test_deleting_takes_the_hash_and_still_knows_the_message(world: World) -> None:
    conversation, (ada, _) = await world.conversation(2)
    sent = await world.send(conversation, ada, client_id="c", content="1234")
    before = await world.value("SELECT body_hash FROM messages")

    await world.messages.soft_delete(sent.message_id, ada)

    assert await world.value("SELECT body_hash FROM messages") != before
    assert (await world.send(conversation, ada, client_id="c", content="1234")).duplicate
