"""Reads who changed what, page by page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from engine.errors import EngineError
from engine.store.operator.entry import as_json
from engine.store.operator.link import CHUNK_ENTRIES_MAX, OperatorLink, entry_ms, pairs
from engine.wire.keys import AUDIT
from schemas.access import AuditEntry, AuditPage
from schemas.stats import Audited

ENTRY = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
SEARCH_MAX = 2_000
"""Entries that one page looks at; the next one goes on from there."""


class AuditReader:
    """Reads the audit stream, the newest entries first."""

    def __init__(self, link: OperatorLink) -> None:
        self._link = link

    async def latest(self, count: int) -> list[Audited]:
        """Return the latest changes, the newest first."""
        page = await self.page(queue="", who="", limit=count, cursor="")
        return [Audited(**_without_id(each)) for each in page.entries]

    async def page(self, *, queue: str, who: str, limit: int, cursor: str) -> AuditPage:
        """
        Find changes.

        Args:
            queue: Of this queue alone; empty for all.
            who: By this one alone; empty for everybody.
            limit: Most changes to return.
            cursor: Where an earlier page ended; empty for the newest.

        Raises:
            EngineError: The cursor is none that an earlier page gave.
        """
        if cursor and not ENTRY.fullmatch(cursor):
            raise EngineError(f"{cursor!r} is no cursor of the audit")
        found: list[AuditEntry] = []
        searched = 0
        high = f"({cursor}" if cursor else "+"
        while searched < SEARCH_MAX:
            count = min(CHUNK_ENTRIES_MAX, SEARCH_MAX - searched)
            chunk = await self._link.one(b"XREVRANGE", AUDIT, high, "-", b"COUNT", count)
            for entry, fields in chunk:
                if len(found) == limit:
                    return AuditPage(entries=found, searched=searched, cursor=high[1:])
                searched += 1
                high = f"({entry.decode()}"
                read = _read(entry, fields)
                if (not queue or read.queue == queue) and (not who or read.who == who):
                    found.append(read)
            if len(chunk) < count:
                return AuditPage(entries=found, searched=searched, cursor="")
        return AuditPage(entries=found, searched=searched, cursor=high[1:])


def _read(entry: bytes, fields: Sequence[bytes]) -> AuditEntry:
    """Read one entry; a person with redis-cli may have written anything."""
    told = {name: value.decode("utf-8", "replace") for name, value in pairs(fields).items()}
    at = told.get(b"at", "")
    return AuditEntry(
        id=entry.decode(),
        at=int(at) if at.isdecimal() and len(at) <= 16 else entry_ms(entry),
        who=told.get(b"who", ""),
        what=told.get(b"what", ""),
        queue=told.get(b"queue", ""),
        detail=_detail(told.get(b"detail", "")),
        reason=told.get(b"reason", ""),
    )


def _without_id(entry: AuditEntry) -> dict[str, Any]:
    told = msgspec.structs.asdict(entry)
    del told["id"]
    return told


def _detail(text: str) -> dict[str, Any]:
    found = as_json(text.encode() or b"{}")
    return found if isinstance(found, dict) else {"text": text}
