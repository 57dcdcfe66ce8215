"""What providers tell later: by webhooks, and by mail that comes back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

import structlog

from engine import Clock, Retry
from processors.database.pool import Database
from processors.database.statements import notification_deliveries as statements
from processors.rules.statuses import advanced, suppression
from processors.senders.sms import Others
from processors.services.deliveries import moment
from schemas.messages import RecordStatus, StatusResult

log = structlog.get_logger("processors.notifications")

EARLY_TRIES: Final = 4
EARLY_MS: Final = 15_000
"""A report may come before the request that it is about has ended here."""


class StatusService:
    """
    Records reports.

    Args:
        database: Where deliveries are.
        clock: Tells the time.
    """

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def record(self, report: RecordStatus, *, attempt: int) -> StatusResult:
        """
        Move a delivery's state forward and suppress its address where that follows.

        Args:
            report: What was told.
            attempt: The job's attempt: the first ones wait for a delivery that is not known yet.

        Raises:
            Retry: No delivery has the provider's id so far.
        """
        now = moment(self._clock.now_ms())
        address_hash = bytes.fromhex(report.address_hash) if report.address_hash else None
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                statements.FIND_REPORTED, report.channel, report.delivery_id, report.provider_id
            )
            is_named = report.delivery_id is not None or report.provider_id is not None
            if row is None and is_named and address_hash is None and attempt < EARLY_TRIES:
                raise Retry(EARLY_MS, reason="no delivery is known by the name that was told")
            moved = False
            if row is not None:
                state = advanced(row["state"], report.state)
                moved = state != row["state"]
                if moved:
                    code = "" if state == "delivered" else report.code or report.state
                    await connection.execute(
                        statements.REPORTED, row["id"], now, state, code, report.provider_id
                    )
                # Whom it went to, which need not be whom the user's address leads to now.
                address_hash = address_hash or row["address_hash"]
            if report.state == "started" and address_hash is not None:
                await connection.execute(statements.LIFT, report.channel, address_hash)
            reason = suppression(report.channel, report.state, report.code)
            suppressed = False
            if reason and address_hash is not None:
                added = await connection.fetchrow(
                    statements.SUPPRESS, report.channel, address_hash, reason, now
                )
                suppressed = added is not None
        if suppressed:
            log.info("address_suppressed", channel=report.channel, reason=reason, code=report.code)
        return StatusResult(advanced=moved, suppressed=suppressed)


def texts_of_others(database: Database) -> Others:
    """Make what tells which texts at the SMS provider are known to be of other deliveries."""

    async def of_others(ids: Sequence[str], delivery_id: UUID) -> Collection[str]:
        rows = await database.fetch(statements.OF_OTHERS, list(ids), delivery_id)
        return {row["provider_id"] for row in rows}

    return of_others
