"""
How fast messages get into the search index, beside the bare SQL on the same server.

    python -m benchmarks.indexing [--messages 10000] [--conversations 50] [--rounds 3] [--json FILE]

One engine process serves `indexing` as users run it, over embedded Valkey and PostgreSQL. The bare
SQL upserts 1 or 500 messages per statement from 8 connections. Jobs name one message each and are
taken 50 together (`batch`) or one by one (`single`), or name 500 (`chunks`, 8 at a time).
Rounds take them by turns, each on an empty index, and ratios are those of one round.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import sys
import tempfile
import time
import uuid
from pathlib import Path

import asyncpg

from benchmarks.messaging import CONNECTIONS, _rate
from benchmarks.rounds import durable_servers, sum_up
from engine import Client, NewJob
from processors.app import registry
from processors.database.migrations import migrate
from processors.settings import from_env
from schemas.messages import IndexMessages

BATCH = 500
WORDS = 12

BARE = """
INSERT INTO message_search AS s
  (message_id, conversation_id, sender_id, seq, sent_at, kind, version, lang, tsv)
SELECT m.id, m.conversation_id, m.sender_id, m.seq, m.created_at, m.kind, m.version, 'english',
  setweight(to_tsvector('english', m.body), 'A')
    || setweight(to_tsvector('english', u.display_name), 'C')
    || setweight(to_tsvector('english', c.title), 'D')
FROM messages m
JOIN conversations c ON c.id = m.conversation_id JOIN users u ON u.id = m.sender_id
WHERE m.id = ANY ($1::uuid[]) AND m.deleted_at IS NULL
ON CONFLICT (message_id) DO UPDATE
SET version = EXCLUDED.version, lang = EXCLUDED.lang, tsv = EXCLUDED.tsv
WHERE s.version < EXCLUDED.version
"""


async def fill(url: str, conversations: int, messages: int) -> list[uuid.UUID]:
    """Put messages of a usual length in place, from a vocabulary with common and rare words."""
    await migrate(url)
    chance = random.Random(7)
    vocabulary = [f"{chance.choice('bcdfgklmprst')}{number:x}ing" for number in range(20_000)]
    sender, ids = uuid.uuid4(), [uuid.uuid4() for _ in range(messages)]
    places = [uuid.uuid4() for _ in range(conversations)]

    def text() -> str:
        return " ".join(
            vocabulary[int(chance.paretovariate(0.5)) % len(vocabulary)] for _ in range(WORDS)
        )

    connection = await asyncpg.connect(url)
    await connection.execute("INSERT INTO users (id, display_name) VALUES ($1, 'Ada')", sender)
    await connection.copy_records_to_table(
        "conversations", records=[(place, "Planning") for place in places], columns=["id", "title"]
    )
    await connection.copy_records_to_table(
        "messages",
        records=[
            (id_, place, seq, sender, str(seq), bytes(32), "text", text())
            for seq, (id_, place) in enumerate(zip(ids, itertools.cycle(places)), 1)
        ],
        columns=[
            "id", "conversation_id", "seq", "sender_id", "client_msg_id", "body_hash", "kind",
            "body",
        ],
    )  # fmt: skip
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    return ids


async def emptied(url: str) -> None:
    """Empty the index."""
    connection = await asyncpg.connect(url)
    await connection.execute("TRUNCATE message_search, job_inbox")
    await connection.execute("CHECKPOINT")
    await connection.close()


async def bare(url: str, ids: list[uuid.UUID], *, size: int) -> float:
    """Index by the bare statement; returns messages per second."""
    await emptied(url)
    work = [ids[start : start + size] for start in range(0, len(ids), size)]
    pool = await asyncpg.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS)

    async def worker() -> None:
        async with pool.acquire() as connection:
            statement = await connection.prepare(BARE)
            while work:
                await statement.fetch(work.pop())

    began = time.monotonic()
    await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
    took = time.monotonic() - began
    await pool.close()
    return len(ids) / took


async def through_engine(
    url: str, redis_url: str, ids: list[uuid.UUID], *, size: int, together: int
) -> float:
    """Index by jobs of some messages each; returns messages per second."""
    await emptied(url)
    jobs = [
        NewJob("indexing", IndexMessages(message_ids=tuple(ids[start : start + size])))
        for start in range(0, len(ids), size)
    ]
    async with Client(redis_url, registry=registry(from_env({}))) as client:
        report = await client.enqueue_many(jobs)
    assert report.accepted == len(jobs), report
    environ = os.environ | {
        "ENGINE_REDIS_URL": redis_url,
        "ENGINE_POSTGRES_URL": url,
        "ENGINE_HTTP": "127.0.0.1:0",
        "ENGINE_LOG_LEVEL": "error",
        "ENGINE_CONCURRENCY": "100" if size == 1 else str(CONNECTIONS),
        "PROCESSORS_SEARCH_BATCH_JOBS_MAX": str(together),
    }
    connection = await asyncpg.connect(url)
    words = ["-m", "engine", "run", "--queues", "indexing"]
    engine = await asyncio.create_subprocess_exec(sys.executable, *words, env=environ)
    try:
        done = "SELECT count(*) FROM message_search"
        return await _rate(connection, done, 0, len(ids))
    finally:
        engine.terminate()
        await engine.wait()
        await connection.close()


async def measure(options: argparse.Namespace, directory: Path) -> list[dict[str, float]]:
    rounds = []
    with durable_servers(directory) as (postgres, redis):
        url = postgres.url
        ids = await fill(url, options.conversations, options.messages)
        await bare(url, ids, size=BATCH)
        for number in range(options.rounds):
            found = {"bare_1": await bare(url, ids, size=1)}
            found["batch"] = await through_engine(url, redis.url, ids, size=1, together=50)
            found["single"] = await through_engine(url, redis.url, ids, size=1, together=1)
            found["bare_500"] = await bare(url, ids, size=BATCH)
            found["chunks"] = await through_engine(url, redis.url, ids, size=BATCH, together=1)
            found["batch_to_bare_1"] = found["batch"] / found["bare_1"]
            found["batch_to_single"] = found["batch"] / found["single"]
            found["chunks_to_bare_500"] = found["chunks"] / found["bare_500"]
            rounds.append(found)
            print(number, {name: round(value, 2) for name, value in found.items()}, flush=True)
    return rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--conversations", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        rounds = asyncio.run(measure(options, directory))
    sum_up(rounds, options.json)


if __name__ == "__main__":
    main()
