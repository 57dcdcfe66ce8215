"""Cancelling what waits for a server, at any moment, ends it."""

from __future__ import annotations

import asyncio
import random

import pytest

from processors.database import outbox
from processors.services.redis_link import connect
from processors.services.relay import OutboxRelay
from processors.settings import from_env
from tests.integration.processors.world import World

pytestmark = pytest.mark.servers

TRIALS = 300


async def test_relay_ends_whenever_it_is_cancelled(world: World, redis_url: str) -> None:
    """
    Goal: no cancellation is lost between the relay and both of its servers.

    Method: a relay with work is cancelled after a random number of loop turns; it must end.
    """
    chance = random.Random(1)
    async with connect(redis_url) as client:
        relay = OutboxRelay(
            world.database,
            client,
            from_env({"PROCESSORS_OUTBOX_POLL_MS": "1"}),
            draw=lambda: 0.0,
        )
        for _ in range(TRIALS):
            async with world.database.transaction() as connection:
                await outbox.insert(connection, "user", "u", {})
            task = asyncio.create_task(relay.run())
            for _ in range(chance.randrange(1, 150)):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task], timeout=20)
            assert task.cancelled()
