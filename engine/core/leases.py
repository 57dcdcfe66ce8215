"""
When to renew a lease, when one counts as lost, and when idle time can be believed.

Idle time in the pending list is the lease. The server counts it by wall clock and counts its own
downtime, so after a restart or a step of the clock every lease looks expired at once.
"""

from __future__ import annotations

import msgspec

RELEASED_IDLE_MS = 86_400_000
"""Idle time given to entries that are handed back: beyond any lease, so never in doubt."""

SUSPECT_DELIVERIES = 3
"""
From this delivery on, a job is taken over alone: it, or one beside it, has killed two engines, and
the innocent must not be charged with the next.
"""


class LeaseTimes(msgspec.Struct, frozen=True, kw_only=True):
    """
    The spans that leases go by.

    Attributes:
        lease_ms: Idle time after which a job goes to another engine.
        renew_ms: Age at which a lease is renewed.
    """

    lease_ms: int
    renew_ms: int

    def needs_renewal(self, age_ms: float) -> bool:
        """Tell whether a lease of this age wants a sign of life."""
        return age_ms >= self.renew_ms

    @property
    def start_age_ms(self) -> float:
        """
        Age of a lease from which no job is started under it.

        A tenth of the lease is kept for the way to the server: beyond it another engine may hold
        the job already.
        """
        return self.lease_ms * 0.9

    def may_start(self, age_ms: float) -> bool:
        """Tell whether a job may start under a lease of this age."""
        return age_ms < self.start_age_ms

    def keeps_running(self, run_ms: float, limit_ms: float) -> bool:
        """
        Tell whether a running job's lease is still worth renewing.

        Args:
            run_ms: How long it has run.
            limit_ms: Its time limit with the time that cancelling may take.
        """
        return run_ms <= limit_ms + self.lease_ms


class ReclaimGate:
    """
    Says from which idle time on entries may be taken over.

    For one lease after anything that makes idle times lie, only entries that were handed back on
    purpose may be taken.

    Args:
        lease_ms: The lease.
        skew_ms_max: A larger jump between the server's clock and ours is a step of the clock.
    """

    def __init__(self, lease_ms: int, *, skew_ms_max: int = 1_000) -> None:
        self.lease_ms = lease_ms
        self.skew_ms_max = skew_ms_max
        self._run_id = ""
        self._offset_ms: float | None = None
        self._closed_until_ms = 0.0

    def observe(
        self, *, run_id: str, server_ms: float, uptime_ms: float, monotonic_ms: float
    ) -> None:
        """
        Take note of the server's state.

        Args:
            run_id: Identity of the server process.
            server_ms: The server's clock, Unix ms.
            uptime_ms: How long the server has been up.
            monotonic_ms: Our own clock that never goes back.
        """
        offset_ms = server_ms - monotonic_ms
        if run_id != self._run_id:
            if self._run_id or uptime_ms < self.lease_ms:
                self.close(monotonic_ms)
        elif self._offset_ms is not None and abs(offset_ms - self._offset_ms) > self.skew_ms_max:
            self.close(monotonic_ms)
        self._run_id = run_id
        self._offset_ms = offset_ms

    def close(self, monotonic_ms: float) -> None:
        """Distrust idle times for one lease, as after a reconnect."""
        self._closed_until_ms = max(self._closed_until_ms, monotonic_ms + self.lease_ms)

    def idle_ms_min(self, monotonic_ms: float) -> int:
        """Least idle time of an entry that may be taken over now."""
        if monotonic_ms < self._closed_until_ms:
            return RELEASED_IDLE_MS // 2
        return self.lease_ms
