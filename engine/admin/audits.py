"""Who changed what, as operators look at it."""

from __future__ import annotations

from engine.admin.base import AdminBase, checked_queue
from schemas.access import AuditPage


class AuditVerbs(AdminBase):
    """The verbs that look at the audit stream."""

    async def audit_page(
        self, *, queue: str = "", who: str = "", limit: int = 50, cursor: str = ""
    ) -> AuditPage:
        """
        Find changes that people made, the newest first.

        Args:
            queue: Of this queue alone; empty for all.
            who: By this one alone; empty for everybody.
            limit: Most changes to return.
            cursor: Where an earlier page ended.

        Raises:
            EngineError: The queue's name breaks the rules, or the cursor is none.
        """
        if queue:
            checked_queue(queue)
        return await self._store.audit.page(queue=queue, who=who, limit=limit, cursor=cursor)
