"""
Applies the numbered SQL files once each, in order, whoever starts first.

A session lock lets one process at a time migrate. Each file runs in a transaction of its own,
together with the row that records it, so a failed file leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

import asyncpg

from processors.database.pool import Database
from processors.errors import ConfigurationError, DatabaseUnavailable, MigrationError

FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
LOCK_KEY = 0x5374726D4C616E65  # any number that other users of the database will not pick
LOCK_WAIT_S_MAX = 60
CONNECT_S_MAX = 10.0

CREATE_RECORD = """
CREATE TABLE IF NOT EXISTS schema_migrations (
  name        text PRIMARY KEY,
  checksum    text NOT NULL,
  applied_at  timestamptz NOT NULL DEFAULT now()
)
"""


class Migration(NamedTuple):
    """
    One SQL file.

    Attributes:
        name: Its file name; names sort in the order of application.
        sql: Its text.
        checksum: SHA-256 of the text, by which a later change is noticed.
    """

    name: str
    sql: str
    checksum: str


def packaged() -> Traversable:
    """Where the migrations of this release are."""
    return files("schemas.sql")


def load(folder: Traversable) -> list[Migration]:
    """
    Read the migrations of a folder, in order.

    Raises:
        MigrationError: A file name has no number, or two have the same.
    """
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    numbers: dict[str, str] = {}
    for name in found:
        match = FILE_NAME.fullmatch(name)
        if match is None:
            raise MigrationError(f"migration {name} must be named like 0001_what_it_does.sql")
        if match[1] in numbers:
            raise MigrationError(f"migrations {numbers[match[1]]} and {name} share a number")
        numbers[match[1]] = name
    return [_read(folder, name) for name in found]


def _read(folder: Traversable, name: str) -> Migration:
    sql = folder.joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")
    return Migration(name, sql, hashlib.sha256(sql.encode()).hexdigest())


def outstanding(available: Sequence[Migration], applied: Mapping[str, str]) -> list[Migration]:
    """
    Choose what has yet to be applied.

    Migrations that the database has from a newer release, and this one lacks, are left alone.

    Args:
        available: The migrations of this release, in order.
        applied: Checksums by name, as the database recorded them.

    Raises:
        MigrationError: An applied file was changed, or a new one would come before an applied one.
    """
    for migration in available:
        if applied.get(migration.name, migration.checksum) != migration.checksum:
            raise MigrationError(
                f"migration {migration.name} was changed after it had been applied; "
                "restore the file and put the change into a new migration"
            )
    todo = [migration for migration in available if migration.name not in applied]
    known = [migration.name for migration in available if migration.name in applied]
    if todo and known and todo[0].name < known[-1]:
        raise MigrationError(
            f"migration {todo[0].name} comes before {known[-1]}, which is applied already; "
            "give it a number after all others"
        )
    return todo


async def migrate(url: str, folder: Traversable | None = None) -> list[str]:
    """
    Apply what is outstanding and return the names, in order; none where all was there.

    Raises:
        MigrationError: The files do not fit the database, another process held the lock too long,
            or a file failed; files before it stay applied.
        DatabaseUnavailable: PostgreSQL cannot be reached.
    """
    migrations = load(folder or packaged())
    connection = await _connect(url)
    try:
        try:
            await connection.execute("SELECT pg_advisory_lock($1)", LOCK_KEY)
        except asyncpg.LockNotAvailableError as error:
            raise MigrationError(
                f"another process has been migrating for over {LOCK_WAIT_S_MAX} s"
            ) from error
        await connection.execute(CREATE_RECORD)
        rows = await connection.fetch("SELECT name, checksum FROM schema_migrations")
        todo = outstanding(migrations, {row["name"]: row["checksum"] for row in rows})
        for migration in todo:
            await _apply(connection, migration)
        return [migration.name for migration in todo]
    finally:
        # Closing the session also frees the lock.
        await connection.close(timeout=CONNECT_S_MAX)


async def missing(database: Database) -> list[str]:
    """Names of this release's migrations that the database lacks."""
    names = [migration.name for migration in load(packaged())]
    known = await database.fetchrow(
        "SELECT to_regclass('schema_migrations') IS NOT NULL AS is_there"
    )
    if known is None or not known["is_there"]:
        return names
    rows = await database.fetch("SELECT name FROM schema_migrations")
    applied = {row["name"] for row in rows}
    return [name for name in names if name not in applied]


async def _connect(url: str) -> asyncpg.Connection[asyncpg.Record]:
    try:
        return await asyncpg.connect(
            url,
            timeout=CONNECT_S_MAX,
            server_settings={
                "application_name": "streamlane-migrate",
                "lock_timeout": f"{LOCK_WAIT_S_MAX}s",
            },
        )
    except (OSError, asyncpg.CannotConnectNowError) as error:
        raise DatabaseUnavailable("connect", str(error) or "no answer in time") from error
    except asyncpg.exceptions.ClientConfigurationError as error:
        raise ConfigurationError(f"postgres_url: {error}") from error


async def _apply(connection: asyncpg.Connection[asyncpg.Record], migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)",
                migration.name,
                migration.checksum,
            )
    except asyncpg.PostgresError as error:
        raise MigrationError(
            f"migration {migration.name} failed with {error.sqlstate}: {error}"
        ) from error
