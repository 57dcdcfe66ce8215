"""One queue as a plain synchronous model: its keys, and the engine's verbs on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from engine.core.leases import RELEASED_IDLE_MS, SUSPECT_DELIVERIES
from engine.core.limits import read_rule
from engine.errors import Malformed, StoreRefused
from engine.store.base import (
    Batch,
    Control,
    Lease,
    Promoted,
    Settlement,
)
from engine.store.schedule_base import ScheduleAnswer, ScheduleChange
from engine.testing.cancels_model import CancelsModel
from engine.testing.events import Added, Flushed, Leased, Lost, PutBack, Settled
from engine.testing.flows_model import FlowsModel
from engine.testing.gates_model import GatesModel
from engine.testing.gates_state import stream_and_fields
from engine.testing.numbers_model import NumbersModel
from engine.testing.pressure_model import PressureModel
from engine.testing.streams import (
    ZERO,
    Delivery,
    EntryId,
    GroupModel,
    Pending,
    StreamModel,
    parse_id,
)
from engine.wire.keys import READY, RELEASED, lane_of


class QueueModel(GatesModel, CancelsModel, FlowsModel, PressureModel, NumbersModel):
    """One queue's keys and the verbs on them."""

    # What producers, operators and accidents do.

    def add(self, lane: str, fields: Sequence[bytes]) -> bytes:
        """XADD by a producer, or by a script that brings a job back."""
        entry = self.streams[lane].add(fields, self.now_ms())
        self.emit(Added(self.name, lane, entry))
        return entry

    def flush(self) -> None:
        """FLUSHALL, as far as this queue goes."""
        self._clear()
        self.emit(Flushed(self.name))

    def drop_groups(self) -> None:
        """XGROUP DESTROY on all streams."""
        for stream in self.streams.values():
            stream.group = None

    # The verbs.

    def open(self) -> None:
        """See :meth:`engine.store.base.Store.open`."""
        for name, stream in self.streams.items():
            if self.keys.lane(name) in self.occupied:
                raise StoreRefused("wrongtype", f"{self.keys.lane(name)} is not a stream")
            if stream.group is None and name in self.streams_of():
                self.moved(name)
                stream.group = GroupModel(self._start_of_group(stream))

    def _start_of_group(self, stream: StreamModel) -> EntryId:  # noqa: ARG002 - for mutants
        # With settled entries deleted, a stream holds undone jobs only, so from 0 is safe.
        return ZERO

    def read(self, consumer: str, lane: str, count: int) -> list[Delivery]:
        """XREADGROUP of new entries."""
        group = self._group(lane)
        stream = self.streams[lane]
        now_ms = self.now_ms()
        group.consumers[consumer] = now_ms
        taken = [entry for entry, _ in zip(stream.waiting(), range(count), strict=False)]
        for entry in taken:
            group.pending[entry] = Pending(consumer, now_ms, 1)
            group.last = parse_id(entry)
        return [self._deliver(consumer, lane, entry) for entry in taken]

    def fetch(
        self, consumer: str, counts: Mapping[str, int]
    ) -> tuple[list[Delivery], dict[str, int]]:
        """See :meth:`engine.store.base.Store.fetch`."""
        for stream in self.streams_of():
            self._group(stream)
        taken = [
            delivery
            for stream, count in counts.items()
            if count > 0
            for delivery in self.read(consumer, stream, count)
        ]
        return taken, self.waiting()

    def settle(self, consumer: str, settlement: Settlement) -> list[bytes]:
        """See :meth:`engine.store.base.Store.settle`."""
        place = (consumer, settlement.lane)
        settlement.handed = []
        settlement.found = self.marks.get(settlement.lane, b"")
        if self.settled.get(place, 0) >= settlement.sequence:
            return []
        lost = self._lost(consumer, settlement)
        if lost:
            self.emit(Lost(self.name, consumer, settlement.lane, lost))
            return lost
        self._end_leases(settlement)
        self._record(settlement)
        self.settled[place] = settlement.sequence
        settlement.found = self._mark_after(consumer, settlement)
        self.emit(Settled(self.name, consumer, settlement))
        if settlement.leaves:
            self._pass_gates(settlement)
            settlement.handed = self._handed(consumer, settlement)
            settlement.moved = sum(self.released.values())
        return []

    def _handed(self, consumer: str, settlement: Settlement) -> list[Lease]:
        """Hand over jobs that were let through just now; the store says since when."""
        lane = lane_of(settlement.lane)
        most = min(settlement.room, self.released[lane])
        taken = self.read(consumer, READY[lane], most) if most > 0 else []
        batch = Batch(lane=READY[lane], since=0.0)
        return [
            Lease(
                batch,
                got.entry,
                got.fields,
                got.deliveries,
                admitted=(READY[lane], got.entry) in self.admitted,
            )
            for got in taken
        ]

    def _lost(self, consumer: str, settlement: Settlement) -> list[bytes]:
        """The fencing check: owner and delivery count of every entry, none of them named twice."""
        expected = settlement.deliveries
        entries = settlement.ended + settlement.released
        sure = self._sure(settlement)
        return [
            entry
            for entry, named in Counter(entries).items()
            if entry not in sure
            and (
                named > 1
                or not self._holds(consumer, settlement.lane, entry, expected.get(entry, 1))
            )
        ]

    def _sure(self, settlement: Settlement) -> set[bytes]:
        """Entries that need no look, since the mark stands under which they were read."""
        lane, mark = settlement.lane, settlement.mark
        if mark is None or settlement.leaves or self.marks.get(lane) != mark.value:
            return set()
        sure = set(settlement.ended) - {*settlement.unsure, *settlement.deliveries}
        acknowledged = set(settlement.ended) & self._group(lane).pending.keys()
        if len(acknowledged) < len(settlement.ended):
            # Pending with nobody, or named twice.
            self.moved(lane)
            return set()
        return sure

    def _mark_after(self, consumer: str, settlement: Settlement) -> bytes:
        lane = settlement.lane
        if settlement.released:
            self.moved(lane)
            return b""
        fresh = f"{consumer}:{lane}:{settlement.sequence}".encode()
        return self.marks.setdefault(lane, fresh)

    def moved(self, lane: str) -> None:
        """Delete a lane's mark: entries have left their holders."""
        self.marks.pop(lane, None)

    def _end_leases(self, settlement: Settlement) -> None:
        stream = self.streams[settlement.lane]
        for entry in settlement.ended:
            self._group(settlement.lane).pending.pop(entry, None)
            stream.entries.pop(entry, None)
        for entry in settlement.released:
            line = self._group(settlement.lane).pending.get(entry)
            if line is not None:
                # One less, since the next claim counts the delivery that was handed back.
                line.deliveries -= 1
                line.consumer = RELEASED
                line.delivered_ms = self.now_ms() - RELEASED_IDLE_MS

    def _record(self, settlement: Settlement) -> None:
        now_ms = self.now_ms()
        for fields in settlement.done:
            self.done.add(fields, now_ms)
        self._retry(settlement)
        for dead in settlement.dead:
            entry = self.dead.add(dead.fields, now_ms)
            self._count_death(dead.fingerprint, parse_id(entry)[0], dead.sample)
            self.count_death(settlement.at_ms, dead.fingerprint)
        for job_type, packed in settlement.aside:
            self.held.setdefault(job_type, StreamModel()).add([b"job", packed], now_ms)
        for counter, count in settlement.stats.items():
            self.count_end(settlement.at_ms, counter, count)
        for event in settlement.events:
            self.events.add([b"event", event], now_ms)
        for key, fields in settlement.replies:
            self.replies.setdefault(key, StreamModel()).add(fields, now_ms)
        for job_id in settlement.finished:
            self.progress.pop(job_id, None)
        for job_id in settlement.tombstones:
            self.cancelled.pop(job_id, None)
        self.record_flows(settlement)
        self.record_behind(settlement)

    def _retry(self, settlement: Settlement) -> None:
        for due_ms, packed in settlement.retries:
            self.delayed[packed] = due_ms
        for fields in settlement.again:
            self.add(settlement.lane, fields)

    def _count_death(self, fingerprint: str, at_ms: int, sample: bytes) -> None:
        groups = self.dead_groups
        groups[f"{fingerprint}:n"] = b"%d" % (int(groups.get(f"{fingerprint}:n", b"0")) + 1)
        groups.setdefault(f"{fingerprint}:first", b"%d" % at_ms)
        groups[f"{fingerprint}:last"] = b"%d" % at_ms
        groups.setdefault(f"{fingerprint}:sample", sample)

    def renew(self, consumer: str, lane: str, entries: Mapping[bytes, int]) -> list[bytes]:
        """See :meth:`engine.store.base.Store.renew`."""
        group = self._group(lane)
        lost = []
        for entry, deliveries in entries.items():
            if self._holds(consumer, lane, entry, deliveries):
                group.pending[entry].delivered_ms = self.now_ms()
            else:
                lost.append(entry)
        return lost

    def reclaim(
        self, consumer: str, *, idle_ms_min: int, count: int
    ) -> tuple[list[Delivery], list[tuple[str, bytes]]]:
        """See :meth:`engine.store.base.Store.reclaim`; like XAUTOCLAIM, ten looks per entry."""
        taken: list[Delivery] = []
        trimmed: list[tuple[str, bytes]] = []
        suspects = 0
        for lane in self.streams_of():
            for entry in self._next_looks(consumer, lane, 10 * (count - len(taken))):
                if entry not in self.streams[lane].entries:
                    del self._group(lane).pending[entry]
                    self.moved(lane)
                    trimmed.append((lane, entry))
                elif self._idle_ms(lane, entry) >= idle_ms_min:
                    self.moved(lane)
                    line = self._group(lane).pending[entry]
                    suspects += line.deliveries + 1 >= SUSPECT_DELIVERIES
                    if line.deliveries + 1 >= SUSPECT_DELIVERIES and suspects > 1:
                        line.consumer = RELEASED
                        line.delivered_ms = self.now_ms() - RELEASED_IDLE_MS
                        self.emit(PutBack(self.name, consumer, lane, entry))
                        continue
                    taken.append(self._take_over(consumer, lane, entry))
                if len(taken) == count:
                    self.cursors[consumer, lane] = parse_id(entry)
                    return taken, trimmed
        return taken, trimmed

    def _next_looks(self, consumer: str, lane: str, looks: int) -> list[bytes]:
        """The next pending entries under the moving cursor, which starts again after the last."""
        start = self.cursors.get((consumer, lane), ZERO)
        pending = sorted(self._group(lane).pending, key=parse_id)
        ahead = [entry for entry in pending if parse_id(entry) > start]
        at_end = len(ahead) <= looks
        self.cursors[consumer, lane] = ZERO if at_end else parse_id(ahead[looks - 1])
        return ahead[:looks]

    def _idle_ms(self, lane: str, entry: bytes) -> float:
        return self._group(lane).pending[entry].idle_ms(self.now_ms())

    def _take_over(self, consumer: str, lane: str, entry: bytes) -> Delivery:
        group = self._group(lane)
        line = group.pending[entry]
        line.consumer = consumer
        line.delivered_ms = group.consumers[consumer] = self.now_ms()
        line.deliveries += 1
        return self._deliver(consumer, lane, entry)

    def recover(self, consumer: str, in_hand: Mapping[str, set[bytes]]) -> list[Delivery]:
        """See :meth:`engine.store.base.Store.recover`."""
        found = []
        for lane in self.streams_of():
            group = self._group(lane)
            entries = self.streams[lane].entries
            for entry in group.held_by(consumer):
                if entry not in in_hand.get(lane, set()) and entry in entries:
                    group.pending[entry].delivered_ms = self.now_ms()
                    found.append(self._deliver(consumer, lane, entry))
        return found

    def promote(self, *, count: int) -> Promoted:
        """See :meth:`engine.store.base.Store.promote`."""
        now_ms = self.now_ms()
        order = sorted(self.delayed, key=lambda packed: (self.delayed[packed], packed))
        due = [packed for packed in order if self.delayed[packed] <= now_ms][:count]
        for packed in due:
            del self.delayed[packed]
            self._bring_back(packed)
        if not self.delayed:
            return Promoted(moved=len(due), next_ms=None)
        return Promoted(moved=len(due), next_ms=max(0, int(min(self.delayed.values()) - now_ms)))

    def control(self) -> Control:
        """See :meth:`engine.store.base.Store.control`."""
        concurrency = self.control_hash.get("concurrency")
        return Control(
            paused=self.control_hash.get("paused") == "1",
            concurrency=None if concurrency is None else int(concurrency),
            holds={
                name.removeprefix("hold:"): reason
                for name, reason in self.control_hash.items()
                if name.startswith("hold:")
            },
            cancelled=self.tombstones(),
            flows=self.control_hash.get("flows") == "1",
            limits={
                name.removeprefix("limit:"): rule
                for name, text in self.control_hash.items()
                if name.startswith("limit:") and (rule := read_rule(text)) is not None
            },
            blocks=self.control_hash.get("on_dead") == "block",
            gates=self.control_hash.get("gates") == "1",
        )

    def hold(self, job_type: str, reason: str) -> bool:
        """See :meth:`engine.store.base.Store.hold`."""
        fresh = f"hold:{job_type}" not in self.control_hash
        self.control_hash.setdefault(f"hold:{job_type}", reason)
        return fresh

    def schedule(self, change: ScheduleChange) -> ScheduleAnswer:
        """See :meth:`engine.store.base.Store.schedule`."""
        record = self.schedules.get(change.name)
        if record != change.before:
            return ScheduleAnswer("changed", record=record)
        left = change.due_ms - int(self.now_ms())
        if left > 0:
            return ScheduleAnswer("early", left_ms=left)
        for fields in change.jobs:
            self.add(change.lane, fields)
        self.schedules.pop(change.name, None)
        if change.after is not None:
            self.schedules[change.name] = change.after
        return ScheduleAnswer("done")

    def unhold(self, types: Iterable[str], *, count: int) -> int:
        """See :meth:`engine.store.base.Store.unhold`."""
        moved = 0
        for job_type in types:
            stream = self.held.get(job_type)
            if stream is None or f"hold:{job_type}" in self.control_hash:
                continue
            for entry in list(stream.entries)[: count - moved]:
                self._bring_back(stream.entries.pop(entry)[1])
                moved += 1
        return moved

    # Shared parts.

    def _deliver(self, consumer: str, lane: str, entry: bytes) -> Delivery:
        stream = self.streams[lane]
        deliveries = self._group(lane).pending[entry].deliveries
        delivery = Delivery(lane, entry, list(stream.entries[entry]), deliveries)
        self.emit(Leased(self.name, consumer, delivery))
        return delivery

    def _bring_back(self, packed: bytes) -> None:
        try:
            lane, fields = stream_and_fields(packed)
        except Malformed:
            # Not ours: the lane's reader will bury it with its bytes, by the rules of the wire.
            lane, fields = "high", [b"packed", packed]
        if lane in READY.values():
            # It may have its place in an order before any engine has asked for it.
            self._use_gates()
        self.add(lane, fields)
