"""A migrated database and the services over it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from processors.database.migrations import migrate
from processors.database.pool import open_database
from processors.settings import from_env
from tests.integration.processors.keeper import Keeper, local_store
from tests.integration.processors.notified import Notified
from tests.integration.processors.world import World


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    """Give services over a migrated database of the test's own."""
    await migrate(postgres_url)
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
