"""An app for tests of schedules: its jobs do nothing."""

from __future__ import annotations

from typing import Any

from engine import Job, Registry

QUEUE = "maintenance"
registry = Registry()


@registry.job("cleanup", queue=QUEUE)
async def cleanup(_job: Job, _payload: dict[str, Any]) -> None:
    """End at once."""


registry.schedule("declared", "cleanup", every_s=3_600, catch_up="all")
