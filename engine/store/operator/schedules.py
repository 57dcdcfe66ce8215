"""Reads and changes the schedules of a queue, as operators do."""

from __future__ import annotations

from engine.store.encoding import schedule_answer, schedule_arguments
from engine.store.operator.link import OperatorLink, pairs
from engine.store.schedule_base import ScheduleAnswer, ScheduleChange
from engine.wire.keys import QueueKeys


class ScheduleEditor:
    """Reads and changes schedules."""

    def __init__(self, link: OperatorLink) -> None:
        self._link = link

    async def read(self, queue: str) -> dict[bytes, bytes]:
        """Return the records by name, whatever stands there; none where the key holds no hash."""
        key = QueueKeys(queue).schedules
        (flat,) = await self._link.many([(b"HGETALL", key)], broken=set())
        return pairs(flat)

    async def one(self, queue: str, name: str) -> bytes | None:
        """Return one record."""
        found: bytes | None = await self._link.one(b"HGET", QueueKeys(queue).schedules, name)
        return found

    async def change(self, queue: str, change: ScheduleChange) -> ScheduleAnswer:
        """Apply a change; see :meth:`engine.store.base.Store.schedule`."""
        names, arguments = schedule_arguments(QueueKeys(queue), change)
        return schedule_answer(await self._link.script("schedule", names, *arguments))
