"""A migrated database and the services over it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from processors.database.migrations import migrate
from processors.database.pool import open_database
from processors.settings import from_env
from tests.integration.processors.world import World


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    """Give services over a migrated database of the test's own."""
    await migrate(postgres_url)
    settings = from_env({"PROCESSORS_POOL_CONNECTIONS_MAX": "8"})
    database = await open_database(postgres_url, settings)
    yield World(database, settings)
    await database.close()
