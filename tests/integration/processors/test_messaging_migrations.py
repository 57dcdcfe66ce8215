"""Migrations against real PostgreSQL servers, 15 among them where Debian's is installed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from engine.embedded import PostgresServer
from processors.database.migrations import load, migrate, missing, packaged
from processors.database.outbox import claim
from processors.database.pool import open_database
from processors.errors import ConfigurationError, DatabaseUnavailable, MigrationError
from processors.settings import from_env
from schemas.messages import DeliveryConfirmation, Receipt
from tests.integration.processors.world import World

pytestmark = pytest.mark.servers


@pytest.fixture
def postgres_url(empty_postgres_url: str) -> str:
    """Give an empty database: what is here is about the first migration, too."""
    return empty_postgres_url


POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")


class OlderPostgres(PostgresServer):
    """A server without the locale provider that came with PostgreSQL 17."""

    def _run(self, data: Path, arguments: list[str | Path], *, statement: str = "") -> None:
        kept = [argument for argument in arguments if "builtin" not in str(argument)]
        super()._run(data, kept, statement=statement)


@pytest.fixture(scope="module")
def postgres_15(session_directory: Path) -> Iterator[str]:
    if not (POSTGRES_15 / "postgres").exists():
        pytest.skip("PostgreSQL 15 is not installed (Debian: apt-get install postgresql-15)")
    server = OlderPostgres(POSTGRES_15, session_directory / "postgres15")
    server.start()
    yield server.url
    server.stop()


def files_in(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, sql in files.items():
        (folder / f"{name}.sql").write_text(sql)
    return folder


async def tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {row["tablename"] for row in rows}
    finally:
        await connection.close()


async def test_migrations_are_applied_once_whoever_starts_first(postgres_url: str) -> None:
    names = [migration.name for migration in load(packaged())]

    applied = await asyncio.gather(*(migrate(postgres_url) for _ in range(6)))

    assert sorted(applied) == [[]] * 5 + [names]
    assert await migrate(postgres_url) == []


async def test_changed_migration_is_refused(postgres_url: str, tmp_path: Path) -> None:
    folder = files_in(tmp_path, **{"0001_one": "CREATE TABLE one ()"})
    assert await migrate(postgres_url, folder) == ["0001_one.sql"]
    files_in(
        tmp_path, **{"0001_one": "CREATE TABLE one (id int)", "0002_two": "CREATE TABLE two ()"}
    )

    with pytest.raises(MigrationError, match=r"0001_one\.sql was changed after"):
        await migrate(postgres_url, folder)

    assert "two" not in await tables(postgres_url)


async def test_failed_migration_leaves_nothing_of_itself(postgres_url: str, tmp_path: Path) -> None:
    folder = files_in(
        tmp_path,
        **{
            "0001_one": "CREATE TABLE one ()",
            "0002_two": "CREATE TABLE two (); SELECT 1 / 0;",
        },
    )

    with pytest.raises(MigrationError, match=r"0002_two\.sql failed with 22012"):
        await migrate(postgres_url, folder)

    assert {"one", "two"} & await tables(postgres_url) == {"one"}
    files_in(tmp_path, **{"0002_two": "CREATE TABLE two ()"})
    assert await migrate(postgres_url, folder) == ["0002_two.sql"]


async def test_server_that_is_not_there_is_told_by_name(unused_port: int) -> None:
    with pytest.raises(DatabaseUnavailable, match="connect"):
        await migrate(f"postgresql://nobody@127.0.0.1:{unused_port}/nothing")
    with pytest.raises(ConfigurationError, match="postgres_url"):
        await migrate("mysql://127.0.0.1/nothing")


async def test_outstanding_migrations_are_named(postgres_url: str) -> None:
    database = await open_database(postgres_url, from_env({}))

    assert await missing(database) == [migration.name for migration in load(packaged())]
    await migrate(postgres_url)
    assert await missing(database) == []
    await database.close()


async def test_everything_runs_on_postgresql_15(postgres_15: str) -> None:
    """Goal: neither the schema nor a statement needs what came after PostgreSQL 15."""
    await migrate(postgres_15)
    database = await open_database(postgres_15, from_env({}))
    world = World(database, from_env({}))
    assert await world.value("SELECT current_setting('server_version_num')::int / 10000") == 15
    conversation_id, (ada, bob) = await world.conversation(2)

    sent = await world.send(conversation_id, ada, client_id="c1")
    again = await world.send(conversation_id, ada, client_id="c1")
    result = await world.messages.apply_receipts(
        DeliveryConfirmation(
            user_id=bob,
            receipts=(Receipt(message_id=sent.message_id, state="delivered"),),
            conversation_id=conversation_id,
            read_up_to_seq=1,
        ),
        job_id="fifteen",
    )

    assert (sent.seq, again.duplicate, result.read_up_to_seq) == (1, True, 1)
    assert await world.value("SELECT n_read FROM messages") == 1
    assert len(await claim(database, events_max=9, claim_ms=1000)) == 2
    await database.close()
