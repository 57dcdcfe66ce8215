"""A relay of jobs that is killed anywhere brings each job to its queue in order, once."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import pytest

from engine import Client
from engine.testing import ManualClock
from engine.wire.keys import QueueKeys
from processors.database import outbox
from processors.database.migrations import migrate
from processors.services.job_relay import JobRelay
from processors.services.redis_link import connect
from tests.integration.processors.world import open_world
from tests.support.steps import kill_at_each_step, step, uncounted

pytestmark = [pytest.mark.servers, pytest.mark.timeout(400)]

QUEUES = ("a", "b")
JOBS = 3


class Stepping:
    """A client whose every job is a step before it is sent and one once it is there."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def enqueue_each(self, jobs: Any) -> AsyncGenerator[Any, None]:
        for job in jobs:
            step()
            async for result in self._client.enqueue_each([job]):
                step()
                yield result


class Relays:
    """Two queues with jobs, of which one row is none."""

    async def prepare(self) -> dict[str, Any]:
        async with open_world() as world, connect(os.environ["ENGINE_REDIS_URL"]) as server:
            await server.flushall()
            await world.database.execute("DELETE FROM outbox")
            await world.database.execute("DELETE FROM outbox_queues")
            async with world.database.transaction() as connection:
                for number in range(JOBS):
                    for queue in QUEUES:
                        await outbox.enqueue(connection, "count", {"n": number}, queue=queue)
                await outbox.insert(connection, "user", "u", {})
                await connection.execute("UPDATE outbox SET topic = 'job' WHERE topic = 'user'")
            return {}

    async def run(self, scene: dict[str, Any]) -> None:
        url = os.environ["ENGINE_REDIS_URL"]
        async with open_world() as world, Client(url, give_up_s=5, when_full="fail") as client:
            with uncounted():
                # What a dead relay holds comes free in time.
                await world.database.execute("UPDATE outbox_queues SET leased_until = now()")
            relay = JobRelay(
                world.database,
                Stepping(client),
                world.settings,
                relay=uuid4(),
                clock=ManualClock(),
            )
            while (await relay.relay_batch()).rows():
                pass

    async def observe(self, scene: dict[str, Any]) -> Any:
        seen = []
        async with open_world() as world, connect(os.environ["ENGINE_REDIS_URL"]) as server:
            for queue in QUEUES:
                entries: Any = await server.xrange(QueueKeys(queue).lane("normal"))
                # Engines fold the second job of an id.
                first = {fields[b"id"]: fields[b"data"].decode() for _, fields in entries[::-1]}
                seen.append(list(first.values())[::-1])
            rows = await world.values("SELECT failed_at IS NULL FROM outbox")
        return [seen, rows]


async def test_a_relay_survives_a_kill_at_every_step(postgres_url: str, redis_url: str) -> None:
    await migrate(postgres_url)

    steps = kill_at_each_step(
        f"{__name__}:Relays",
        {"ENGINE_POSTGRES_URL": postgres_url, "ENGINE_REDIS_URL": redis_url},
        timeout_s=390,
    )

    in_order = ['{"n": 0}', '{"n": 1}', '{"n": 2}']
    assert steps.unkilled == [[in_order, in_order], [False]]
    assert steps.differing() == {}
    assert steps.total >= 10
