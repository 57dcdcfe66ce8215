"""Changes what operators set for a queue, and records every change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from engine.store.operator.link import OperatorLink
from engine.wire.keys import AUDIT, QueueKeys

AUDIT_MAX = 10_000
HOLD = "hold:"
CLOCKS_APART_MS = 60_000


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
        told = _told(who=who, what=what, queue=queue, detail=detail, reason=reason)
        await self._link.script("audit", [AUDIT], AUDIT_MAX, *told, "at", await self._link.now_ms())

    async def record_once(
        self,
        since_ms: int,
        *,
        who: str,
        what: str,
        queue: str,
        detail: Mapping[str, Any],
        reason: str,
    ) -> bool:
        """
        Write what came of something into the audit stream, unless just that stands there.

        Args:
            since_ms: Unix ms of what is told; it was not recorded before.
            who: Who wanted it.
            what: What was done.
            queue: Where.
            detail: More of it, by which it is told from all others.
            reason: Why.

        Returns:
            Whether it was written now.
        """
        told = _told(who=who, what=what, queue=queue, detail=detail, reason=reason)
        # The stream may lie on another node, whose clock is another one.
        since = f"{max(0, since_ms - CLOCKS_APART_MS)}-0"
        now_ms = await self._link.now_ms()
        bounds = (AUDIT_MAX, since, AUDIT_MAX, len(told) // 2)
        return bool(await self._link.script("audit_once", [AUDIT], *bounds, *told, "at", now_ms))


def _told(*, who: str, what: str, queue: str, detail: Mapping[str, Any], reason: str) -> list[str]:
    told = msgspec.json.encode(detail).decode()
    return ["who", who, "what", what, "queue", queue, "detail", told, "reason", reason]


def read_hold(raw: bytes | None) -> Hold:
    """Read a hold; a person with redis-cli may have written anything."""
    try:
        return msgspec.json.decode(raw or b"{}", type=Hold)
    except msgspec.MsgspecError:
        return Hold(reason=(raw or b"").decode("utf-8", "replace"))
