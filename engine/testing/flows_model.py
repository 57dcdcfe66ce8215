"""The verbs of flows in the model; see :class:`engine.store.flow_base.FlowStore`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from engine.store.base import Settlement
from engine.store.flow_base import (
    FLOW_WHO,
    SOUGHT_AMONG_MAX,
    Applied,
    ChildJob,
    ChildNote,
    FlowTask,
    SoughtChild,
)
from engine.telemetry import OTHER
from engine.testing.events import Added
from engine.testing.flow_state import FlowModel
from engine.testing.queue_state import UpkeepModel
from engine.testing.streams import StreamModel, parse_id
from engine.wire.flows import FAMILY, job_of
from engine.wire.packing import pack, unpack
from engine.wire.tombstones import read_tombstone
from schemas.flow import DONE, PENDING, SENT, ChildFailure, ChildrenRecord, Closed
from schemas.rules import FLOW_FAILURES_MAX, FLOW_RESULTS_BYTES_MAX

_json = msgspec.json.Encoder().encode


class FlowsModel(UpkeepModel):
    """The verbs of flows on one queue."""

    def record_flows(self, settlement: Settlement) -> None:
        """Take over parents from their lane and keep messages of children, with a settlement."""
        for message in settlement.ends:
            self.flow_messages.add([b"job", message], self.now_ms())
        for each in settlement.opened:
            found = dict(zip(each.fields[::2], each.fields[1::2], strict=True))
            self.flow_states[each.flow] = FlowModel(
                job=found[b"job"],
                states=found[b"states"].decode(),
                redrives=int(found[b"redrives"]),
                wants=found.get(b"want") == b"1",
                kept=int(found.get(b"bytes", b"0")),
                results={
                    int(name[1:]): value for name, value in found.items() if name[1:].isdigit()
                },
            )
            self.flows.add(each.flow)
            self.flows_todo[each.flow] = 0
            self.control_hash["flows"] = "1"

    def flow_tasks(self, *, count: int, lease_ms: int) -> list[FlowTask]:
        """See :meth:`engine.store.flow_base.FlowStore.flow_tasks`."""
        now_ms = int(self.now_ms())
        order = sorted(self.flows_todo, key=lambda flow: (self.flows_todo[flow], flow))
        taken = [flow for flow in order if self.flows_todo[flow] <= now_ms][:count]
        return [self._take(flow, now_ms + lease_ms) for flow in taken]

    def _take(self, flow: str, until_ms: int) -> FlowTask:
        self.flows_todo[flow] = until_ms
        return self._look(flow, until_ms)

    def _look(self, flow: str, until_ms: int) -> FlowTask:
        state = self.flow_states.get(flow)
        if state is None:
            return FlowTask(flow, until_ms, [], "", "")
        return FlowTask(flow, until_ms, unpack(state.job), state.states, state.closed)

    def flow_send(self, children: Sequence[ChildJob], *, until_ms: int) -> list[bool]:
        """See :meth:`engine.store.flow_base.FlowStore.flow_send`."""
        now_ms = self.now_ms()
        if now_ms >= until_ms:
            return []
        self.control_hash["flows"] = "1"
        for child in children:
            if child.marker not in self.flow_sent:
                entry = self.lanes[child.lane].add(child.fields, now_ms)
                self.flow_sent[child.marker] = f"{child.lane}/{entry.decode()}"
                self.emit(Added(self.name, child.lane, entry))
        return [True] * len(children)

    def flow_cancel(self, children: Sequence[tuple[str, str]], *, who: str, reason: str) -> int:
        """See :meth:`engine.store.flow_base.FlowStore.flow_cancel`."""
        named = [job_id for marker, job_id in children if marker in self.flow_sent]
        stone = {"who": who, "reason": reason, "at_ms": int(self.now_ms())}
        for job_id in named:
            self.cancelled.setdefault(job_id, _json(stone))
        return len(named)

    def flows_of(self, job_ids: Sequence[str]) -> list[FlowTask]:
        """See :meth:`engine.store.flow_base.FlowStore.flows_of`."""
        named = sorted(flow for flow in self.flows if job_of(flow) in job_ids)
        return [self._look(flow, 0) for flow in named]

    def flow_sweep(self, *, ms: int) -> bool:
        """See :meth:`engine.store.flow_base.FlowStore.flow_sweep`."""
        if self.now_ms() < self.sweep_until_ms:
            return False
        self.sweep_until_ms = self.now_ms() + ms
        return True

    def flows_after(self, after: str, *, count: int) -> list[FlowTask]:
        """See :meth:`engine.store.flow_base.FlowStore.flows_after`."""
        return [self._look(flow, 0) for flow in sorted(self.flows) if flow > after][:count]

    def flow_lost(self, children: Sequence[SoughtChild]) -> list[str]:
        """See :meth:`engine.store.flow_base.FlowStore.flow_lost`."""
        wanted = [child for child in children if not self._is_known(child)]
        held = [self.held.get(name) for name in {child.type for child in children} | {OTHER}]
        packed = [*self.delayed, *(each for lane in self.parked.values() for each in lane)]
        packed += [job for each in held if each is not None for _, job in each.entries.values()]
        streams = self.streams.values()
        jobs = len(packed) + sum(len(stream.entries) for stream in streams)
        robbed = any(entry not in each.entries for each in streams for entry in _given(each))
        if jobs > SOUGHT_AMONG_MAX or robbed:
            return []
        values = {value for each in streams for fields in each.entries.values() for value in fields}
        lost = [
            child
            for child in wanted
            if child.id.encode() not in values and not any(_names(job, child.id) for job in packed)
        ]
        for child in lost:
            self.flow_sent[child.marker] = "lost"
            self.flow_messages.add([b"job", child.message], self.now_ms())
        return [child.marker for child in lost]

    def _is_known(self, child: SoughtChild) -> bool:
        """Tell whether a child is plainly there, or its parent is being told already."""
        place = self.flow_sent.get(child.marker, "")
        lane, _, entry = place.partition("/")
        lies = lane in self.lanes and entry.encode() in self.lanes[lane].entries
        return place == "lost" or lies or any(job_of(flow) == child.id for flow in self.flows)

    def flow_children(self, places: Sequence[tuple[str, bytes]]) -> dict[tuple[str, bytes], str]:
        """See :meth:`engine.store.flow_base.FlowStore.flow_children`."""
        wanted = {f"{lane}/{entry.decode()}": (lane, entry) for lane, entry in places}
        sent = self.flow_sent.items()
        return {wanted[place]: marker for marker, place in sent if place in wanted}

    def flow_mark(self, flow: str, sent: Sequence[int], *, until_ms: int, over: bool) -> str:
        """See :meth:`engine.store.flow_base.FlowStore.flow_mark`."""
        state = self.flow_states.get(flow)
        closed = state.closed if state is not None else ""
        if state is None or (over and closed):
            self._forget_flow(flow)
            return closed
        if self.flows_todo.get(flow) != until_ms:
            return closed
        letters = list(state.states)
        for number in sent:
            if letters[number] == PENDING:
                letters[number] = SENT
        state.states = "".join(letters)
        if closed in {"failed", "cancelled"}:
            self.flows_todo[flow] = 0
        elif PENDING not in state.states:
            self.flows_todo.pop(flow, None)
            if closed:
                self._forget_flow(flow)
        return closed

    def flow_ends(self, *, after: bytes, count: int) -> list[tuple[bytes, bytes]]:
        """See :meth:`engine.store.flow_base.FlowStore.flow_ends`."""
        low = parse_id(after) if after else (-1, 0)
        entries = [entry for entry in self.flow_messages.entries if parse_id(entry) > low]
        return [(entry, self.flow_messages.entries[entry][1]) for entry in entries[:count]]

    def flow_clean(self, ends: Sequence[tuple[bytes, str, str]]) -> int:
        """See :meth:`engine.store.flow_base.FlowStore.flow_clean`."""
        dropped = 0
        for entry, marker, job_id in ends:
            dropped += self.flow_messages.entries.pop(entry, None) is not None
            self.flow_sent.pop(marker, None)
            stone = self.cancelled.get(job_id)
            if stone is not None and read_tombstone(stone).who.startswith(FLOW_WHO):
                del self.cancelled[job_id]
        return dropped

    def flow_apply(self, flow: str, notes: Sequence[ChildNote]) -> Applied:
        """See :meth:`engine.store.flow_base.FlowStore.flow_apply`."""
        state = self.flow_states.get(flow)
        if state is None:
            return Applied()
        how = ""
        sending = self.flows_todo.get(flow, 0) > int(self.now_ms())
        later = set()
        for note in notes:
            if note.number < 0:
                how = how or note.closes
                continue
            if sending and state.states[note.number : note.number + 1] == PENDING:
                later.add(note.number)
                continue
            self._note(state, note)
            if state.states[note.number : note.number + 1] == note.letter:
                how = how or note.closes
        if state.closed:
            return Applied("", frozenset(later))
        if not how and not _waits(state.states, PENDING + SENT):
            how = "complete"
        if how:
            self._close(flow, state, how)
        return Applied(how, frozenset(later))

    def _note(self, state: FlowModel, note: ChildNote) -> None:
        before = state.states[note.number : note.number + 1]
        redeemed = before in {"i", "c"} and note.letter == DONE and not state.closed
        if before not in {PENDING, SENT} and not (before and redeemed):
            return
        state.states = state.states[: note.number] + note.letter + state.states[note.number + 1 :]
        if state.wants and note.result and not state.closed:
            result = note.result
            if state.kept + len(result) > FLOW_RESULTS_BYTES_MAX:
                bound = f"over {FLOW_RESULTS_BYTES_MAX} bytes"
                told = f"the results of all children are {bound}"
                result = _json({"resultNotKept": told})
            else:
                state.kept += len(result)
            state.results[note.number] = result
        if note.failure and note.closes:
            state.cause = state.cause or note.failure
        elif note.failure and len(state.failures) < FLOW_FAILURES_MAX:
            state.failures = [*state.failures, note.failure]

    def _close(self, flow: str, state: FlowModel, how: str) -> None:
        failures = [state.cause, *state.failures] if state.cause else state.failures
        results = tuple(
            msgspec.Raw(state.results.get(number, b"null")) for number in range(len(state.states))
        )
        record = ChildrenRecord(
            how=msgspec.convert(how, Closed),
            states=state.states,
            redrives=state.redrives,
            failures=tuple(msgspec.json.decode(each, type=ChildFailure) for each in failures),
            results=results if state.wants else None,
        )
        lane, *fields = unpack(state.job)
        lane_name = lane.decode() if lane.decode() in self.lanes else "normal"
        entry = self.lanes[lane_name].add([*fields, FAMILY, _json(record)], self.now_ms())
        self.emit(Added(self.name, lane_name, entry))
        self.flows.discard(flow)
        if how == "complete" or not _waits(
            state.states, PENDING if how == "continued" else PENDING + SENT
        ):
            self._forget_flow(flow)
        else:
            state.closed = how
            self.flows_todo.setdefault(flow, 0)

    def _forget_flow(self, flow: str) -> None:
        self.flow_states.pop(flow, None)
        self.flows_todo.pop(flow, None)


def _given(stream: StreamModel) -> Iterable[bytes]:
    return stream.group.pending if stream.group is not None else ()


def _names(packed: bytes, job_id: str) -> bool:
    return pack([b"id", job_id.encode()])[5:] in packed


def _waits(states: str, letters: str) -> bool:
    return any(letter in states for letter in letters)
