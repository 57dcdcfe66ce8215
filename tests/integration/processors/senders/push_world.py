"""Push senders over peers, and short ways to say what is sent to whom."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from engine import Clock, SystemClock
from processors.senders.base import Provider, Push, PushSender, PushTarget
from processors.senders.push import open_push_senders
from processors.settings import from_env


@asynccontextmanager
async def sending(
    environ: Mapping[str, str], *, clock: Clock | None = None, **settings: object
) -> AsyncIterator[Mapping[Provider, PushSender]]:
    """Open the senders that a peer's settings and further ones make."""
    more = {f"PROCESSORS_PUSH_{name.upper()}": str(value) for name, value in settings.items()}
    own = from_env({**environ, **more}).push
    async with open_push_senders(own, clock=clock or SystemClock()) as senders:
        yield senders


def target(provider: Provider, token: str = "device", **changed: Any) -> PushTarget:
    """Make a target."""
    kind = "subscription" if provider == "webpush" else "token"
    return PushTarget(**{"id": uuid4(), "provider": provider, "kind": kind, "token": token}
                      | changed)  # fmt: skip


def push(**changed: Any) -> Push:
    """Make a push."""
    return Push(**{"delivery_id": uuid4(), "title": "Ada", "body": "Hello"} | changed)
