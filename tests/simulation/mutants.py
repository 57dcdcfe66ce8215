"""Queues and engines with one rule taken out each. The simulation must be red for all of them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from engine.core import decision as to
from engine.core import outcome as was
from engine.core.leases import ReclaimGate
from engine.runtime.jobs import LiveJob
from engine.store.base import Batch, Lease, Promoted, Settlement
from engine.store.marks import Links, Mark
from engine.testing.queue_model import QueueModel
from engine.testing.streams import Delivery, EntryId, StreamModel
from tests.simulation.engines import LEASE_MS, SimEngine
from tests.simulation.marked import LateEngine


class Unfenced(QueueModel):
    """XACK as Redis has it: whoever asks ends the entry."""

    def _lost(self, consumer: str, settlement: Settlement) -> list[bytes]:
        return []


class FencedByOwnerAlone(QueueModel):
    """The delivery count is not looked at."""

    def _lost(self, consumer: str, settlement: Settlement) -> list[bytes]:
        pending = self._group(settlement.lane).pending
        entries = (*settlement.ended, *settlement.released)
        return [
            entry
            for entry in entries
            if entry not in pending or pending[entry].consumer != consumer
        ]


class SettlesInPart(QueueModel):
    """What is not lost is ended although the rest is; then it is sent again."""

    def settle(self, consumer: str, settlement: Settlement) -> list[bytes]:
        lost = super().settle(consumer, settlement)
        if lost:
            self._record(settlement)
        return lost


class ForgetsWhatGoesOnAtOnce(QueueModel):
    """A job that is to be tried again at once leaves its lane for good."""

    def _record(self, settlement: Settlement) -> None:
        super()._record(msgspec.structs.replace(settlement, again=[]))


class AcknowledgesAtDelivery(QueueModel):
    """The effect comes after the acknowledgement."""

    def read(self, consumer: str, lane: str, count: int) -> list[Delivery]:
        taken = super().read(consumer, lane, count)
        for delivery in taken:
            del self._group(lane).pending[delivery.entry]
            del self.lanes[lane].entries[delivery.entry]
        return taken

    def _lost(self, consumer: str, settlement: Settlement) -> list[bytes]:
        return []


class GroupStartsAtTheEnd(QueueModel):
    """A lost group is created again at ``$``."""

    def _start_of_group(self, stream: StreamModel) -> EntryId:
        return stream.last


class PromotesCopies(QueueModel):
    """Moving is not atomic: what is due may stay in the delayed set."""

    def promote(self, *, count: int) -> Promoted:
        before = dict(self.delayed)
        promoted = super().promote(count=count)
        if promoted.moved and len(self.lanes["low"].entries) % 3 == 0:
            self.delayed.update(before)
        return promoted


class CountsHandBacksAsLosses(QueueModel):
    """A stopping engine's jobs look like those of one that died."""

    def _end_leases(self, settlement: Settlement) -> None:
        super()._end_leases(settlement)
        for entry in settlement.released:
            self._group(settlement.lane).pending[entry].deliveries += 1


class RenewalSteals(QueueModel):
    """XCLAIM … JUSTID without a look at the owner."""

    def _holds(self, consumer: str, lane: str, entry: bytes, deliveries: int) -> bool:
        line = self._group(lane).pending.get(entry)
        if line is None:
            return False
        line.consumer = consumer
        return line.deliveries == deliveries


class DeletesWithoutAcknowledging(QueueModel):
    """XDEL alone: the pending list keeps the entry for ever."""

    def _end_leases(self, settlement: Settlement) -> None:
        kept = dict(self._group(settlement.lane).pending)
        super()._end_leases(settlement)
        self._group(settlement.lane).pending.update(
            {entry: kept[entry] for entry in settlement.ended}
        )


class ReclaimKeepsTheMark(QueueModel):
    """Taking over leaves the mark that says that nothing was taken."""

    def reclaim(
        self, consumer: str, *, idle_ms_min: int, count: int
    ) -> tuple[list[Delivery], list[tuple[str, bytes]]]:
        before = dict(self.marks)
        answer = super().reclaim(consumer, idle_ms_min=idle_ms_min, count=count)
        self.marks = before
        return answer


class NewGroupsKeepTheMark(QueueModel):
    """A group that is created again delivers what others hold, and the mark stays."""

    def open(self) -> None:
        before = dict(self.marks)
        super().open()
        self.marks = before


class OneMarkForEver(QueueModel):
    """A mark that was deleted comes back."""

    def _mark_after(self, consumer: str, settlement: Settlement) -> bytes:
        return self.marks.setdefault(settlement.lane, b"mark")


class MarksVouchForAll(QueueModel):
    """Entries read under another mark, or taken over, go by the present one."""

    def _sure(self, settlement: Settlement) -> set[bytes]:
        settlement.unsure = []
        return super()._sure(settlement)


class TrustsMarksOverReconnects(LateEngine):
    """What it read from a server that is gone goes by a mark that the next one has too."""

    def links(self) -> Links:
        return ()


class BelievesIdleTimes(SimEngine):
    """No grace after a restart of the server or a step of its clock."""

    def make_gate(self) -> ReclaimGate:
        return _OpenGate(LEASE_MS)


class _OpenGate(ReclaimGate):
    def idle_ms_min(self, monotonic_ms: float) -> int:
        return self.lease_ms


class NeverRenews(SimEngine):
    """Long jobs run past their leases."""

    def renew(self) -> None:
        """Do nothing."""


class KeepsBothLeases(SimEngine):
    """An engine that does not notice when it takes over what it holds; the fence alone is safe."""

    def _take(self, taken: list[Delivery], marks: Mapping[str, Mark | None] | None = None) -> None:
        known = marks or {}
        for lane, entry, fields, deliveries in taken:
            batch = Batch(lane=lane, since=self.steady_ms(), mark=known.get(lane))
            self.buffered[lane, entry] = Lease(batch, entry, fields, deliveries)


class GivesUpTooLate(SimEngine):
    """One attempt more than allowed."""

    def end(self, job: LiveJob, outcome: was.Outcome) -> to.Decision:
        job.attempts_max = 4
        return super().end(job, outcome)


class SpendsAttemptsOnSnoozes(SimEngine):
    """A snooze counts like a failure."""

    def end(self, job: LiveJob, outcome: was.Outcome) -> to.Decision:
        if isinstance(outcome, was.Snoozed):
            outcome = was.Failed(outcome.error)
        return super().end(job, outcome)


class IgnoresOrders(SimEngine):
    """A cancelled job is run all the same."""

    def start(self) -> None:
        self.admission.follow(held=(), cancelled={})
        super().start()


class ForgetsLosses(SimEngine):
    """A job that kills its engines is run for ever."""

    def end(self, job: LiveJob, outcome: was.Outcome) -> to.Decision:
        if isinstance(outcome, was.Vanished):
            return to.RunAgain()
        return super().end(job, outcome)
