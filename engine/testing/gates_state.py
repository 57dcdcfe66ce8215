"""What gates keep of one queue in the model, and whose turn it is."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from typing import Literal, NamedTuple

import msgspec

from engine.errors import Malformed
from engine.store.base import Settlement
from engine.store.gates import Leave
from engine.testing.events import Added
from engine.testing.queue_state import UpkeepModel
from engine.testing.streams import ZERO, GroupModel
from engine.wire.keys import READY, STREAMS, lane_of
from engine.wire.packing import pack, unpack
from schemas.rules import LANES

FAR = 9e15
"""For limits that no time opens, but the end of a job that holds a place."""


class Head(NamedTuple):
    """What a job asks for: its key, unique value, id, and limits joined by spaces."""

    key: bytes = b""
    unique: bytes = b""
    job_id: bytes = b""
    limits: bytes = b""


class Noted(msgspec.Struct, frozen=True):
    """
    What is known of an entry.

    Attributes:
        stage: ``a`` once the gates let it start; ``r`` where it has its turn.
        head: What it asked for.
        ticket: Its place in the order.
        paid: Limits that it was let through by, and whose tokens its handler has not used.
    """

    stage: Literal["a", "r"]
    head: Head
    ticket: bytes
    paid: frozenset[bytes] = frozenset()


class Taken(msgspec.Struct, frozen=True):
    """Who took a unique value, until when, since when, and how."""

    by: str
    till_ms: int
    since_ms: int
    more: str


class GatesState(UpkeepModel):
    """
    The keys of gates, and order by key.

    Attributes:
        busy: Lane → key → ticket whose turn it is, with a ``!`` before it while a death keeps it.
        admitted: (stream, entry) → what a job holds.
        noted_to: Lane → last entry whose key was noted.
        places: Limit → jobs that hold a place.
        tokens: Limit → tokens, and the ms at which they were counted.
        shut: Limit → ms until which nobody is let through.
        shares: Limit, or limit and share → what it has had.
        turns: How often somebody was looked for in the lines of a limit.
        due: Limit that somebody waits for → ms at which it may open.
        taken: ``u<value>`` or ``i<id>`` → by whom.
        released: Lane → jobs that the present call has let through.
        freed: Limit → places that the present call has given back.
        aside: Entries that the present call has taken out of their stream.
    """

    def _clear(self) -> None:
        super()._clear()
        self.busy: dict[str, dict[bytes, bytes]] = {lane: {} for lane in LANES}
        self.admitted: dict[tuple[str, bytes], Noted] = {}
        self.noted_to: dict[str, bytes] = {}
        self.places: Counter[bytes] = Counter()
        self.tokens: dict[bytes, tuple[float, int]] = {}
        self.shut: dict[bytes, int] = {}
        self.shares: dict[bytes, float] = {}
        self.turns = 0
        self.due: dict[bytes, float] = {}
        self.taken: dict[str, Taken] = {}
        self.released: Counter[str] = Counter()
        self.freed: Counter[bytes] = Counter()
        self.aside: set[bytes] = set()

    def gates_ms(self) -> int:
        """The server's Unix ms, as scripts see it."""
        return int(self.now_ms())

    def _use_gates(self) -> None:
        """From the first question on, a queue has streams for jobs that were let through."""
        if "gates" not in self.control_hash:
            self.control_hash["gates"] = "1"
            for ready in READY.values():
                self._make(ready)

    def _make(self, ready: str) -> None:
        stream = self.streams[ready]
        if stream.group is None:
            stream.group = GroupModel(ZERO)

    def _let_through(self, lane: str, fields: list[bytes]) -> tuple[str, bytes]:
        ready = READY[lane]
        stream = self.streams[ready]
        if stream.last == ZERO:
            self._make(ready)
        entry = stream.add(fields, self.now_ms())
        self.released[lane] += 1
        self.emit(Added(self.name, ready, entry))
        return ready, entry

    # Lines.

    def _park(self, lane: str, line: bytes, ticket: bytes, head: Head, fields: list[bytes]) -> None:
        self._keep(lane, line + b"\0" + ticket + b"\0" + pack([b"\0".join(head), *fields]))

    def _keep(self, lane: str, member: bytes) -> None:
        if member not in self.parked[lane]:
            insort(self.parked[lane], member)

    def _first_of(self, lane: str, line: bytes) -> tuple[bytes, bytes]:
        """The member that comes first in a line, and its ticket; empty without one."""
        members = self.parked[lane]
        at = bisect_left(members, line + b"\0")
        if at == len(members) or members[at] >= line + b"\1":
            return b"", b""
        start = len(line) + 1
        return members[at], members[at][start:].partition(b"\0")[0]

    def _parked_count(self, lane: str, line: bytes) -> int:
        members = self.parked[lane]
        return bisect_left(members, line + b"\1") - bisect_left(members, line + b"\0")

    # Order by key.

    def _takes_turn(self, lane: str, key: bytes, ticket: bytes) -> bool:
        """Whether it is this ticket's turn; takes the turn where nobody has it."""
        holder = self.busy[lane].get(key)
        blocks = self.control_hash.get("on_dead") == "block"
        if holder is not None and holder[:1] == b"!" and holder != b"!" + ticket and not blocks:
            # Dead jobs keep their keys no more: whoever waits longest comes first.
            member, first = self._first_of(lane, b"k" + key)
            if member and first < ticket:
                self._pass_on(lane, key, holder[1:], is_dead=False)
                return False
            holder = None
        if holder is None or holder == b"!" + ticket:
            self.busy[lane][key] = ticket
            return True
        return holder == ticket

    def _pass_on(self, lane: str, key: bytes, ticket: bytes, *, is_dead: bool) -> None:
        """The turn goes to the next of a key, if this ticket has it."""
        if self.busy[lane].get(key) not in {ticket, b"!" + ticket}:
            return
        if is_dead and self.control_hash.get("on_dead") == "block":
            self.busy[lane][key] = b"!" + ticket
            return
        member, next_ticket = self._first_of(lane, b"k" + key)
        if not member:
            del self.busy[lane][key]
            return
        head, fields = contents(member, b"k" + key)
        head = head._replace(key=key)
        self.busy[lane][key] = next_ticket
        self.parked[lane].remove(member)
        self.admitted[self._let_through(lane, fields)] = Noted("r", head, next_ticket)

    # Ends.

    def _pass_gates(self, settlement: Settlement) -> None:
        """What a settlement's jobs give back, and what that lets through."""
        self.released.clear()
        self.freed.clear()
        for leave in settlement.leaves:
            self._leave(settlement.lane, leave)
        for name, count in self.freed.items():
            if name in self.due:
                self._release(name, count)

    def _leave(self, stream: str, leave: Leave) -> None:
        key, ticket = leave.key.encode(), leave.ticket.encode()
        unique, job_id = leave.unique, leave.job_id
        held = self.admitted.pop((stream, leave.entry), None)
        if held is not None:
            # One that was early asked for no turn, and may have been given one in its lane's order.
            key, ticket = held.head.key or key, held.ticket
            unique = held.head.unique.decode() or unique
            job_id = held.head.job_id.decode() or job_id
            if held.stage == "a":
                self._give_back(held.head.limits)
        if leave.how == "back":
            if held is not None:
                head = held.head._replace(limits=b"")
                self.admitted[stream, leave.entry] = Noted("r", head, held.ticket)
            return
        if key and ticket and leave.how != "keep":
            self._pass_on(lane_of(stream), key, ticket, is_dead=leave.how == "dead")
        if unique and leave.how in {"free", "dead"}:
            self._disclaim(unique, job_id)

    def _give_back(self, limits: bytes) -> None:
        raise NotImplementedError

    def _release(self, name: bytes, most: int) -> int:
        raise NotImplementedError

    def _disclaim(self, value: str, job_id: str) -> None:
        raise NotImplementedError


def contents(member: bytes, line: bytes) -> tuple[Head, list[bytes]]:
    """Read what a parked job asks for, and its fields."""
    try:
        items = unpack(member[len(line) + 1 :].partition(b"\0")[2])
        return Head(*items[0].split(b"\0")), items[1:]
    except (Malformed, IndexError, TypeError):
        # Nobody of ours wrote it: it is let through as it is, to be buried.
        return Head(), [b"packed", member]


def stream_and_fields(packed: bytes) -> tuple[str, list[bytes]]:
    """
    Read the stream that a job comes back to, and its fields.

    Raises:
        Malformed: It is none of ours.
    """
    items = unpack(packed)
    stream = items[0].decode("ascii", "replace") if items else ""
    if stream not in STREAMS or len(items) < 3 or len(items) % 2 == 0:
        raise Malformed("packing", detail="not a lane and the fields of an entry")
    return stream, items[1:]
