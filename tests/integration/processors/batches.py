"""Batches over real servers, with the engines' part played by hand."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID, uuid4

import msgspec
import redis.asyncio

from engine import Client, Clock
from engine.testing import ManualClock
from engine.wire.keys import QueueKeys
from processors.errors import Refused
from processors.services.batches import MESSAGES, BatchService
from processors.services.redis_link import connect
from processors.settings import from_env
from schemas.messages import SendMessage, StartBatch
from tests.integration.processors.world import World, open_world
from tests.support.steps import uncounted

LANE = QueueKeys(MESSAGES).lane("low")


@dataclass
class Batches:
    """
    The service, its servers, and what an engine does with the messages.

    Attributes:
        world: Services over the database.
        service: The service under test.
        clock: Moves when told.
        server: The server of the queues.
    """

    world: World
    producer: Client
    server: redis.asyncio.Redis
    clock: Clock = field(default_factory=ManualClock)
    variables: dict[str, str] = field(default_factory=dict)
    service: BatchService = field(init=False)

    def __post_init__(self) -> None:
        self.service = self.another()

    def another(self, **variables: str) -> BatchService:
        """Make a further service over the same servers."""
        given = {**self.variables, **variables}
        settings = from_env({f"PROCESSORS_BATCH_{name}": value for name, value in given.items()})
        return BatchService(
            self.world.database,
            self.producer,
            self.server,
            settings.batch,
            clock=self.clock,
            committed=lambda: self.world.commits.append(None),
        )

    async def users(self, count: int) -> list[UUID]:
        """Make users."""
        _, users = await self.world.conversation(count)
        return users

    async def start(
        self, sender: UUID, recipients: Sequence[UUID], *, batch_id: UUID | None = None, **more: Any
    ) -> UUID:
        """Begin a batch."""
        start = StartBatch(
            sender_id=sender, recipient_ids=tuple(recipients), content="news", batch_id=batch_id,
            **more,
        )  # fmt: skip
        return (await self.service.create(start, job_id=str(batch_id or uuid4()))).batch_id

    async def jobs(self) -> list[dict[str, Any]]:
        """What stands in the lane of the messages, folded as engines do by id."""
        entries: Any = await self.server.xrange(LANE)
        found = {fields[b"id"]: fields for _, fields in entries}
        return [
            {name.decode(): value.decode() for name, value in fields.items()}
            for fields in found.values()
        ]

    async def end(
        self, job: dict[str, Any], outcome: Literal["send", "lose"] | tuple[str, str] = "send"
    ) -> None:
        """Run one message's job as an engine does, and tell its end; or let it die for a reason."""
        told: dict[str, str] = {"id": job["id"], "type": job["type"]}
        if isinstance(outcome, tuple):
            told |= {"outcome": "dead", "reason": outcome[0], "error": outcome[1]}
        else:
            message = msgspec.json.decode(job["data"], type=SendMessage)
            try:
                sent = await self.world.messages.send(message)
                told |= {"outcome": "done", "result": msgspec.json.encode(sent).decode()}
            except Refused as error:
                told |= {"outcome": "dead", "reason": "cancelled", "error": str(error)}
        if outcome != "lose":
            await self.server.xadd(job["reply"], told)  # type: ignore[arg-type]

    async def work(self, batch_id: UUID, *, claimant: str = "run") -> Any:
        """Queue and send until the batch is over, and return its summary."""
        ended: set[str] = set()
        for _ in range(1_000):
            step = await self.service.run_chunk(batch_id, claimant=claimant)
            if step.is_over:
                return step.progress
            with uncounted():
                for job in await self.jobs():
                    if job["id"] not in ended:
                        ended.add(job["id"])
                        await self.end(job)
        raise AssertionError(f"not over: {step}")

    async def messages(self, sender: UUID) -> Counter[UUID]:
        """Count messages by their only recipient."""
        rows = await self.world.database.fetch(
            "SELECT d.user_id FROM message_deliveries d JOIN messages m ON m.id = d.message_id "
            "WHERE m.sender_id = $1",
            sender,
        )
        return Counter(row["user_id"] for row in rows)

    async def states(self, batch_id: UUID) -> Counter[int]:
        """Count recipients by state."""
        return Counter(
            await self.world.values(
                "SELECT state FROM batch_recipients WHERE batch_id = $1", batch_id
            )
        )

    async def events(self, sender: UUID) -> list[dict[str, Any]]:
        """The events that the sender is told, in order."""
        rows = await self.world.database.fetch(
            "SELECT payload FROM outbox WHERE topic = 'user' AND key = $1 ORDER BY id", str(sender)
        )
        return [row["payload"] for row in rows]


def data_of(job: dict[str, Any]) -> dict[str, Any]:
    """The payload of a job."""
    found: dict[str, Any] = json.loads(job["data"])
    return found


@asynccontextmanager
async def open_batches(**variables: str) -> AsyncIterator[Batches]:
    """Open the service in a process of its own, on the servers that the environment names."""
    url = os.environ["ENGINE_REDIS_URL"]
    async with (
        open_world() as world,
        connect(url) as server,
        Client(url, give_up_s=1, when_full="fail") as producer,
    ):
        yield Batches(world, producer, server, variables=variables)
