"""A cancelled wait for a connection stays cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from processors.database.pool import Database


class InstantPool:
    """Gives out a connection in the loop turn after it was asked for."""

    def __init__(self) -> None:
        self.lent = 0

    async def acquire(self) -> Any:
        await asyncio.sleep(0)
        self.lent += 1
        return None

    async def release(self, connection: Any, *, timeout: float) -> None:
        self.lent -= 1


@pytest.mark.parametrize("turns", range(8))
async def test_cancellation_is_not_lost_at_any_turn(turns: int) -> None:
    """Goal: whichever loop turn a cancellation meets, the loop that borrows connections ends."""
    pool = InstantPool()
    database = Database(pool, wait_s=10)  # type: ignore[arg-type]

    async def borrow_for_ever() -> None:
        while True:
            async with database.connection():
                await asyncio.sleep(0)

    task = asyncio.create_task(borrow_for_ever())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=5)

    assert done == {task}
    assert task.cancelled()
    assert pool.lent == 0
