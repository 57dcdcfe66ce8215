"""What users say about notifications."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from processors.database.pool import Database
from processors.database.statements import preferences as statements
from processors.errors import Refused
from processors.rules.decision import Level
from processors.rules.preferences import ANY
from processors.rules.quiet_hours import Window, zone
from processors.rules.unsubscribe import Unsubscribe

PATTERN: Final = re.compile(r"\*|[a-z0-9][a-z0-9._-]{0,63}|[a-z0-9][a-z0-9._-]{0,61}\.\*")
WINDOWS_MAX: Final = 14


class Wish(NamedTuple):
    """
    One preference, as it is set and listed.

    Attributes:
        type: A type, a family such as ``billing.*``, or ``*``.
        channel: A channel, or ``*``.
        enabled: Whether it is wanted.
        digest: Gathered for a while and sent together.
        conversation_id: For this conversation alone; None for all.
    """

    type: str
    channel: str
    enabled: bool
    digest: bool = False
    conversation_id: UUID | None = None


class PreferenceService:
    """
    Keeps preferences, quiet hours and mutes; the next decision goes by them.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set(self, user_id: UUID, wish: Wish) -> None:
        """
        Set a preference.

        Raises:
            Refused: ``invalid-preference`` or ``unknown-user``.
        """
        _check(wish)
        row = await self._database.fetchrow(
            statements.SET, user_id, *_scope(wish), wish.type, wish.channel, wish.enabled,
            wish.digest,
        )  # fmt: skip
        if row is None:
            raise Refused("unknown-user", f"there is no user {user_id}")

    async def clear(self, user_id: UUID, wish: Wish) -> None:
        """Take a preference back; what is more general counts again."""
        await self._database.execute(
            statements.CLEAR, user_id, *_scope(wish), wish.type, wish.channel
        )

    async def of(self, user_id: UUID) -> list[Wish]:
        """List what a user has set."""
        rows = await self._database.fetch(statements.OF_USER, user_id)
        return [
            Wish(
                type=row["type"],
                channel=row["channel"],
                enabled=row["enabled"],
                digest=row["digest"],
                conversation_id=UUID(row["scope_id"]) if row["scope_id"] else None,
            )
            for row in rows
        ]

    async def set_default(self, tenant_id: str, wish: Wish) -> None:
        """
        Set what holds for a tenant's users who have not said otherwise.

        Raises:
            Refused: ``invalid-preference``.
        """
        _check(wish)
        await self._database.execute(
            statements.SET_DEFAULT, tenant_id, wish.type, wish.channel, wish.enabled, wish.digest
        )

    async def set_quiet_hours(self, user_id: UUID, windows: Sequence[Window]) -> None:
        """
        Replace a user's quiet hours; a window with an empty zone goes by the user's own.

        Raises:
            Refused: ``invalid-quiet-hours``.
        """
        fault = _fault(windows)
        if fault:
            raise Refused("invalid-quiet-hours", fault)
        async with self._database.transaction() as connection:
            await connection.execute(statements.CLEAR_QUIET, user_id)
            await connection.execute(
                statements.ADD_QUIET,
                user_id,
                [window.starts for window in windows],
                [window.ends for window in windows],
                [window.days for window in windows],
                [window.tz or None for window in windows],
            )

    async def set_zone(self, user_id: UUID, tz: str) -> None:
        """
        Set the zone in which a user lives.

        Raises:
            Refused: ``unknown-zone`` or ``unknown-user``.
        """
        if zone(tz) is None:
            raise Refused("unknown-zone", f"{tz[:64]!r} is not an IANA zone")
        if await self._database.fetchrow(statements.SET_ZONE, user_id, tz) is None:
            raise Refused("unknown-user", f"there is no user {user_id}")

    async def mute(
        self,
        conversation_id: UUID,
        user_id: UUID,
        *,
        level: Level = "all",
        until: datetime | None = None,
    ) -> None:
        """
        Say what a member wants to hear of a conversation, and until when nothing at all.

        Raises:
            Refused: ``not-a-member``.
        """
        row = await self._database.fetchrow(statements.MUTE, conversation_id, user_id, level, until)
        if row is None:
            raise Refused("not-a-member", f"user {user_id} is not in {conversation_id}")

    async def unsubscribe(self, wish: Unsubscribe) -> None:
        """
        Stop a type over a channel, as one click in an email asks, in all conversations.

        Raises:
            Refused: ``invalid-preference`` or ``unknown-user``.
        """
        _check(Wish(wish.type, wish.channel, enabled=False))
        row = await self._database.fetchrow(
            statements.UNSUBSCRIBE, wish.user_id, wish.type, wish.channel
        )
        if row is None:
            raise Refused("unknown-user", f"there is no user {wish.user_id}")


def _check(wish: Wish) -> None:
    if not PATTERN.fullmatch(wish.type):
        raise Refused("invalid-preference", "the type is not one, nor a family, nor *")
    if wish.channel not in ("push", "email", "sms", "in_app", ANY):
        raise Refused("invalid-preference", "the channel is not one, nor *")


def _scope(wish: Wish) -> tuple[str, str]:
    if wish.conversation_id is None:
        return "user", ""
    return "conversation", str(wish.conversation_id)


def _fault(windows: Sequence[Window]) -> str:
    if len(windows) > WINDOWS_MAX:
        return f"more than {WINDOWS_MAX} windows"
    if len({window.starts for window in windows}) < len(windows):
        return "two windows start at the same time"
    for window in windows:
        if not 1 <= window.days <= 127:
            return "days is a mask of seven bits with at least one set"
        if window.tz and zone(window.tz) is None:
            return f"{window.tz[:64]!r} is not an IANA zone"
    return ""
