"""
Keeps leases alive, from a thread of its own.

A handler that blocks the event loop must not lose its lease to that, so renewal runs beside the
loop on a blocking connection. What it learns is handed to the loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from engine.clock import Clock
from engine.core.leases import LeaseTimes
from engine.errors import StoreError
from engine.runtime.gatekeeper import Gatekeeper
from engine.runtime.settler import Settler
from engine.runtime.workers import Workers
from engine.store.base import Lease, Store

CHUNK = 500


class Held:
    """What one queue holds, as the renewing thread sees it."""

    def __init__(
        self, queue: str, workers: Workers, gatekeeper: Gatekeeper, settler: Settler
    ) -> None:
        self.queue = queue
        self.workers = workers
        self.gatekeeper = gatekeeper
        self.settler = settler

    def leases(self, now: float, times: LeaseTimes, *, loop_alive: bool) -> list[Lease]:
        """
        Leases that want a sign of life.

        Jobs move from the buffer over the workers to the settler, and the three are looked at in
        that order, so none is missed on its way. Those that the gatekeeper puts back into the
        buffer are looked at first, and are young.
        """
        found: list[Lease] = []
        if loop_alive:
            found += self.gatekeeper.leases()
            found += self.workers.todo.copy()
        for worker in self.workers.running():
            job = worker.job
            if job is None:
                continue
            run_ms = (now - worker.started) * 1e3
            if times.keeps_running(run_ms, job.bound.timeout_s * 1e3):
                found.append(job.lease)
        if loop_alive:
            found += self.settler.leases()
        return [
            lease
            for lease in found
            if not lease.lost and times.needs_renewal((now - lease.batch.since) * 1e3)
        ]


class Renewer:
    """
    The renewing thread.

    Args:
        store: Where leases live.
        clock: Time.
        times: When to renew.
        held: What there is to renew.
        on_lost: Called from the thread with queue, lane and entries that are lost.
        on_error: Called from the thread with what went wrong.
        on_bug: Called from the thread with what should not have happened; no lease is renewed
            after it.
        on_served: Called from the thread once the server answered after that.
        ticked: Monotonic seconds at which the event loop last ran.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        times: LeaseTimes,
        held: Iterable[Held],
        on_lost: Callable[[str, str, set[bytes]], None],
        on_error: Callable[[StoreError], None],
        on_bug: Callable[[Exception], None],
        on_served: Callable[[], None],
        ticked: Callable[[], float],
    ) -> None:
        self._store = store
        self._clock = clock
        self._times = times
        self._held = list(held)
        self._on_lost = on_lost
        self._on_error = on_error
        self._on_bug = on_bug
        self._on_served = on_served
        self._ticked = ticked
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="renewer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; waits for a renewal that is under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        pause_s = min(1.0, self._times.renew_ms / 4e3)
        failing = False
        while not self._stop.wait(pause_s):
            try:
                self.renew()
            except StoreError as error:
                failing = True
                self._on_error(error)
            except Exception as error:  # noqa: BLE001 - a silent end would cost all leases
                self._on_bug(error)
                return
            else:
                if failing:
                    failing = False
                    self._on_served()

    def renew(self) -> None:
        """
        Renew everything that is due once.

        Raises:
            StoreError: The server did not answer; the rest is left for the next time.
        """
        now = self._clock.monotonic()
        loop_alive = now - self._ticked() < self._times.lease_ms / 1e3
        for held in self._held:
            by_lane: dict[str, list[Lease]] = {}
            for lease in held.leases(now, self._times, loop_alive=loop_alive):
                by_lane.setdefault(lease.batch.lane, []).append(lease)
            for lane, leases in by_lane.items():
                self._renew_lane(held.queue, lane, leases, now, loop_alive=loop_alive)

    def _renew_lane(
        self, queue: str, lane: str, leases: Sequence[Lease], now: float, *, loop_alive: bool
    ) -> None:
        lost: set[bytes] = set()
        for at in range(0, len(leases), CHUNK):
            entries: Mapping[bytes, int] = {
                lease.entry: lease.deliveries for lease in leases[at : at + CHUNK]
            }
            lost.update(self._store.renew(queue, lane, entries))
        if loop_alive:
            # All that is held of a batch was due together, so it was renewed as a whole. While the
            # loop is silent what waits in the buffer is left out, and must not count as renewed.
            for lease in leases:
                lease.batch.since = now
        if lost:
            self._on_lost(queue, lane, lost)
