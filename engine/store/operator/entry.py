"""One entry of any of a queue's keys, read leniently: what operators look at may be broken."""

from __future__ import annotations

import base64
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from engine.core.limits import SHARE
from engine.errors import Malformed
from engine.store.gates import ticket_of
from engine.store.operator.link import entry_ms
from engine.store.operator.needle import Needle
from engine.wire.codec import DEAD, META
from engine.wire.done import DoneJob
from engine.wire.flows import CHILDREN, unfinished
from engine.wire.keys import READY, lane_of
from engine.wire.packing import unpack
from schemas.job import DeadRecord, ErrorRecord, JobState, Meta
from schemas.rules import LANES, TYPE_NAME
from schemas.story import JobRow, RawField

INITIALS = {lane[0]: lane for lane in LANES}
ERROR_CHARS_MAX = 200
FAR_MS = 2**53
FIELDS_MAX = 6_900
"""Names and values that a script can put on Lua's stack, with the engine's own beside them."""

UNABLE = (
    "no engine wrote this entry",
    "its body was too large to keep",
    "its body was trimmed away before it ran",
    "it has more fields than a job can come back with",
)
"""Why a dead job cannot be brought back."""

_meta = msgspec.json.Decoder(Meta)
_dead = msgspec.json.Decoder(DeadRecord)


class Found(msgspec.Struct, kw_only=True, gc=False):
    """
    One job as it lies in its queue.

    Attributes:
        queue: The queue.
        state: Which of the queue's keys holds it.
        lane: Its lane.
        stream: The stream that it lies in or comes back to: its lane, or that lane's stream of
            jobs that gates let through. Empty for its lane.
        line: For a parked one, what it waits behind: ``k`` and a key, or ``l`` and a limit.
        member: Likewise, the member that it is.
        entry: Its stream entry's id; empty in the delayed set and where it is parked.
        fields: Its own fields, names and values in turn; empty for done jobs.
        at_ms: See :class:`schemas.story.JobRow`.
        position: Where a reader that stops here goes on.
        consumer: Who holds it, if it is active.
        deliveries: How often this entry was delivered.
        record: Its death; None in a dead stream for an entry that no engine wrote.
        done: Its end as done.
        states: What is known of each child that it waits for, one letter each.
    """

    queue: str
    state: JobState
    lane: str
    stream: str = ""
    line: bytes = b""
    member: bytes = b""
    entry: str
    fields: list[bytes]
    at_ms: int
    position: str
    consumer: str = ""
    deliveries: int = 0
    record: DeadRecord | None = None
    done: DoneJob | None = None
    states: str = ""

    def field(self, name: bytes) -> bytes | None:
        """Return the first value of a field."""
        for at in range(0, len(self.fields) - 1, 2):
            if self.fields[at] == name:
                return self.fields[at + 1]
        return None

    def meta(self) -> Meta | None:
        """Return what the engine wrote on an earlier pass."""
        raw = self.field(META)
        try:
            return None if raw is None else _meta.decode(raw)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None

    @property
    def id(self) -> str:
        """The job's id, by the rule that the engines follow."""
        if self.done is not None:
            return self.done.id
        if self.record is not None:
            return self.record.id
        meta = self.meta()
        if meta is not None:
            return meta.id
        own = self.field(b"id")
        return own.decode("utf-8", "replace") if own else f"{self.lane[:1]}-{self.entry}"

    @property
    def place(self) -> str:
        """The name of the stream that it lies in or comes back to."""
        return self.stream or self.lane

    @property
    def hint(self) -> str:
        """Where it is, for somebody who asks for it again; empty where its id says it."""
        match self.state:
            case "waiting" | "active":
                return f"lane/{self.place}/{self.entry}"
            case "delayed":
                return f"delayed/{self.at_ms}"
            case "held" | "parked":
                return f"{self.state}/{self.position}"
            case "done" | "dead":
                return f"{self.state}/{self.entry}"
        return ""

    @property
    def key(self) -> str:
        """Its ordering key, or an empty string."""
        return (self.field(b"key") or b"").decode("utf-8", "replace")

    @property
    def expires_ms(self) -> int:
        """When it is too late to start it, Unix ms; 0 for never."""
        raw = self.field(b"expires") or b""
        if raw.isdigit() and len(raw) <= 15:
            return int(raw)
        raw = self.field(b"ttl") or b""
        return self.enqueued_ms + int(raw) if raw.isdigit() and len(raw) <= 15 else 0

    @property
    def ticket(self) -> str:
        """Its place in the order of its lane, which it keeps wherever it is; empty for none."""
        if self.record is not None:
            return self.record.ticket
        meta = self.meta()
        if meta is not None and meta.ticket:
            return meta.ticket
        in_lane = self.state in {"waiting", "active"} and self.place == self.lane
        return ticket_of(self.entry.encode()) if in_lane else ""

    @property
    def enqueued_ms(self) -> int:
        """Unix ms of the producer's XADD; 0 where that was not kept."""
        meta = self.meta()
        return meta.enqueued_ms if meta else entry_ms(self.entry.encode() or b"0")

    @property
    def type(self) -> str:
        """The job's type, or ``other``."""
        if self.done is not None:
            return self.done.type
        if self.record is not None:
            return self.record.type
        named = (self.field(b"type") or b"").decode("ascii", "replace")
        return named if TYPE_NAME.fullmatch(named) else "other"

    def size_bytes(self) -> int:
        """Count the bytes of its fields."""
        return sum(map(len, self.fields)) or (len(self.done.result) if self.done else 0)

    def holds(self, text: Needle, *, payload: bool = True, errors: bool = True) -> bool:
        """
        Tell whether a text stands anywhere within it.

        Args:
            text: The text.
            payload: Look into its fields and its result, too; not into its children, which are
                jobs of their own, of types that may be shown to fewer.
            errors: Look into the text of its error, too.
        """
        # One look at all fields: a search goes over a million jobs.
        if payload and text.within(b"\0".join(self._own_fields())):
            return True
        if self.record is not None:
            error = self.record.error
            message = error.message if errors else ""
            told = f"{self.record.id}\n{error.kind}\n{message}\n{self.record.rule}"
            return text.within(told.encode())
        if self.done is not None and payload and text.within(self.done.result):
            return True
        return text.within(self.id.encode())

    def _own_fields(self) -> Sequence[bytes]:
        """Return its fields without the one that holds what its children are made of."""
        if CHILDREN not in self.fields:
            return self.fields
        pairs = zip(self.fields[::2], self.fields[1::2], strict=False)
        return [part for pair in pairs if pair[0] != CHILDREN for part in pair]

    def unable(self) -> str:
        """Say why a dead job cannot be brought back; empty where it can."""
        if self.record is None:
            return UNABLE[0]
        if self.record.cut:
            return UNABLE[1]
        if self.record.reason == "trimmed" or not self.fields:
            return UNABLE[2]
        if len(self.fields) > FIELDS_MAX:
            return UNABLE[3]
        return ""

    def row(self) -> JobRow:
        """Return it as it stands in a list."""
        meta = self.meta()
        common: dict[str, Any] = {
            "id": self.id,
            "type": self.type,
            "queue": self.queue,
            "lane": self.lane,
            "state": self.state,
            "entry": self.entry,
            "at_ms": self.at_ms,
            "size_bytes": self.size_bytes(),
            "hint": self.hint,
        }
        if self.done is not None:
            run_ms = self.done.run_us / 1000
            return JobRow(**common, enqueued_ms=0, attempts=0, note=self.done.engine, run_ms=run_ms)
        if self.state == "dead":
            return _dead_row(common, self.record)
        last = meta.history[-1].error if meta and meta.history else None
        waits = f"{unfinished(self.states)} of {len(self.states)} left" if self.states else ""
        note = waits or self.consumer or (meta.why if meta and self.state == "delayed" else "")
        if self.state == "parked":
            note = behind_what(self.line)
        return JobRow(
            **common,
            enqueued_ms=self.enqueued_ms,
            attempts=meta.attempts if meta else 0,
            note=note,
            error=error_line(last),
        )


def _dead_row(common: dict[str, Any], record: DeadRecord | None) -> JobRow:
    if record is None:
        return JobRow(**common, enqueued_ms=0, attempts=0, note="unreadable")
    return JobRow(
        **common,
        enqueued_ms=record.enqueued_ms,
        attempts=record.attempts,
        note=record.reason,
        error=record.rule or error_line(record.error),
        fingerprint=record.fingerprint,
    )


def error_line(error: ErrorRecord | None) -> str:
    """Shorten an error to one line."""
    if error is None:
        return ""
    line = f"{error.kind}: {error.message}" if error.message else error.kind
    return line.split("\n", 1)[0][:ERROR_CHARS_MAX]


def dead_entry(queue: str, entry: bytes, fields: Sequence[bytes]) -> Found:
    """Read one entry of the dead stream."""
    record = None
    own = list(fields)
    if len(own) > 1 and own[0] == DEAD:
        try:
            record = _dead.decode(own[1])
            own = own[2:]
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass
    return Found(
        queue=queue,
        state="dead",
        lane=record.lane if record else "",
        entry=entry.decode(),
        fields=own,
        at_ms=record.died_ms if record else entry_ms(entry),
        position=entry.decode(),
        record=record,
    )


def delayed_entry(queue: str, member: bytes, due: str, position: str) -> Found:
    """Read one member of the delayed set."""
    stream, fields = packed_entry(member)
    return Found(
        queue=queue,
        state="delayed",
        lane=lane_of(stream),
        stream=stream,
        entry="",
        fields=fields,
        # What somebody else put there may be due at no time at all.
        at_ms=int(max(0.0, min(FAR_MS, float(due)))),
        position=position,
    )


def held_entry(queue: str, job_type: str, entry: bytes, fields: Sequence[bytes]) -> Found:
    """Read one entry of a held type's stream."""
    stream, own = packed_entry(fields[1] if len(fields) > 1 else b"")
    return Found(
        queue=queue,
        state="held",
        lane=lane_of(stream),
        stream=stream,
        entry=entry.decode(),
        fields=own,
        at_ms=entry_ms(entry),
        position=f"{job_type}/{entry.decode()}",
    )


def behind_what(line: bytes) -> str:
    """Say what a line waits behind."""
    what, name = line[:1], line[1:].decode("utf-8", "replace")
    if what == b"k":
        return f"behind key {name}"
    limit, _, share = name.partition(SHARE)
    return f"behind limit {limit}" + (f", share {share}" if share else "")


def packed_entry(packed: bytes) -> tuple[str, list[bytes]]:
    """Read a job with the name of its stream, as the delayed set and held streams keep it."""
    try:
        lane, *fields = unpack(packed)
    except (Malformed, ValueError):
        return "normal", [b"packed", packed]
    return lane.decode("utf-8", "replace"), fields


def parked_entry(queue: str, lane: str, member: bytes) -> Found:
    """Read one member of a lane's zset of parked jobs: line, ticket, packed head and fields."""
    line, _, rest = member.partition(b"\0")
    ticket, _, packed = rest.partition(b"\0")
    try:
        _, *fields = unpack(packed)
    except (Malformed, ValueError):
        fields = [b"packed", member]
    ms = ticket.partition(b"-")[0]
    place = base64.urlsafe_b64encode(line + b"\0" + ticket).decode()
    return Found(
        queue=queue,
        state="parked",
        lane=lane,
        stream=READY.get(lane, lane),
        line=line,
        member=member,
        entry="",
        fields=fields,
        at_ms=int(ms) if ms.isdigit() else 0,
        position=f"{lane}/{place}",
    )


def raw_fields(fields: Sequence[bytes], bytes_max: int) -> list[RawField]:
    """Show fields as text where they are text; of larger ones their size alone."""
    return [
        _raw_field(fields[at].decode("utf-8", "backslashreplace"), fields[at + 1], bytes_max)
        for at in range(0, len(fields) - 1, 2)
    ]


def _raw_field(name: str, value: bytes, bytes_max: int) -> RawField:
    if len(value) > bytes_max:
        return RawField(name=name, value="", cut=len(value))
    try:
        return RawField(name=name, value=value.decode())
    except UnicodeDecodeError:
        return RawField(name=name, value=base64.b64encode(value).decode(), encoding="base64")


def as_json(raw: bytes | None, bytes_max: int = sys.maxsize) -> Any:
    """Decode JSON of strangers to what can be encoded again, or None; also where it is larger."""
    if not raw or len(raw) > bytes_max:
        return None
    try:
        value = orjson.loads(raw)
        orjson.dumps([[[[value]]]])
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):
        return None
    return value
