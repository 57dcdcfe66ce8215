"""A send or a confirmation that is killed anywhere and run again leaves what one run leaves."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from processors.database.migrations import migrate
from schemas.messages import DeliveryConfirmation, SendMessage, SendResult
from tests.integration.processors.world import open_world
from tests.support.steps import kill_at_each_step

pytestmark = pytest.mark.servers


class ConfirmsOnce:
    """Bob confirms that he has read a message."""

    async def prepare(self) -> dict[str, Any]:
        async with open_world() as world:
            conversation, (ada, bob) = await world.conversation(2)
            await world.send(conversation, ada)
            return {"conversation": str(conversation), "bob": str(bob)}

    async def run(self, scene: dict[str, Any]) -> None:
        async with open_world() as world:
            confirmation = DeliveryConfirmation(
                user_id=UUID(scene["bob"]),
                conversation_id=UUID(scene["conversation"]),
                read_up_to_seq=1,
            )
            await world.messages.apply_receipts(confirmation, job_id=scene["conversation"])

    async def observe(self, scene: dict[str, Any]) -> Any:
        async with open_world() as world:
            conversation = UUID(scene["conversation"])
            rows = await world.database.fetch(
                "SELECT n_delivered, n_read FROM messages WHERE conversation_id = $1", conversation
            )
            events = await world.value(
                "SELECT count(*) FROM outbox WHERE key = $1 AND payload->>'type' = $2",
                scene["conversation"],
                "watermark.advanced",
            )
            return [[tuple(row) for row in rows], events]


async def test_a_confirmation_survives_a_kill_at_every_step(postgres_url: str) -> None:
    await migrate(postgres_url)

    steps = kill_at_each_step(f"{__name__}:ConfirmsOnce", {"ENGINE_POSTGRES_URL": postgres_url})

    assert steps.unkilled == [[[1, 1]], 1]
    assert steps.differing() == {}
    assert steps.total >= 4


class SendsOnce:
    """Ada sends a photo, and a secret into an encrypted conversation, in one call."""

    async def prepare(self) -> dict[str, Any]:
        async with open_world() as world:
            plain, (ada, *_) = await world.conversation(3)
            secret, (bob, *_) = await world.conversation(3)
            await world.database.execute(
                "UPDATE conversations SET encrypted = true, search_mode = 'blind' WHERE id = $1",
                secret,
            )
            photo = await world.value(
                "INSERT INTO attachments (owner_id, object_key, state, expires_at)"
                " VALUES ($1, gen_random_uuid()::text, 'ready', now() + '1 day') RETURNING id",
                ada,
            )
            named = {"plain": plain, "secret": secret, "ada": ada, "bob": bob, "photo": photo}
            return {name: str(each) for name, each in named.items()}

    async def run(self, scene: dict[str, Any]) -> None:
        ids = {name: UUID(each) for name, each in scene.items()}
        messages = [
            SendMessage(
                conversation_id=ids["plain"],
                sender_id=ids["ada"],
                client_message_id="c",
                attachments=(ids["photo"],),
            ),
            SendMessage(
                conversation_id=ids["secret"],
                sender_id=ids["bob"],
                client_message_id="c",
                content="meet me at noon",
            ),
        ]
        async with open_world() as world:
            outcomes = await world.messages.send_many(messages)
            assert all(isinstance(each, SendResult) for each in outcomes), outcomes

    async def observe(self, scene: dict[str, Any]) -> Any:
        places = [UUID(scene["plain"]), UUID(scene["secret"])]
        async with open_world() as world:
            rows = await world.database.fetch(
                "SELECT seq, n_recipients, key_id IS NULL, (SELECT count(*) FROM"
                " message_deliveries WHERE message_id = m.id), (SELECT count(*) FROM"
                " message_attachments WHERE message_id = m.id) FROM messages m"
                " WHERE conversation_id = ANY ($1) ORDER BY key_id IS NULL",
                places,
            )
            events = await world.value(
                "SELECT count(*) FROM outbox WHERE key = ANY ($1)", [str(each) for each in places]
            )
            jobs = await world.values(
                "SELECT key FROM outbox o, messages m WHERE topic = 'job' AND"
                " conversation_id = ANY ($1) AND"
                " payload->'data'->'messageIds' ? m.id::text ORDER BY key",
                places,
            )
            state = await world.value(
                "SELECT state FROM attachments WHERE id = $1", UUID(scene["photo"])
            )
            return [[list(row) for row in rows], events, jobs, state]


async def test_sending_survives_a_kill_at_every_step(postgres_url: str) -> None:
    await migrate(postgres_url)

    steps = kill_at_each_step(f"{__name__}:SendsOnce", {"ENGINE_POSTGRES_URL": postgres_url})

    rows = [[1, 2, False, 2, 0], [1, 2, True, 2, 1]]
    jobs = ["indexing", "indexing", "notification", "notification"]
    assert steps.unkilled == [rows, 2, jobs, "attached"]
    assert steps.differing() == {}
    assert steps.total >= 6
