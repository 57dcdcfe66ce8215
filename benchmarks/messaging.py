"""
How fast messages and receipts go end to end, beside the bare SQL on the same server.

    python -m benchmarks.messaging [--messages 10000] [--conversations 50] [--members 20]
                                   [--rounds 3] [--json FILE]

One engine process serves `message-delivery` as users run it, over embedded Valkey and PostgreSQL.
The bare SQL is one statement per message from 8 connections, with a commit each: message, number,
delivery rows, event. The engine does more: it decodes and validates jobs, records results, and
leaves the jobs that follow. Rounds alternate, and ratios are those of one round.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.rounds import durable_servers, sum_up
from engine import Client, NewJob
from processors.app import registry
from processors.database.migrations import migrate
from processors.settings import from_env
from schemas.messages import DeliveryConfirmation, Receipt, SendMessage

CONNECTIONS = 8

BARE = """
WITH c AS (
  SELECT id, last_seq FROM conversations WHERE id = $1 AND deleted_at IS NULL
  FOR NO KEY UPDATE
), m AS (
  INSERT INTO messages
    (conversation_id, seq, sender_id, client_msg_id, body_hash, kind, body, n_recipients)
  SELECT c.id, c.last_seq + 1, $2, $3, sha256($4::text::bytea), 'text', $4,
    (SELECT count(*)::integer - 1 FROM conversation_members
     WHERE conversation_id = c.id AND left_at IS NULL)
  FROM c WHERE EXISTS (
    SELECT FROM conversation_members s JOIN users u ON u.id = s.user_id
    WHERE s.conversation_id = c.id AND s.user_id = $2 AND s.left_at IS NULL
      AND u.disabled_at IS NULL)
  ON CONFLICT (conversation_id, sender_id, client_msg_id) DO NOTHING
  RETURNING id, conversation_id, seq, n_recipients, created_at
), s AS (
  UPDATE conversations SET last_seq = m.seq FROM m WHERE conversations.id = m.conversation_id
), d AS (
  INSERT INTO message_deliveries (message_id, user_id, conversation_id, seq, sent_at)
  SELECT m.id, r.user_id, m.conversation_id, m.seq, m.created_at
  FROM m JOIN conversation_members r USING (conversation_id)
  WHERE r.left_at IS NULL AND r.user_id <> $2
), o AS (
  INSERT INTO outbox (topic, key, payload)
  SELECT 'none', m.conversation_id::text, jsonb_build_object('messageId', m.id, 'seq', m.seq,
    'senderId', $2::uuid, 'content', $4::text)
  FROM m
)
SELECT id, seq FROM m
"""


class Scene:
    """
    Conversations of some members each, on a server of their own.

    Attributes:
        conversations: Conversation → members.
        taken: Messages that were asked for so far, which makes client ids differ.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.conversations: dict[uuid.UUID, list[uuid.UUID]] = {}
        self.taken = 0

    async def fill(self, conversations: int, members: int) -> None:
        """Put conversations and their members in place."""
        await migrate(self.url)
        connection = await asyncpg.connect(self.url)
        for _ in range(conversations):
            place, users = uuid.uuid4(), [uuid.uuid4() for _ in range(members)]
            self.conversations[place] = users
            await connection.executemany(
                "INSERT INTO users (id, display_name) VALUES ($1, 'u')", [(u,) for u in users]
            )
            await connection.execute("INSERT INTO conversations (id) VALUES ($1)", place)
            await connection.executemany(
                "INSERT INTO conversation_members (conversation_id, user_id) VALUES ($1, $2)",
                [(place, user) for user in users],
            )
        await connection.close()

    def work(self, count: int) -> list[tuple[uuid.UUID, uuid.UUID, str, str]]:
        """Messages to send: conversation, sender, client id, text; conversations by turns."""
        places = list(self.conversations.items())
        found = []
        for number in range(self.taken, self.taken + count):
            place, users = places[number % len(places)]
            sender = users[number // len(places) % len(users)]
            found.append((place, sender, f"m{number}", f"message number {number}, of usual length"))
        self.taken += count
        return found


async def bare(scene: Scene, count: int) -> float:
    """Send by the bare statement; returns messages per second."""
    work = scene.work(count)
    pool = await asyncpg.create_pool(scene.url, min_size=CONNECTIONS, max_size=CONNECTIONS)

    async def sender() -> None:
        async with pool.acquire() as connection:
            statement = await connection.prepare(BARE)
            while work:
                await statement.fetch(*work.pop())

    began = time.monotonic()
    await asyncio.gather(*(sender() for _ in range(CONNECTIONS)))
    took = time.monotonic() - began
    await pool.close()
    return count / took


async def through_engine(
    scene: Scene, redis_url: str, jobs: list[NewJob], done: str, wanted: int
) -> float:
    """Enqueue, start an engine, and count jobs per second from its first effect to its last."""
    async with Client(redis_url, registry=registry(from_env({}))) as client:
        report = await client.enqueue_many(jobs)
    assert report.accepted == len(jobs), report
    connection = await asyncpg.connect(scene.url)
    before = await connection.fetchval(done)
    environ = os.environ | {
        "ENGINE_REDIS_URL": redis_url,
        "ENGINE_POSTGRES_URL": scene.url,
        "ENGINE_HTTP": "127.0.0.1:0",
        "ENGINE_LOG_LEVEL": "error",
    }
    words = ["-m", "engine", "run", "--queues", "message-delivery"]
    engine = await asyncio.create_subprocess_exec(sys.executable, *words, env=environ)
    try:
        return await _rate(connection, done, before, wanted)
    finally:
        engine.terminate()
        await engine.wait()
        await connection.close()


async def _rate(connection: Any, done: str, before: int, wanted: int) -> float:
    """Effects per second, from when the first are seen."""
    first, began, seen = 0, 0.0, 0
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        seen = int(await connection.fetchval(done)) - before
        now = time.monotonic()
        if seen and not began:
            first, began = seen, now
        if seen >= wanted:
            return (seen - first) / (now - began)
        await asyncio.sleep(0.02)
    raise SystemExit(f"only {seen} of {wanted} in 300 s")


async def sending(scene: Scene, redis_url: str, count: int) -> float:
    """Messages per second through the engine."""
    jobs = [
        NewJob(
            "send-message",
            SendMessage(
                conversation_id=place, sender_id=sender, client_message_id=client_id, content=text
            ),
        )
        for place, sender, client_id, text in scene.work(count)
    ]
    return await through_engine(
        scene, redis_url, jobs, "SELECT sum(last_seq)::bigint FROM conversations", count
    )


async def receiving(scene: Scene, redis_url: str, per_job: int, jobs_max: int) -> float:
    """Receipts per second through the engine: one job per reader and few messages."""
    connection = await asyncpg.connect(scene.url)
    rows = await connection.fetch(
        "SELECT user_id, (array_agg(message_id))[1:$1] AS ids FROM message_deliveries"
        " WHERE state = 10 GROUP BY user_id, conversation_id, seq / ($1 * 20) LIMIT $2",
        per_job,
        jobs_max,
    )
    await connection.close()
    jobs = []
    for row in rows:
        receipts = tuple(Receipt(message_id=each, state="delivered") for each in row["ids"])
        jobs.append(
            NewJob(
                "delivery-confirmation",
                DeliveryConfirmation(user_id=row["user_id"], receipts=receipts),
            )
        )
    wanted = sum(len(row["ids"]) for row in rows)
    return await through_engine(
        scene, redis_url, jobs, "SELECT sum(n_delivered)::bigint FROM messages", wanted
    )


async def measure(options: argparse.Namespace, directory: Path) -> list[dict[str, float]]:
    rounds = []
    with durable_servers(directory) as (postgres, redis):
        scene = Scene(postgres.url)
        await scene.fill(options.conversations, options.members)
        await bare(scene, options.messages // 10)
        for number in range(options.rounds):
            found = {"bare": await bare(scene, options.messages)}
            found["engine"] = await sending(scene, redis.url, options.messages)
            found["receipts"] = await receiving(scene, redis.url, 10, options.messages // 5)
            found["ratio"] = found["engine"] / found["bare"]
            rounds.append(found)
            print(number, {name: round(value, 2) for name, value in found.items()}, flush=True)
    return rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--conversations", type=int, default=50)
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        rounds = asyncio.run(measure(options, Path(directory)))
    sum_up(rounds, options.json)


if __name__ == "__main__":
    main()
