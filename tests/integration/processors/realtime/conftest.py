"""Everything around gateways."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.integration.processors.realtime.rig import Rig
from tests.integration.processors.world import World


@pytest.fixture
async def rig(world: World, redis_url: str, postgres_url: str) -> AsyncIterator[Rig]:
    """Give what makes gateways and clients over the shared Valkey."""
    async with AsyncExitStack() as stack:
        yield Rig(world, redis_url, stack, postgres_url=postgres_url)
