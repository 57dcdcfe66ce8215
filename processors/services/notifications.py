"""Notifications: who is told of what, and all that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import asyncpg

from engine import Clock, Retry
from processors.database.pool import Database
from processors.database.statements import notifications as statements
from processors.rules.audience import LARGE, News, Person, Plan, Planner, push_delay_ms
from processors.rules.preferences import MESSAGE, is_of
from processors.services.deliveries import defaults_of, moment, preferences_of
from processors.settings.notification import NotificationSettings
from schemas.messages import NotifyEvent, NotifyMessages, NotifyResult

if TYPE_CHECKING:
    from processors.database.pool import Connection

ROWS_AT_ONCE: Final = 1_000
"""Notifications of one transaction, at most."""

MESSAGES_AT_ONCE: Final = 20
"""Messages of one conversation that are told of together."""

PAGES_MAX: Final = 200
"""Transactions of one job, about; what is left goes to a job that follows."""

NOBODY: Final = UUID(int=0)


class NotificationService:
    """
    Tells users of messages and events.

    Telling again changes nothing: a user hears of one key once, and deliveries, digests, jobs and
    live events are written with the notification that they hang on, or not at all.

    Args:
        database: Where notifications are.
        settings: What the operator says.
        clock: Tells the time.
        draw: Gives uniform numbers in [0, 1), which spread the pushes of one message.
        committed: Called after each commit that left jobs and events in the outbox.
    """

    def __init__(
        self,
        database: Database,
        settings: NotificationSettings,
        *,
        clock: Clock,
        draw: Callable[[], float],
        committed: Callable[[], None],
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._draw = draw
        self._committed = committed

    async def notify_messages(self, asked: NotifyMessages) -> NotifyResult:
        """
        Tell the members of their conversations of new messages.

        Messages and conversations that are gone are passed over, and so is who has left, has
        muted the conversation or has read on.

        Raises:
            Retry: A message or a user was deleted at that moment.
        """
        rows = await self._database.fetch(statements.MESSAGES, list(set(asked.message_ids)))
        total = NotifyResult()
        pages = 0
        chunks = list(_chunks(rows))
        for number, chunk in enumerate(chunks):
            if pages >= PAGES_MAX:
                await self._go_on_later([row["id"] for each in chunks[number:] for row in each])
                break
            count, told = await self._tell_members(
                chunk, asked.after_user or NOBODY, PAGES_MAX - pages
            )
            pages += count
            total = _sum(total, told)
        return total

    async def notify_event(self, asked: NotifyEvent) -> NotifyResult:
        """
        Tell users of an event; those who do not exist are passed over.

        Raises:
            Retry: A user was deleted at that moment.
        """
        settings = self._settings
        rows = await self._database.fetch(
            statements.USERS, sorted(set(asked.user_ids)), settings.targets_max
        )
        defaults = await self._database.fetch(statements.DEFAULTS, "")
        planner = Planner(
            asked.type,
            defaults_of(defaults),
            mandatory_types=settings.mandatory_types,
            channels=asked.channels,
            delay_ms=lambda: 0,
        )
        plan = planner.plan([_person(row) for row in rows], [News(asked.dedup_key)])
        payload = {"title": asked.title, "body": asked.body, "data": asked.data}
        return await self._write(
            asked.type,
            plan,
            payload=payload,
            ttl_s=asked.ttl_s or settings.event_ttl_s,
            lane="high" if is_of(asked.type, settings.mandatory_types) else "normal",
        )

    async def _tell_members(
        self, messages: Sequence[asyncpg.Record], after: UUID, pages_max: int
    ) -> tuple[int, NotifyResult]:
        """Tell the members of one conversation, page by page; returns how many, and the sum."""
        conversation_id = messages[0]["conversation_id"]
        planner = await self._planner(messages[0])
        news = [
            News(
                dedup_key=f"message:{row['id']}",
                message_id=row["id"],
                seq=row["seq"],
                sender_id=row["sender_id"],
                mentions=frozenset(row["mentions"]),
            )
            for row in messages
        ]
        page_max = ROWS_AT_ONCE // len(news)
        direct = messages[0]["kind"] == "direct"
        ids = [row["id"] for row in messages]
        found, pages, total = page_max, 0, NotifyResult()
        while found == page_max:
            if pages == pages_max:
                await self._go_on_later(ids, after)
                break
            rows = await self._database.fetch(
                statements.MEMBERS,
                conversation_id,
                self._settings.targets_max,
                after,
                page_max,
                self._now(),
            )
            found = len(rows)
            pages += 1
            if rows:
                after = rows[-1]["user_id"]
                plan = planner.plan([_member(row, direct=direct) for row in rows], news)
                total = _sum(total, await self._write(
                    MESSAGE, plan, conversation_id=conversation_id,
                    ttl_s=self._settings.message_ttl_s,
                ))  # fmt: skip
                members = [row["user_id"] for row in rows]
                await self._database.execute(
                    statements.SETTLE_READS, conversation_id, members, ids, self._now()
                )
        return pages, total

    async def _planner(self, message: asyncpg.Record) -> Planner:
        settings = self._settings
        defaults = await self._database.fetch(statements.DEFAULTS, message["tenant_id"])
        counted = await self._database.fetchrow(
            statements.MEMBER_COUNT, message["conversation_id"], LARGE + 1
        )
        members = counted["n"] if counted else 0
        return Planner(
            MESSAGE,
            defaults_of(defaults),
            mandatory_types=settings.mandatory_types,
            channels=None,
            delay_ms=lambda: push_delay_ms(
                members,
                base_ms=settings.push_delay_ms,
                spread_ms=settings.push_spread_ms,
                draw=self._draw(),
            ),
        )

    async def _write(
        self,
        type_: str,
        plan: Plan,
        *,
        ttl_s: int,
        conversation_id: UUID | None = None,
        payload: Mapping[str, Any] | None = None,
        lane: str = "normal",
    ) -> NotifyResult:
        """Write a plan in one transaction, as far as it is new."""
        if not plan.told:
            return NotifyResult()
        now = self._now()
        try:
            row = await self._database.fetchrow(
                statements.TELL,
                type_,
                conversation_id,
                payload or {},
                now,
                now + timedelta(seconds=ttl_s),
                *_columns(
                    [
                        (user, news.dedup_key, news.message_id, news.seq, listed)
                        for user, news, listed in plan.told
                    ],
                    5,
                ),
                *_columns(plan.ways, 5),
                lane,
                now + timedelta(seconds=self._settings.digest_delay_s),
                *_columns(plan.gathered, 3),
            )
        except asyncpg.ForeignKeyViolationError:
            raise Retry(0, reason="a message or a user was deleted meanwhile") from None
        assert row is not None
        if row["notifications"]:
            self._committed()
        return NotifyResult(
            notifications=row["notifications"], deliveries=row["deliveries"], digests=row["digests"]
        )

    async def _go_on_later(self, message_ids: Sequence[UUID], after: UUID | None = None) -> None:
        """Leave messages, or members, to a job of their own: this one stays within its time."""
        job_id = f"tell-{message_ids[0]}" + (f"-{after}" if after else "")
        await self._database.execute(statements.GO_ON, list(message_ids), job_id, after)
        self._committed()

    async def cancel_read(
        self, connection: Connection, reads: Sequence[tuple[UUID, UUID, int]]
    ) -> None:
        """
        Note what was read, in the transaction of the receipts: what waits is cancelled.

        Args:
            connection: The transaction.
            reads: User, conversation and the sequence number read up to.
        """
        await connection.execute(
            statements.CANCEL_READ, *_columns(reads, 3), self._now(), self._badge_ms
        )

    async def cancel_read_messages(
        self, connection: Connection, reads: Sequence[tuple[UUID, UUID]]
    ) -> None:
        """Note what was read message by message; ``reads`` are pairs of user and message."""
        await connection.execute(
            statements.CANCEL_READ_MESSAGES, *_columns(reads, 2), self._now(), self._badge_ms
        )

    async def mark_read(self, user_id: UUID, notification_ids: Sequence[UUID]) -> int:
        """Mark notifications as read in the app, and tell the user's other clients."""
        row = await self._database.fetchrow(
            statements.MARK_READ, user_id, list(notification_ids), self._now(), self._badge_ms
        )
        assert row is not None
        self._committed()
        read: int = row["read"]
        return read

    async def listed(
        self, user_id: UUID, *, before: UUID | None = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """List a user's notifications, newest first, as the app shows them."""
        rows = await self._database.fetch(statements.LIST, user_id, before, min(limit, 200))
        return [dict(row) for row in rows]

    async def unread(self, user_id: UUID) -> int:
        """Count a user's unread notifications, up to 1,000."""
        row = await self._database.fetchrow(statements.UNREAD, user_id, 1_000)
        return int(row["n"]) if row else 0

    @property
    def _badge_ms(self) -> int:
        return max(1_000, self._settings.badge_delay_ms)

    def _now(self) -> datetime:
        return moment(self._clock.now_ms())


def _chunks(rows: Sequence[asyncpg.Record]) -> Iterator[list[asyncpg.Record]]:
    """Split messages by conversation, and long runs of one into parts."""
    for _, group in groupby(rows, key=lambda row: row["conversation_id"]):
        messages = list(group)
        for start in range(0, len(messages), MESSAGES_AT_ONCE):
            yield messages[start : start + MESSAGES_AT_ONCE]


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    """Turn rows into one list per column."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]


def _sum(one: NotifyResult, other: NotifyResult) -> NotifyResult:
    return NotifyResult(
        notifications=one.notifications + other.notifications,
        deliveries=one.deliveries + other.deliveries,
        digests=one.digests + other.digests,
    )


def _person(row: asyncpg.Record) -> Person:
    return Person(
        user_id=row["user_id"],
        targets=row["targets"],
        has_email=row["has_email"],
        has_phone=row["has_phone"],
        preferences=preferences_of(row["preferences"]),
    )


def _member(row: asyncpg.Record, *, direct: bool) -> Person:
    return _person(row)._replace(
        hears_all=direct or row["notify_level"] == "all", after_seq=row["after_seq"]
    )
