"""Jobs while PostgreSQL is killed and comes back: none fails, none has its effect twice."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from engine import Retry, Snooze
from processors.database.middleware import database_errors
from processors.database.migrations import migrate
from processors.database.pool import open_database
from processors.errors import DatabaseUnavailable
from processors.settings import from_env
from schemas.messages import DeliveryConfirmation
from tests.integration.processors.world import World
from tests.support.servers import PostgresTestServer

pytestmark = pytest.mark.servers

MESSAGES = 300


async def test_jobs_outlast_a_crash_of_postgresql(postgres_server: PostgresTestServer) -> None:
    """
    Goal: PostgreSQL dies under load and no job fails by it; rows are exact afterwards.

    Method: eight workers send and confirm through the middleware and repeat what was put off,
    as the engine would; the server is killed after a third of the work and started again once
    every worker has met the outage.
    """
    await migrate(postgres_server.url)
    settings = from_env({"PROCESSORS_POOL_WAIT_MS": "2000"})
    database = await open_database(postgres_server.url, settings)
    world = World(database, settings)
    translate = database_errors(snooze_ms=1, draw=lambda: 0.5)
    conversation_id, (ada, bob) = await world.conversation(2)
    work = [str(uuid4()) for _ in range(MESSAGES)]
    a_third_done, all_met_it, is_back = asyncio.Event(), asyncio.Event(), asyncio.Event()
    met = 0

    async def one_job(client_id: str) -> Any:
        sent = await world.send(conversation_id, ada, client_id=client_id)
        confirmation = DeliveryConfirmation(
            user_id=bob, conversation_id=conversation_id, read_up_to_seq=sent.seq
        )
        return await world.messages.apply_receipts(confirmation, job_id=client_id)

    async def worker() -> None:
        nonlocal met
        met_it = False
        while work:
            client_id = work.pop()
            if len(work) == MESSAGES * 2 // 3:
                a_third_done.set()
            try:
                await translate(None, None, lambda client_id=client_id: one_job(client_id))  # type: ignore[arg-type, misc]
            except Snooze:
                work.append(client_id)
                met += not met_it
                met_it = True
                if met == 8:
                    all_met_it.set()
                await is_back.wait()
            except Retry:
                work.append(client_id)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(worker())
        await a_third_done.wait()
        await asyncio.to_thread(postgres_server.kill9)
        await all_met_it.wait()
        with pytest.raises(DatabaseUnavailable):
            await world.value("SELECT 1")
        await asyncio.to_thread(postgres_server.start)
        is_back.set()

    assert await world.values("SELECT seq FROM messages ORDER BY seq") == [*range(1, MESSAGES + 1)]
    assert await world.value("SELECT count(*) FROM message_deliveries") == MESSAGES
    assert await world.value("SELECT sum(n_read) FROM messages") == MESSAGES
    assert await world.value("SELECT count(*) FROM job_inbox") == MESSAGES
    created = "SELECT count(*) FROM outbox WHERE payload->>'type' = 'message.created'"
    assert await world.value(created) == MESSAGES
    await database.close()
