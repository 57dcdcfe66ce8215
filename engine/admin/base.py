"""What every group of verbs stands on: the store, who acts, and the queues at a glance."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Self

from engine.admin.shelf import NumberShelf
from engine.clock import Clock, SystemClock
from engine.errors import EngineError, StoreError, StoreUnavailable
from engine.logs import get_logger
from engine.store.operator import OperatorStore
from schemas.rules import QUEUE_NAME
from schemas.stats import EngineStats, QueueStats

log = get_logger("admin")


class AdminBase:
    """
    One connection, and who acts over it; :class:`engine.admin.Admin` describes the arguments.

    An async context manager, or :meth:`close` it.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        who: str,
        types: Mapping[str, Sequence[str]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._store = OperatorStore(redis_url)
        self._who = who
        self._types = {queue: list(names) for queue, names in (types or {}).items()}
        self._clock = clock or SystemClock()
        self._shelf = NumberShelf(self._store, self._clock)

    def acting_as(self, who: str) -> Self:
        """Return the same verbs over the same connection, recorded as somebody else's."""
        other = copy.copy(self)
        vars(other).update(_who=who)
        return other

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next verb opens a new one."""
        self._store.close()

    async def engines(self) -> list[EngineStats]:
        """List the engines heard of within the last minute."""
        return await self._store.queues.engines()

    async def queues(
        self, names: Sequence[str] = (), *, engines: list[EngineStats] | None = None
    ) -> list[QueueStats]:
        """
        Count what queues hold.

        Args:
            names: Which queues; empty for those of the app and of all running engines.
            engines: What :meth:`engines` told a moment ago; None to ask.
        """
        if engines is None:
            engines = await self.engines()
        known = [*self._types, *(queue for engine in engines for queue in engine.beat.queues)]
        wanted = [checked_queue(name) for name in names] or sorted({*known})
        return await self._store.queues.overview(wanted, self._types, engines)

    async def queue(self, name: str) -> QueueStats:
        """Count what one queue holds."""
        (found,) = await self.queues([name])
        return found

    async def _record(
        self, queue: str, what: str, detail: Mapping[str, object], reason: str
    ) -> None:
        """
        Write a change into the audit stream, once it was made.

        The server may go away in between, and who asks again changes nothing, so that nothing would
        tell of it: it is tried twice, and the log then says it instead.
        """
        told = {"who": self._who, "what": what, "queue": queue, "reason": reason}
        try:
            await self._store.control.record(detail=detail, **told)
        except StoreUnavailable:
            try:
                await self._store.control.record(detail=detail, **told)
            except StoreError:
                log.error("change_not_audited", **told, **_named(detail))
                raise


def _named(detail: Mapping[str, object]) -> dict[str, object]:
    """Say which job or operation was changed, and nothing of what it holds."""
    return {name: detail[name] for name in ("id", "operation", "schedule") if name in detail}


def checked_queue(name: str) -> str:
    """
    Return the name of a queue.

    Raises:
        EngineError: It breaks the rule for names.
    """
    if not QUEUE_NAME.fullmatch(name):
        raise EngineError(f"queue {name!r} must match {QUEUE_NAME.pattern}")
    return name
