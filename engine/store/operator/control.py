"""Changes what operators set for a queue, and records every change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from engine.store.operator.link import OperatorLink
from engine.wire.keys import AUDIT, QueueKeys

AUDIT_MAX = 10_000
HOLD = "hold:"


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """What ``hold:<type>`` of a queue's control hash says."""

    reason: str = ""
    since_ms: int = 0
    by: str = ""


class ControlWriter:
    """Changes what operators set, and records every change."""

    def __init__(self, link: OperatorLink) -> None:
        self._link = link

    async def set(self, queue: str, fields: Mapping[str, str], *, keep: str = "") -> str:
        """
        Set fields of a queue's control hash; an empty value takes one away.

        Args:
            queue: The queue.
            fields: Names and values; the first one decides for ``keep``.
            keep: Change nothing where the first field holds this already; ``*`` for anything.

        Returns:
            What the first field held before.
        """
        flat = [part for pair in fields.items() for part in pair]
        before: bytes = await self._link.script("control", [QueueKeys(queue).control], keep, *flat)
        return before.decode("utf-8", "replace")

    async def get(self, queue: str, field: str) -> str:
        """Return one field of a queue's control hash; empty where it is not set."""
        raw: bytes | None = await self._link.one(b"HGET", QueueKeys(queue).control, field)
        return (raw or b"").decode("utf-8", "replace")

    async def record(
        self, *, who: str, what: str, queue: str, detail: Mapping[str, Any], reason: str
    ) -> None:
        """Write one change into the audit stream."""
        fields = {
            "at": str(await self._link.now_ms()),
            "who": who,
            "what": what,
            "queue": queue,
            "detail": msgspec.json.encode(detail).decode(),
            "reason": reason,
        }
        flat = [part for pair in fields.items() for part in pair]
        await self._link.script("audit", [AUDIT], AUDIT_MAX, *flat)


def read_hold(raw: bytes | None) -> Hold:
    """Read a hold; a person with redis-cli may have written anything."""
    try:
        return msgspec.json.decode(raw or b"{}", type=Hold)
    except msgspec.MsgspecError:
        return Hold(reason=(raw or b"").decode("utf-8", "replace"))
