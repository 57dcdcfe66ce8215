"""PostgreSQL restarts or is away while messages are sent: no job is lost, effects happen once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from engine.embedded.postgres_server import DATABASE
from processors.database.migrations import migrate
from processors.database.pool import open_database
from processors.services.conversations import ConversationService
from processors.settings import from_env
from tests.support.daemon import SHORT_LEASES, Daemon, Start
from tests.support.ledger import Ledger
from tests.support.servers import PostgresTestServer, RedisTestServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers

QUEUE = "message-delivery"
MESSAGES = 800


class Chat:
    """One conversation whose messages are sent as jobs."""

    def __init__(self, ledger: Ledger, postgres: PostgresTestServer) -> None:
        self.ledger = ledger
        self.postgres = postgres
        self.conversation, self.sender = uuid4(), uuid4()
        self.accepted: dict[str, int] = {}

    async def set_up(self) -> None:
        await migrate(self.postgres.url)
        database = await open_database(self.postgres.url, from_env({}))
        people: list[tuple[UUID, str]] = [(self.sender, "ada"), (uuid4(), "bob")]
        await ConversationService(database).ensure(self.conversation, "test", people)
        await database.close()

    def start(self, start_daemon: Start, **environ: str) -> Daemon:
        more: dict[str, Any] = {
            "ENGINE_POSTGRES_URL": self.postgres.url,
            "PROCESSORS_OUTAGE_SNOOZE_MS": "200",
            "PROCESSORS_POOL_WAIT_MS": "1000",
            **environ,
        }
        url = self.ledger.server.url
        return start_daemon(url, app="tests.support.messaging_app:build", environ=more)

    def send(self, count: int = MESSAGES) -> None:
        with self.ledger.raw() as client:
            pipe = client.pipeline(transaction=False)
            for number in range(len(self.accepted), len(self.accepted) + count):
                job_id = f"m{number}"
                data = msgspec.json.encode(
                    {
                        "conversationId": self.conversation,
                        "senderId": self.sender,
                        "content": "hello",
                        "clientMessageId": job_id,
                    }
                )
                lane = self.ledger.keys.lane("normal")
                pipe.execute_command(
                    "XADD", lane, "*", "type", "send-message", "data", data, "id", job_id
                )
                self.accepted[job_id] = 0
            pipe.execute()

    def written(self) -> int:
        """Count messages; the server may be away."""
        return int(self.sql("SELECT count(*) FROM messages"))

    def sql(self, statement: str) -> str:
        """Ask the app's database."""
        return self.postgres.sql(statement, database=DATABASE)

    def check(self) -> None:
        """Every job is done, every message is there once, without a gap."""
        self.ledger.check(self.accepted, starts_over=None)
        assert {end.outcome for ends in self.ledger.ends().values() for end in ends} == {"done"}
        found = self.sql(
            "SELECT count(*), count(DISTINCT client_msg_id), min(seq), max(seq) FROM messages"
        )
        count = len(self.accepted)
        assert found == f"{count}|{count}|1|{count}"


@pytest.fixture
async def chat(
    tmp_path: Path, redis_server: RedisTestServer, postgres_server: PostgresTestServer
) -> Chat:
    chat = Chat(Ledger(tmp_path / "unused", redis_server, QUEUE), postgres_server)
    await chat.set_up()
    return chat


async def test_a_restart_of_postgresql_costs_no_job_and_no_attempt(
    chat: Chat, postgres_server: PostgresTestServer, start_daemon: Start
) -> None:
    daemon = chat.start(start_daemon)
    await eventually(daemon.is_ready, "ready")
    chat.send()
    await eventually(lambda: chat.written() > MESSAGES // 20, "messages flow")

    restarting = asyncio.to_thread(postgres_server.restart, immediate=True)
    # Some come while it is away, should all the others have been written by now.
    await asyncio.gather(restarting, asyncio.to_thread(chat.send, 200))

    await eventually(chat.ledger.is_empty, "all ended")
    chat.check()
    assert daemon.metric("engine_jobs_total", outcome="snoozed") > 0, "met no outage"
    assert daemon.metric("engine_jobs_total", outcome="retried") == 0
    await eventually(daemon.is_ready, "ready again")


async def test_jobs_wait_while_postgresql_is_away(
    chat: Chat, postgres_server: PostgresTestServer, start_daemon: Start
) -> None:
    """Goal: readiness names PostgreSQL; jobs are put off without spending attempts."""
    daemon = chat.start(start_daemon)
    await eventually(daemon.is_ready, "ready")
    chat.send()
    await eventually(lambda: chat.written() > MESSAGES // 20, "messages flow")

    await asyncio.to_thread(postgres_server.kill9)
    await eventually(lambda: daemon.is_unready("PostgreSQL"), "unready")
    chat.send(20)
    await eventually(lambda: daemon.metric("engine_jobs_total", outcome="snoozed") > 40, "put off")
    await asyncio.to_thread(postgres_server.start)

    await eventually(chat.ledger.is_empty, "all ended")
    chat.check()
    assert daemon.metric("engine_jobs_total", outcome="retried") == 0
    await eventually(daemon.is_ready, "ready again")
    assert len(daemon.log_lines()) < 150


async def test_an_effect_that_stood_when_its_engine_died_happens_once(
    chat: Chat, start_daemon: Start
) -> None:
    """Goal: K4. The message is committed, the engine is killed, the job runs again."""
    first = chat.start(start_daemon, ENGINE_FAIL="K4@5:kill", **SHORT_LEASES)
    chat.send(50)
    await eventually(first.has_ended, "killed")
    assert chat.written() >= 5

    chat.start(start_daemon, **SHORT_LEASES)
    await eventually(chat.ledger.is_empty, "all ended")
    chat.check()
