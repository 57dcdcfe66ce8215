"""What the benchmarks in rounds share: durable servers, and medians of the rounds."""

from __future__ import annotations

import contextlib
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.servers import PostgresTestServer, RedisTestServer

DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}


@contextlib.contextmanager
def durable_servers(directory: Path) -> Iterator[tuple[PostgresTestServer, RedisTestServer]]:
    """Start PostgreSQL with durable commits, and Valkey with an append-only file."""
    # As root, PostgreSQL runs as another user, who must pass through.
    directory.chmod(0o711)
    postgres = PostgresTestServer(directory / "postgres", settings=DURABLE)
    redis = RedisTestServer(directory / "redis", aof=True)
    with contextlib.ExitStack() as running:
        postgres.start()
        running.callback(postgres.stop)
        redis.start()
        running.callback(redis.stop)
        yield postgres, redis


def sum_up(rounds: Sequence[Mapping[str, float]], path: Path | None) -> None:
    """Print the median of each figure, and write all rounds to a file."""
    for name in rounds[0]:
        values = [found[name] for found in rounds]
        print(f"{name}: median {statistics.median(values):.2f} of {[round(v, 2) for v in values]}")
    if path:
        path.write_text(json.dumps(rounds, indent=2) + "\n")
