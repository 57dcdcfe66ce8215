"""A batch that is killed anywhere, at its start, in a run or at its end, leaves what it should."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID, uuid4

import pytest

from engine.wire.keys import QueueKeys
from processors.database.migrations import migrate
from processors.services.batches import MESSAGES
from schemas.messages import StartBatch
from tests.integration.processors.batches import Batches, open_batches
from tests.support.steps import kill_at_each_step, uncounted

pytestmark = [pytest.mark.servers, pytest.mark.timeout(400)]

RECIPIENTS = 3


async def observed(batches: Batches, scene: dict[str, Any]) -> Any:
    """What stands in the database: states, messages per user, and what the sender was told."""
    batch_id, sender = UUID(scene["batch"]), UUID(scene["sender"])
    events = Counter(event["type"] for event in await batches.events(sender))
    counts = await batches.world.value("SELECT counts FROM message_batches WHERE id = $1", batch_id)
    return [
        sorted((await batches.states(batch_id)).items()),
        sorted((await batches.messages(sender)).values()),
        events["batch.finished"],
        counts and [counts["state"], counts["sent"], counts["cancelled"], counts["failed"]],
    ]


class Starts:
    """The first job of a batch."""

    async def prepare(self) -> dict[str, Any]:
        async with open_batches() as batches:
            users = await batches.users(RECIPIENTS + 1)
            return {"batch": str(uuid4()), "users": [str(user) for user in users]}

    async def run(self, scene: dict[str, Any]) -> None:
        async with open_batches() as batches:
            sender, *users = map(UUID, scene["users"])
            start = StartBatch(
                sender_id=sender, recipient_ids=tuple(users), content="news",
                batch_id=UUID(scene["batch"]),
            )  # fmt: skip
            for _ in range(2):  # delivered twice
                await batches.service.create(start, job_id="job")

    async def observe(self, scene: dict[str, Any]) -> Any:
        async with open_batches() as batches:
            batch_id = UUID(scene["batch"])
            jobs = await batches.world.values(
                "SELECT payload->'data' FROM outbox WHERE topic = 'job' AND payload->>'id' = $1",
                f"batch-{batch_id}",
            )
            assert all(job["batchId"] == str(batch_id) for job in jobs)
            states = await batches.states(batch_id)
            return [sorted(states.items()), [job["action"] for job in jobs]]


class Runs:
    """The job that works through a batch; messages are sent as engines send them."""

    async def prepare(self) -> dict[str, Any]:
        async with open_batches() as batches:
            await batches.server.flushall()
            sender, *users = await batches.users(RECIPIENTS + 1)
            batch_id = await batches.start(sender, [*users, UUID(int=7)])
            return {"batch": str(batch_id), "sender": str(sender)}

    async def run(self, scene: dict[str, Any]) -> None:
        async with open_batches(CHUNK="2") as batches:
            await batches.work(UUID(scene["batch"]), claimant="run")
            await batches.service.run_chunk(UUID(scene["batch"]), claimant="run")

    async def observe(self, scene: dict[str, Any]) -> Any:
        async with open_batches() as batches:
            assert await batches.server.keys("*:reply:*") == []
            return await observed(batches, scene)


class Stops:
    """A batch of which a part is queued is cancelled, and its run stops it."""

    async def prepare(self) -> dict[str, Any]:
        async with open_batches(CHUNK="2") as batches:
            await batches.server.flushall()
            sender, *users = await batches.users(RECIPIENTS + 1)
            batch_id = await batches.start(sender, users)
            await batches.service.run_chunk(batch_id, claimant="run")
            return {"batch": str(batch_id), "sender": str(sender)}

    async def run(self, scene: dict[str, Any]) -> None:
        batch_id = UUID(scene["batch"])
        async with open_batches(CHUNK="2") as batches:
            await batches.service.cancel(batch_id)
            while not (await batches.service.run_chunk(batch_id, claimant="run")).is_over:
                with uncounted():
                    await self._end(batches)

    async def observe(self, scene: dict[str, Any]) -> Any:
        async with open_batches() as batches:
            return await observed(batches, scene)

    async def _end(self, batches: Batches) -> None:
        """Do as engines, which end what bears a tombstone."""
        stopped = set(await batches.server.hkeys(QueueKeys(MESSAGES).cancelled))
        for job in await batches.jobs():
            if job["id"].encode() in stopped:
                await batches.end(job, ("cancelled", "batch-cancelled: batch"))


@pytest.fixture
def servers(postgres_url: str, redis_url: str) -> dict[str, str]:
    return {"ENGINE_POSTGRES_URL": postgres_url, "ENGINE_REDIS_URL": redis_url}


async def test_a_start_survives_a_kill_at_every_step(servers: dict[str, str]) -> None:
    await migrate(servers["ENGINE_POSTGRES_URL"])

    steps = kill_at_each_step(f"{__name__}:Starts", servers, timeout_s=390)

    assert steps.unkilled == [[[0, RECIPIENTS]], ["run"]]
    assert steps.differing() == {}
    assert steps.total >= 8


async def test_a_run_survives_a_kill_at_every_step(servers: dict[str, str]) -> None:
    """Goal: no recipient without the message, none with two, one summary."""
    await migrate(servers["ENGINE_POSTGRES_URL"])

    steps = kill_at_each_step(f"{__name__}:Runs", servers, timeout_s=390)

    assert steps.unkilled == [[[3, 3], [4, 1]], [1, 1, 1], 1, ["finished", 3, 0, 1]]
    assert steps.differing() == {}
    assert steps.total >= 30


async def test_a_cancellation_survives_a_kill_at_every_step(servers: dict[str, str]) -> None:
    await migrate(servers["ENGINE_POSTGRES_URL"])

    steps = kill_at_each_step(f"{__name__}:Stops", servers, timeout_s=390)

    assert steps.unkilled == [[[5, RECIPIENTS]], [], 1, ["cancelled", 0, RECIPIENTS, 0]]
    assert steps.differing() == {}
    assert steps.total >= 15
