"""One queue's keys in the model, and the verbs on them that keep it in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from itertools import islice
from typing import Any

from engine.errors import GroupMissing
from engine.store.base import Gauges
from engine.testing.events import Event
from engine.testing.flow_state import FlowModel
from engine.testing.streams import EntryId, GroupModel, StreamModel, jobs_in, parse_id
from engine.wire.keys import RELEASED, STREAMS, QueueKeys, lane_of
from schemas.rules import LANES


class QueueState:
    """
    One queue's keys.

    Attributes:
        cursors: (consumer, lane) → where its next reclaim begins.
        settled: (consumer, lane) → number of its last settlement.
        marks: lane → its mark, which names a time in which no entry has changed hands.
    """

    def __init__(
        self, name: str, *, now_ms: Callable[[], float], emit: Callable[[Event], None]
    ) -> None:
        self.name = name
        self.now_ms = now_ms
        self.emit = emit
        self.keys = QueueKeys(name)
        self.occupied: set[str] = set()
        self.cursors: dict[tuple[str, str], EntryId] = {}
        self._clear()

    def _clear(self) -> None:
        self.streams = {stream: StreamModel() for stream in STREAMS}
        self.lanes = {lane: self.streams[lane] for lane in LANES}
        self.delayed: dict[bytes, int] = {}
        self.done = StreamModel()
        self.dead = StreamModel()
        self.dead_groups: dict[str, bytes] = {}
        self.events = StreamModel()
        self.replies: dict[str, StreamModel] = {}
        self.held: dict[str, StreamModel] = {}
        self.progress: dict[str, bytes] = {}
        self.control_hash: dict[str, str] = {}
        self.cancelled: dict[str, bytes] = {}
        self.schedules: dict[bytes, bytes] = {}
        self.flows: set[str] = set()
        self.flow_states: dict[str, FlowModel] = {}
        self.flows_todo: dict[str, int] = {}
        self.flow_sent: dict[str, str] = {}
        self.flow_messages = StreamModel()
        self.sweep_until_ms = 0.0
        # lane → members of the zset, in order
        self.parked: dict[str, list[bytes]] = {lane: [] for lane in LANES}
        self.stats: Counter[str] = Counter()
        # key of the hour → field → value
        self.minutes: dict[str, dict[str, bytes]] = {}
        # key of the day → quarter of an hour → JSON
        self.quarters: dict[str, dict[int, bytes]] = {}
        self.settled: dict[tuple[str, str], int] = {}
        self.marks: dict[str, bytes] = {}

    def copy(self) -> dict[str, Any]:
        """Return everything that the queue holds, as a replica would have it now."""
        keys = {"name", "now_ms", "emit", "keys"}
        return deepcopy({name: value for name, value in vars(self).items() if name not in keys})

    def become(self, copied: dict[str, Any]) -> None:
        """Hold what the queue held when it was copied, and nothing of what came after."""
        vars(self).update(copied)

    def waiting(self) -> dict[str, int]:
        """Jobs not yet delivered, per stream."""
        return {name: sum(1 for _ in self.streams[name].waiting()) for name in self.streams_of()}

    def streams_of(self) -> Sequence[str]:
        """Streams with a group: the lanes, and where gates are used what was let through."""
        return STREAMS if "gates" in self.control_hash else LANES

    def _group(self, lane: str) -> GroupModel:
        group = self.streams[lane].group
        if group is None:
            raise GroupMissing(f"{self.keys.lane(lane)} has no group")
        return group

    def _holds(self, consumer: str, lane: str, entry: bytes, deliveries: int) -> bool:
        line = self._group(lane).pending.get(entry)
        return line is not None and (line.consumer, line.deliveries) == (consumer, deliveries)


class UpkeepModel(QueueState):
    """The verbs that record, count and tidy up."""

    def report(self, progress: Mapping[str, bytes], events: Iterable[bytes]) -> None:
        """See :meth:`engine.store.base.Store.report`."""
        self.progress.update(progress)
        for event in events:
            self.events.add([b"event", event], self.now_ms())

    def trim(self, *, done_jobs_max: int, done_age_ms_max: int) -> int:
        """See :meth:`engine.store.base.Store.trim`."""
        oldest_ms = self.now_ms() - done_age_ms_max
        jobs = {entry: jobs_in(fields) for entry, fields in self.done.entries.items()}
        kept = sum(jobs.values())
        dropped = 0
        for entry, count in jobs.items():
            if kept - count < done_jobs_max and parse_id(entry)[0] > oldest_ms:
                break
            del self.done.entries[entry]
            kept -= count
            dropped += count
        return dropped

    def gauges(self, types: Iterable[str]) -> Gauges:
        """See :meth:`engine.store.base.Store.gauges`."""
        now_ms = self.now_ms()
        parked = {lane: len(members) for lane, members in self.parked.items()}
        waits, active, ages = dict(parked), dict.fromkeys(LANES, 0), [0]
        for name, left in self.waiting().items():
            group = self.streams[name].group
            back = group.held_by(RELEASED) if group else []
            waits[lane_of(name)] += left + len(back)
            active[lane_of(name)] += len(group.pending) - len(back) if group else 0
            heads = [*back[:1], *islice(self.streams[name].waiting(), 1)]
            ages += [int(now_ms) - parse_id(head)[0] for head in heads]
        return Gauges(
            waiting=waits,
            parked=parked,
            active=active,
            delayed=len(self.delayed),
            held={
                name: len(self.held[name].entries)
                for name in types
                if name in self.held and self.held[name].entries
            },
            dead=len(self.dead.entries),
            oldest_ms=max(ages),
            flows=len(self.flows),
        )

    def retire(self, *, idle_ms_min: int) -> int:
        """See :meth:`engine.store.base.Store.retire`."""
        now_ms = self.now_ms()
        return sum(
            self.drop_consumer(lane, consumer)
            for lane in self.streams_of()
            for consumer, seen_ms in list(self._group(lane).consumers.items())
            if now_ms - seen_ms >= idle_ms_min
        )

    def drop_consumer(self, lane: str, consumer: str) -> bool:
        """Delete a consumer if it holds nothing; its entries would never be delivered again."""
        group = self._group(lane)
        if group.held_by(consumer) or consumer not in group.consumers:
            return False
        del group.consumers[consumer]
        self.settled.pop((consumer, lane), None)
        return True
