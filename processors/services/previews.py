"""What notifications quote of messages, read when they are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from processors.database.pool import Database
from processors.database.statements import notification_deliveries as statements
from processors.errors import ProcessorError
from processors.rules.notices import News, Said
from processors.services.deliveries import Case
from processors.services.protocols import Envelope, Place, Sealer
from processors.settings.notification import NotificationSettings

if TYPE_CHECKING:
    import asyncpg

log = structlog.get_logger("processors.notifications")


class Previews:
    """
    Reads the messages that a delivery tells of.

    Args:
        database: Where messages are.
        settings: Whether they are quoted.
        sealer: Opens encrypted ones.
    """

    def __init__(
        self, database: Database, settings: NotificationSettings, sealer: Sealer | None
    ) -> None:
        self._database = database
        self._settings = settings
        self._sealer = sealer

    async def of(self, case: Case) -> News | None:
        """Read what there is to tell; None where all of it is gone or read by now."""
        row = case.row
        conversation_id: UUID = row["conversation_id"]
        first = max(case.first_seq, (row["last_read_seq"] or 0) + 1)
        rows = await self._database.fetch(
            statements.QUOTES,
            conversation_id,
            first,
            row["seq"],
            row["user_id"],
            self._settings.digest_quotes_max,
        )
        if not rows:
            return None
        said = [Said(each["sender"] or "", await self._text(case, each)) for each in rows[::-1]]
        url = self._settings.conversation_url.replace("{conversation}", str(conversation_id))
        return News(
            said=said,
            n=rows[0]["n"],
            title=row["title"] or "",
            direct=row["conversation_kind"] == "direct",
            url=url,
        )

    async def _text(self, case: Case, row: asyncpg.Record) -> str:
        if not self._settings.previews:
            return ""
        if row["ciphertext"] is None:
            # An encrypted conversation keeps its words, even those from before.
            return "" if case.row["encrypted"] else row["body"] or ""
        if not self._settings.decrypt_previews or self._sealer is None:
            return ""
        place = Place(case.row["conversation_id"], row["id"], row["version"])
        try:
            plain = await self._sealer.open(place, Envelope(row["key_id"], row["ciphertext"]))
        except ProcessorError as error:
            # The news is worth telling without its words.
            log.warning("preview_not_opened", message_id=row["id"], error=type(error).__name__)
            return ""
        return plain.decode(errors="replace")
