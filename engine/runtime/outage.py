"""
What the engine does while its server is away: wait with jitter, tell the truth, say it once.

Every loop that speaks to the store reports its failures here, under a name of its own, and asks
here when to try again. The outage lasts until each of them was served: a server that lets us read
but not write is no good. An outage is never a job's failure.
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
        self._troubles: dict[str, str] = {}
        self.since: float | None = None
        self.count = 0

    @property
    def reason(self) -> str:
        """What the server says, or how it cannot be reached; an empty string if all is well."""
        return next(reversed(self._troubles.values()), "")

    def note(self, error: StoreError, where: str, *, kind: str = "") -> None:
        """Count an error and, if it is news, tell of it; over once the same place succeeds."""
        kind = kind or kind_of(error)
        self._meters.redis_errors[kind] = self._meters.redis_errors.get(kind, 0) + 1
        self.count += 1
        # The last word comes last: a server that was away may be loading by now.
        self._troubles.pop(where, None)
        self._troubles[where] = str(error)[:200]
        now = self._clock.monotonic()
        if self.since is None:
            self.since = self._told_at = now
            self._on_change(self.reason, 0.0)
        elif now - self._told_at >= 30.0:
            self._told_at = now
            self._on_change(self.reason, now - self.since)

    def over(self, where: str) -> None:
        """Note that a place was served again; the outage ends with the last place's trouble."""
        if self.since is None:
            return
        self._troubles.pop(where, "")
        if not self._troubles:
            lasted = self._clock.monotonic() - self.since
            self.since = None
            self._on_change("", lasted)

    async def wait(self, error: StoreError, tries: int, where: str) -> None:
        """Wait before the next try: full jitter up to a doubling bound, never a busy loop."""
        self.note(error, where)
        bound = min(self._wait_ms_max, BASE_MS * 2 ** min(tries, 20))
        await self._clock.sleep((10.0 + bound * self._clock.draw()) / 1e3)


def kind_of(error: StoreError) -> str:
    """Name an error for the metric, from a bounded list."""
    if isinstance(error, StoreUnavailable | StoreRefused):
        return error.kind
    return "nogroup" if isinstance(error, GroupMissing) else "other"
