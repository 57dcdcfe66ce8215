"""A send or a confirmation that is killed anywhere and run again leaves what one run leaves."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from processors.database.migrations import migrate
from schemas.messages import DeliveryConfirmation
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
    assert len(steps.killed) >= 8
