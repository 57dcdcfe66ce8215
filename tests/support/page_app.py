"""An app for tests of the page: queues of every kind, whose jobs do what their payloads say."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from engine import App, Exponential, Hold, Job, Registry

QUEUES = {
    "message-delivery": ("send-message",),
    "notification": ("push", "digest"),
    "indexing": ("index-message",),
    "encryption": ("encrypt", "rotate-keys"),
    "cleanup": ("sweep",),
    "batch-message": ("campaign", "part"),
    "steering": ("steered", "other"),
}
"""Queues, and the types that each of them takes; ``steering`` is for tests that act."""


HOSTILE = {"__proto__": ("constructor", "valueof")}
"""As far as names of queues and types can be hostile."""


class Trouble(Exception):
    """What a job was told to raise."""


def build(_settings: Any) -> App:
    """Build the app."""
    return App(_registry(QUEUES))


def build_hostile(_settings: Any) -> App:
    """Build the same with names that do harm where they are taken for something else."""
    return App(_registry(HOSTILE))


def _registry(queues: Mapping[str, Sequence[str]]) -> Registry:
    registry = Registry()
    for queue, types in queues.items():
        for name in types:
            retry = Exponential(attempts=2 if name == "push" else 1, base_s=0)
            registry.job(name, queue=queue, timeout_s=3_600, retry=retry, events=True)(_run)
    return registry


async def _run(job: Job, payload: dict[str, Any]) -> Any:
    """
    Do what the payload says.

    ``say`` is reported as progress; ``do`` is ``hang``, ``hold``, ``raise`` (with ``say`` as its
    text) or anything else, upon which ``give`` is the result.
    """
    said = payload.get("say")
    if said is not None:
        await job.progress(40, str(said))
    match payload.get("do"):
        case "hang":
            await asyncio.Event().wait()
        case "hold":
            raise Hold(str(said))
        case "raise":
            raise Trouble(str(said))
        case "once" if job.attempt == 1:
            raise Trouble(str(said))
    return payload.get("give")
