"""Digests: what was gathered for a while is sent together."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from engine import Clock, Snooze
from processors.database.pool import Database
from processors.database.statements import notification_deliveries as statements
from processors.services.deliveries import moment, ms_until
from processors.settings.notification import NotificationSettings
from schemas.messages import DigestResult, FlushDigest


class DigestService:
    """
    Flushes digests.

    The row that gathers is taken away and its deliveries are made in one statement, so that each
    message goes into one digest, whoever flushes, and how often.

    Args:
        database: Where digests are.
        settings: What the operator says.
        clock: Tells the time.
        committed: Called after each commit that left jobs in the outbox.
    """

    def __init__(
        self,
        database: Database,
        settings: NotificationSettings,
        *,
        clock: Clock,
        committed: Callable[[], None],
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._committed = committed

    async def flush(self, asked: FlushDigest) -> DigestResult:
        """
        Turn what was gathered into deliveries; each of them is decided on when it is made.

        Raises:
            Snooze: It is not due yet.
        """
        now = moment(self._clock.now_ms())
        names = (asked.user_id, asked.channel, asked.conversation_id)
        expires_at = now + timedelta(seconds=self._settings.message_ttl_s)
        row = await self._database.fetchrow(
            statements.FLUSH, *names, now, expires_at, self._settings.targets_max
        )
        if row is None:
            waiting = await self._database.fetchrow(statements.DIGEST_DUE, *names)
            if waiting is not None and waiting["due_at"] > now:
                raise Snooze(ms_until(waiting["due_at"], now), reason="the digest is not due yet")
            return DigestResult(messages=0, deliveries=0)
        self._committed()
        return DigestResult(messages=row["n"], deliveries=row["deliveries"])
