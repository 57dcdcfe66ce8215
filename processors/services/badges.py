"""The number on the icons of a user's apps."""

from __future__ import annotations

from typing import Final
from uuid import uuid5

from engine import Clock, Retry
from processors.database.pool import Database
from processors.database.statements import notification_deliveries as deliveries
from processors.database.statements import notifications as statements
from processors.rules.answers import Answer, Kind
from processors.senders.base import Push, PushTarget
from processors.senders.bundle import Senders
from processors.services.deliveries import moment, target_of
from processors.services.dispatch import Limiter
from processors.settings.notification import NotificationSettings
from schemas.messages import BadgeResult, UpdateBadge

UNREAD_MAX: Final = 1_000
BADGE_TTL_S: Final = 3_600


class BadgeService:
    """
    Sets badges.

    A badge has no delivery row: it says how many notifications are unread when it is sent, so a
    second one does no harm and a later one makes up for a lost one.

    Args:
        database: Where notifications are.
        senders: The ways out.
        settings: What the operator says.
        clock: Tells the time.
    """

    def __init__(
        self, database: Database, senders: Senders, settings: NotificationSettings, *, clock: Clock
    ) -> None:
        self._database = database
        self._senders = senders
        self._settings = settings
        self._clock = clock

    async def update(self, asked: UpdateBadge, *, job_id: str, limit: Limiter) -> BadgeResult:
        """
        Tell all of a user's devices how many notifications are unread.

        Raises:
            Retry: A provider is in trouble; what it took before is only said again.
        """
        rows = await self._database.fetch(
            deliveries.BADGE_TARGETS, asked.user_id, self._settings.targets_max
        )
        counted = await self._database.fetchrow(statements.UNREAD, asked.user_id, UNREAD_MAX)
        unread = int(counted["n"]) if counted else 0
        told = 0
        trouble = ""
        for row in rows:
            target = target_of(row, id_=row["id"], kind="kind")
            sender = self._senders.push.get(target.provider)
            if sender is None:
                continue
            await limit(target.provider)
            push = Push(
                delivery_id=uuid5(target.id, job_id),
                badge=unread,
                silent=True,
                urgent=False,
                collapse_key="badge",
                data={"type": "badge", "unread": str(unread)},
                ttl_s=BADGE_TTL_S,
            )
            answer = await sender.send(target, push)
            told += answer.kind is Kind.SENT
            trouble = await self._follow(target, answer, limit) or trouble
        if trouble:
            raise Retry(reason=trouble)
        return BadgeResult(unread=unread, targets=told)

    async def _follow(self, target: PushTarget, answer: Answer, limit: Limiter) -> str:
        """Act on an answer; returns why another try may help, or an empty string."""
        settings = self._settings
        if answer.kind is Kind.TARGET_GONE:
            await self._drop(target, answer)
        elif answer.kind is Kind.MISCONFIGURED:
            await limit(target.provider, retry_after_ms=settings.misconfigured_pause_ms)
        elif answer.kind is Kind.LIMITED and answer.scope == "provider":
            pause_ms = answer.retry_after_ms or settings.limited_pause_ms
            await limit(target.provider, retry_after_ms=pause_ms)
        elif answer.kind is Kind.LATER:
            return f"{target.provider}: {answer.code[:64]}"
        return ""

    async def _drop(self, target: PushTarget, answer: Answer) -> None:
        """Disable a device that is gone, unless it was registered anew."""
        since = moment(answer.gone_since_ms) if answer.gone_since_ms else None
        now = moment(self._clock.now_ms())
        await self._database.execute(
            deliveries.TARGET_GONE, target.id, now, target.token, answer.code[:64], since
        )
