"""
How fast a batch reaches its recipients, and how fast jobs leave the outbox.

    python -m benchmarks.batches [--recipients 2000] [--rounds 3] [--rows 20000]
                                 [--queues message-delivery,batch-message] [--json FILE]

One engine process serves all queues, or those named, as users run it, over embedded Valkey and
PostgreSQL with durable commits. A round enqueues one `batch-message` job and waits for the batch's
summary: every recipient's direct conversation is made, the message is sent as a job of its own, and
its end is recorded. Then one relay moves rows of the outbox to three queues, without an engine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.rounds import durable_servers
from engine import Client, SystemClock
from processors.app import registry
from processors.database import outbox
from processors.database.migrations import migrate
from processors.database.outbox import OutboxJob
from processors.database.pool import open_database
from processors.services.job_relay import JobRelay
from processors.settings import from_env
from schemas.messages import StartBatch

LIMIT_S = 300


async def fan_out(url: str, redis_url: str, recipients: int) -> dict[str, Any]:
    """Send one batch through a running engine; seconds from the enqueuing on, and rates."""
    connection = await asyncpg.connect(url)
    sender, *users = [uuid.uuid4() for _ in range(recipients + 1)]
    await connection.execute(
        "INSERT INTO users (id, display_name) SELECT unnest($1::uuid[]), 'u'", [sender, *users]
    )
    batch_id = uuid.uuid4()
    start = StartBatch(
        sender_id=sender,
        recipient_ids=tuple(users),
        content="a message of usual length to all",
        batch_id=batch_id,
    )
    began = time.monotonic()
    async with Client(redis_url, registry=registry(from_env({}))) as client:
        await client.enqueue("batch-message", start)
    seen: dict[str, float] = {}
    while "finished" not in seen:
        row = await connection.fetchrow(
            "SELECT b.finished_at IS NOT NULL AS finished, b.counts,"
            " EXISTS (SELECT FROM messages WHERE sender_id = b.created_by) AS first"
            " FROM message_batches b WHERE b.id = $1",
            batch_id,
        )
        now = time.monotonic() - began
        if now > LIMIT_S:
            raise SystemExit(f"not finished in {LIMIT_S} s: {row}")
        for name in ("created",) * (row is not None):
            seen.setdefault(name, now)
        for name in ("first", "finished"):
            if row is not None and row[name]:
                seen.setdefault(name, now)
        await asyncio.sleep(0.01)
    assert row is not None
    counts = json.loads(row["counts"])
    sent = await connection.fetchval(
        "SELECT count(DISTINCT conversation_id) FROM messages WHERE sender_id = $1", sender
    )
    await connection.close()
    assert counts["sent"] == sent == recipients, (counts, sent)
    return {
        "created_s": round(seen["created"], 3),
        "first_s": round(seen["first"], 3),
        "finished_s": round(seen["finished"], 3),
        "messages_per_s": round(recipients / (seen["finished"] - seen["created"])),
    }


async def relayed(url: str, redis_url: str, rows: int) -> dict[str, Any]:
    """Commit jobs, 500 to a transaction, and move them with one relay."""
    own = from_env({})
    database = await open_database(url, own)
    began = time.monotonic()
    for first in range(0, rows, 500):
        async with database.transaction() as connection:
            jobs = [
                OutboxJob(type="bench", data={"n": n, "pad": "x" * 150}, queue=f"bench-{n % 3}")
                for n in range(first, first + 500)
            ]
            await outbox.enqueue_many(connection, jobs)
    committed = time.monotonic()
    moved = 0
    async with Client(redis_url, when_full="fail") as client:
        relay = JobRelay(database, client, own, relay=uuid.uuid4(), clock=SystemClock())
        while count := (await relay.relay_batch()).rows():
            moved += count
    ended = time.monotonic()
    await database.close()
    assert moved == rows, moved
    return {
        "committed_per_s": round(rows / (committed - began)),
        "relayed_per_s": round(rows / (ended - committed)),
    }


async def measure(arguments: argparse.Namespace, url: str, redis_url: str) -> dict[str, Any]:
    """Run all rounds."""
    await migrate(url)
    environ = os.environ | {
        "ENGINE_REDIS_URL": redis_url,
        "ENGINE_POSTGRES_URL": url,
        "ENGINE_HTTP": "127.0.0.1:0",
        "ENGINE_LOG_LEVEL": "error",
        "PROCESSORS_GATEWAY_LISTEN": "",
    }
    engine = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "engine", "run", env=environ
    )
    try:
        batches = []
        for _ in range(arguments.rounds):
            batches.append(await fan_out(url, redis_url, arguments.recipients))
            print(batches[-1], file=sys.stderr)
    finally:
        engine.terminate()
        await engine.wait()
    relays = [await relayed(url, redis_url, arguments.rows) for _ in range(arguments.rounds)]
    rates = [each["messages_per_s"] for each in batches]
    moved = [each["relayed_per_s"] for each in relays]
    return {
        "recipients": arguments.recipients,
        "queues": arguments.queues,
        "batches": batches,
        "messages_per_s": statistics.median(rates),
        "rows": arguments.rows,
        "relays": relays,
        "relayed_per_s": statistics.median(moved),
    }


def main() -> None:
    """Start servers, measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--recipients", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--queues", default="", help="queues of the engine, all if left out")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="streamlane-") as name,
        durable_servers(Path(name)) as (postgres, redis),
    ):
        url = postgres.url_of(postgres.create_database())
        result = asyncio.run(measure(arguments, url, redis.url))
    print(json.dumps(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
