"""What retention would remove, policy by policy; nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from processors.database.statements import retention as statements
from processors.rules.retention import Policy, cutoff
from processors.services.cleanup_run import Run
from processors.services.purge import FIRST, PAGE, MessagePurge, Window
from schemas.messages import PolicyCount

if TYPE_CHECKING:
    import asyncpg

WINDOW_ROWS = 5_000


@dataclass
class _Tally:
    conversations: int = 0
    messages: int = 0


class RetentionPlan:
    """
    Counts what a run would clear.

    Args:
        run: The dry run.
        purge: Knows policies and windows.
        now: The time of the run.
    """

    def __init__(self, run: Run, purge: MessagePurge, now: datetime) -> None:
        self._run = run
        self._purge = purge
        self._now = now
        self._tallies: dict[tuple[str, int | None, datetime | None], _Tally] = {}

    async def make(self, conversation_id: UUID | None) -> bool:
        """Count, and put the table into the run; tells whether there was time for all."""
        after, complete = FIRST, False
        while self._run.room():
            rows = await self._purge.page(after, conversation_id)
            await self._count(rows)
            if conversation_id is not None or len(rows) < PAGE:
                complete = True
                break
            after = rows[-1]["id"]
        self._run.policies = tuple(
            PolicyCount(
                policy=name,
                days=days,
                before=before,
                conversations=tally.conversations,
                messages=tally.messages,
            )
            for (name, days, before), tally in sorted(
                self._tallies.items(), key=lambda item: (item[0][0], item[0][1] or 0)
            )
        )
        self._run.count(
            conversations=sum(tally.conversations for tally in self._tallies.values()),
            messages_cleared=sum(tally.messages for tally in self._tallies.values()),
        )
        return complete

    async def _count(self, rows: Sequence[asyncpg.Record]) -> None:
        due: dict[UUID, tuple[Window, _Tally]] = {}
        for row in rows:
            policy = self._purge.policy(row)
            key = (_name(policy, row["tenant_id"]), policy.days, cutoff(policy, self._now))
            tally = self._tallies.setdefault(key, _Tally())
            tally.conversations += 1
            window = self._purge.window(row)
            if window is not None:
                due[row["id"]] = (window, tally)
        while due:
            windows = [window for window, _ in due.values()]
            async with self._run.step() as connection:
                found = await connection.fetch(
                    statements.COUNT_OLD,
                    [window.conversation_id for window in windows],
                    [window.after_seq for window in windows],
                    [window.cutoff for window in windows],
                    [WINDOW_ROWS] * len(windows),
                )
            left: dict[UUID, tuple[Window, _Tally]] = {}
            for each in found:
                window, tally = due[each["conversation_id"]]
                tally.messages += each["messages"]
                if not each["has_kept"] and each["seen"] == WINDOW_ROWS:
                    left[window.conversation_id] = (
                        replace(window, after_seq=each["last_seq"]),
                        tally,
                    )
            due = left


def _name(policy: Policy, tenant_id: str) -> str:
    return f"tenant:{tenant_id}" if policy.source == "tenant" else policy.source
