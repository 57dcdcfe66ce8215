"""The messaging app with a kill point behind its effects."""

from __future__ import annotations

from typing import Any

from engine import App
from engine.failpoint import failpoint
from processors import app


def build(settings: Any) -> App:
    """Build the messaging app; K4 lies between a handler's commit and its end."""
    built = app.build(settings)

    async def around(_job: Any, _payload: Any, run: Any) -> Any:
        result = await run()
        failpoint("K4")
        return result

    built.registry.around(around)
    return built
