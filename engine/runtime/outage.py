"""
What the engine does while its server is away: wait with jitter, tell the truth, say it once.

Every loop that speaks to the store reports its failures here and asks here when to try again. An
outage is never a job's failure.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.clock import Clock
from engine.errors import GroupMissing, StoreError, StoreRefused, StoreUnavailable
from engine.telemetry import Meters

BASE_MS = 50.0


class Outage:
    """
    The state of the way to the store.

    Args:
        clock: Time and chance.
        meters: Counts the errors.
        wait_ms_max: Upper bound of the wait between two tries.
        on_change: Called with a reason when the store goes away and with an empty string when it
            is back; also, now and then, while it stays away.
    """

    def __init__(
        self,
        clock: Clock,
        meters: Meters,
        *,
        wait_ms_max: int,
        on_change: Callable[[str, float], None],
    ) -> None:
        self._clock = clock
        self._meters = meters
        self._wait_ms_max = wait_ms_max
        self._on_change = on_change
        self._told_at = 0.0
        self.since: float | None = None
        self.reason = ""
        self.count = 0

    def note(self, error: StoreError, *, kind: str = "") -> None:
        """Count an error and, if it is news, tell of it."""
        kind = kind or kind_of(error)
        self._meters.redis_errors[kind] = self._meters.redis_errors.get(kind, 0) + 1
        self.count += 1
        now = self._clock.monotonic()
        if self.since is None:
            self.since = now
            self._told_at = now
            self.reason = str(error)[:200]
            self._on_change(self.reason, 0.0)
        elif now - self._told_at >= 30.0:
            self._told_at = now
            self.reason = str(error)[:200]
            self._on_change(self.reason, now - self.since)

    def over(self) -> None:
        """Note that the store answered again."""
        if self.since is not None:
            lasted = self._clock.monotonic() - self.since
            self.since, self.reason = None, ""
            self._on_change("", lasted)

    async def wait(self, error: StoreError, tries: int) -> None:
        """Wait before the next try: full jitter up to a doubling bound, never a busy loop."""
        self.note(error)
        bound = min(self._wait_ms_max, BASE_MS * 2 ** min(tries, 20))
        await self._clock.sleep((10.0 + bound * self._clock.draw()) / 1e3)


def kind_of(error: StoreError) -> str:
    """Name an error for the metric, from a bounded list."""
    if isinstance(error, StoreUnavailable | StoreRefused):
        return error.kind
    return "nogroup" if isinstance(error, GroupMissing) else "other"
