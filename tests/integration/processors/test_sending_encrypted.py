"""Messages of encrypted conversations are sealed before they reach the database."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from uuid import UUID

import pytest

from processors.errors import Refused, ServiceUnavailable
from processors.services.encryption import EncryptionService
from processors.services.keys import NoKeys
from processors.services.protocols import Envelope, Place
from schemas.messages import SendMessage, SendResult
from tests.integration.processors.world import World

pytestmark = pytest.mark.servers

SECRET = "the canary sings at noon"


async def encrypted(world: World, members: int = 2) -> tuple[UUID, list[UUID]]:
    place, users = await world.conversation(members)
    await world.database.execute(
        "UPDATE conversations SET encrypted = true, search_mode = 'blind' WHERE id = $1", place
    )
    return place, users


async def opened(world: World, message_id: UUID) -> str:
    row = await world.database.fetchrow(
        "SELECT conversation_id, version, key_id, ciphertext FROM messages WHERE id = $1",
        message_id,
    )
    assert row is not None
    where = Place(row["conversation_id"], message_id, row["version"])
    envelope = Envelope(row["key_id"], row["ciphertext"])
    return (await world.encryption.open(where, envelope)).decode()


async def stored(world: World) -> str:
    """All that the database holds of messages and events, as text."""
    parts = [
        await world.values(f"SELECT t::text FROM {table} t")
        for table in ("messages", "outbox", "message_deliveries", "notifications", "job_inbox")
    ]
    return "\n".join(line for part in parts for line in part)


async def test_nothing_is_written_in_the_clear(world: World) -> None:
    place, (ada, _) = await encrypted(world)

    sent = await world.send(place, ada, content=SECRET)

    assert await opened(world, sent.message_id) == SECRET
    text = await stored(world)
    assert SECRET not in text
    assert SECRET.encode().hex() not in text
    event = await world.value("SELECT payload FROM outbox WHERE topic = 'conversation'")
    assert event["encrypted"] is True
    assert "content" not in event


async def test_sending_again_is_a_duplicate_and_another_text_is_refused(world: World) -> None:
    place, (ada, _) = await encrypted(world)

    first = await world.send(place, ada, client_id="c", content=SECRET)
    again = await world.send(place, ada, client_id="c", content=SECRET)

    assert (again.message_id, again.duplicate) == (first.message_id, True)
    with pytest.raises(Refused, match="client-message-id-reused"):
        await world.send(place, ada, client_id="c", content="another")


async def test_what_was_sent_before_encryption_is_still_known(world: World) -> None:
    place, (ada, _) = await world.conversation(2)
    before = await world.send(place, ada, client_id="c", content=SECRET)
    await world.database.execute("UPDATE conversations SET encrypted = true, search_mode = 'none'")

    after = await world.send(place, ada, client_id="d", content=SECRET)
    again = await world.send(place, ada, client_id="c", content=SECRET)

    assert (after.seq, after.duplicate) == (2, False)
    assert (again.message_id, again.duplicate) == (before.message_id, True)


async def test_plain_and_encrypted_conversations_share_a_call(world: World) -> None:
    plain, (ada, _) = await world.conversation(2)
    sealed, (bob, _) = await encrypted(world)

    def message(place: UUID, sender: UUID, number: int) -> SendMessage:
        return SendMessage(
            conversation_id=place,
            sender_id=sender,
            content=f"{SECRET} {number}",
            client_message_id=f"m{number}",
        )

    outcomes = await world.messages.send_many(
        [message(*((plain, ada) if n % 2 else (sealed, bob)), n) for n in range(8)]
    )

    results = [each for each in outcomes if isinstance(each, SendResult)]
    assert [each.seq for each in results] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert [await opened(world, each.message_id) for each in results[::2]] == [
        f"{SECRET} {n}" for n in range(0, 8, 2)
    ]


async def test_an_edit_is_sealed_as_its_version(world: World) -> None:
    place, (ada, _) = await encrypted(world)
    sent = await world.send(place, ada, content="one")

    await world.messages.edit(sent.message_id, ada, SECRET)

    assert await opened(world, sent.message_id) == SECRET
    assert SECRET not in await stored(world)
    event = await world.value(
        "SELECT payload FROM outbox WHERE payload->>'type' = 'message.edited'"
    )
    assert (event["encrypted"], event["version"]) == (True, 2)


async def test_without_keys_messages_wait_and_plain_ones_go_on(world: World) -> None:
    """Goal: a missing keyring is an operator's matter; it never leads to plaintext."""
    plain, (ada, _) = await world.conversation(2)
    sealed, (bob, _) = await encrypted(world)
    keyless = EncryptionService(
        world.database, NoKeys(), world.settings.encryption, clock=world.clock
    )
    service = world.messages_with(keyless)

    def message(place: UUID, sender: UUID) -> SendMessage:
        return SendMessage(
            conversation_id=place, sender_id=sender, content=SECRET, client_message_id="c"
        )

    outcomes: list[Any] = await service.send_many([message(plain, ada), message(sealed, bob)])

    assert isinstance(outcomes[0], SendResult)
    assert isinstance(outcomes[1], ServiceUnavailable)
    assert await world.value("SELECT count(*) FROM messages") == 1


async def test_calls_at_once_after_turning_on_leave_no_gap(world: World) -> None:
    place, (ada, bob) = await world.conversation(2)
    await world.send(place, ada)
    await world.database.execute("UPDATE conversations SET encrypted = true, search_mode = 'none'")

    await asyncio.gather(*(world.send(place, (ada, bob)[n % 2]) for n in range(12)))

    assert await world.values("SELECT seq FROM messages ORDER BY seq") == list(range(1, 14))
    assert await world.value("SELECT count(*) FROM messages WHERE body IS NOT NULL") == 1


class SilentKeys:
    """A key provider that never answers."""

    async def seal(self, place: Place, plaintext: bytes) -> Envelope:
        return await asyncio.get_running_loop().create_future()

    async def fingerprint(self, conversation_id: UUID, data: bytes) -> bytes:
        return await asyncio.get_running_loop().create_future()


async def test_a_silent_key_provider_keeps_nobody_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processors.services.drafts.SEAL_S_MAX", 0.2)
    plain, (ada, _) = await world.conversation(2)
    sealed, (bob, _) = await encrypted(world)
    service = world.messages_with(cast(EncryptionService, SilentKeys()))

    def message(place: UUID, sender: UUID, client_id: str) -> SendMessage:
        return SendMessage(
            conversation_id=place, sender_id=sender, content=SECRET, client_message_id=client_id
        )

    outcomes = await service.send_many(
        [*(message(sealed, bob, f"{n}") for n in range(5)), message(plain, ada, "c")]
    )

    assert [type(each) for each in outcomes] == [ServiceUnavailable] * 5 + [SendResult]
