"""A migrated database and the services over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from processors.database.migrations import migrate
from processors.database.pool import open_database
from processors.settings import from_env
from tests.integration.processors.keeper import Keeper, local_store
from tests.integration.processors.notified import Notified
from tests.integration.processors.world import World
from tests.support.servers import PostgresTestServer


@pytest.fixture(scope="session")
def migrated_database(shared_postgres: PostgresTestServer) -> str:
    """Give the name of a migrated database, to be copied: migrating takes longer than a copy."""
    name = shared_postgres.create_database()
    with ThreadPoolExecutor(1) as apart:
        apart.submit(asyncio.run, migrate(shared_postgres.url_of(name))).result()
    return name


@pytest.fixture
def postgres_url(shared_postgres: PostgresTestServer, migrated_database: str) -> Iterator[str]:
    """Give a migrated database of the test's own."""
    name = shared_postgres.create_database(template=migrated_database)
    yield shared_postgres.url_of(name)
    shared_postgres.drop_database(name)


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    """Give services over a migrated database of the test's own."""
    settings = from_env({"PROCESSORS_POOL_CONNECTIONS_MAX": "8"})
    database = await open_database(postgres_url, settings)
    yield World(database, settings)
    await database.close()


@pytest.fixture
def keeper(world: World, tmp_path: Path) -> Keeper:
    """Give the services of cleanup over that database and a directory of objects."""
    return Keeper(world, local_store(tmp_path / "objects"))


@pytest.fixture
async def notified(world: World) -> Notified:
    """Give notifications over a migrated database of the test's own."""
    return Notified(world)
