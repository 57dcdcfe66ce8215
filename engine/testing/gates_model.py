"""
Gates in the model: order by key, limits, uniqueness; the scripts' rules once more, in plain Python.

The scripts are ``engine/store/lua/gates.lua``, ``claims.lua``, ``admit.lua``, ``limit.lua`` and
``release.lua``. What they compare as bytes is bytes here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import orjson

from engine.store.admission import LOOK_MAX, calls_of
from engine.store.gates import Answer, Leave, Question, Released, is_plain, ticket_of
from engine.testing.claims_model import ClaimsModel
from engine.testing.events import Parked
from engine.testing.gates_state import FAR, Head, Noted
from engine.testing.limits_model import name_of
from engine.testing.streams import ZERO, parse_id
from engine.wire.codec import META
from engine.wire.keys import lane_of

HAS_TICKET = b'"ticket":"'
KEY_BYTES_MAX = 512
FIELDS_NOTED_MAX = 256


class GatesModel(ClaimsModel):
    """The verbs of :class:`engine.store.gates.GateStore` on one queue."""

    def admit(
        self,
        consumer: str,
        stream: str,
        questions: Sequence[Question],
        *,
        id_window_ms: int,
        line_max: int,
    ) -> list[Answer]:
        """See :meth:`engine.store.gates.GateStore.admit`."""
        answers: list[Answer] = []
        for asked in calls_of(stream, questions):
            answers += self._admit(consumer, stream, asked, id_window_ms, line_max)
        return answers

    def _admit(
        self,
        consumer: str,
        stream: str,
        questions: Sequence[Question],
        id_window_ms: int,
        line_max: int,
    ) -> list[Answer]:
        self._use_gates()
        self.aside.clear()
        new = {each.entry for each in questions if _is_new_and_keyed(stream, each)}
        noted_to = self._note_keys(stream, new, line_max) if new else ""
        answers: dict[bytes, Answer] = {}
        for question in sorted(questions, key=lambda each: not is_plain(stream, each)):
            entry = question.entry
            held = self.admitted.get((stream, entry))
            if entry in self.aside:
                answers[entry] = Answer("parked")
            elif not self._holds(consumer, stream, entry, question.deliveries):
                answers[entry] = Answer("lost")
            elif held is not None and held.stage == "a":
                answers[entry] = Answer("run")
            elif noted_to and question.key and not question.ticket and ticket_of(entry) > noted_to:
                answers[entry] = Answer("again")
            else:
                answers[entry] = self._answer(stream, question, id_window_ms, line_max)
        return [answers[question.entry] for question in questions]

    def _note_keys(self, lane: str, asked: set[bytes], line_max: int) -> str:
        """Note keys in the order of the lane; returns the ticket up to which, if not to the end."""
        start = self.noted_to.get(lane)
        after = ZERO if start is None else parse_id(start)
        last = max(map(parse_id, asked))
        entries = self.streams[lane].entries
        looks = LOOK_MAX
        for entry in [entry for entry in entries if after < parse_id(entry) <= last]:
            if entry not in asked:
                if not looks:
                    return ticket_of(self.noted_to[lane])
                looks -= 1
            self._note_key(lane, entry, entries[entry], line_max)
            self.noted_to[lane] = entry
        return ""

    def _note_key(self, lane: str, entry: bytes, fields: list[bytes], line_max: int) -> None:
        key, meta = _value_of(fields, b"key"), _value_of(fields, META)
        has_ticket = meta is not None and HAS_TICKET in meta
        if key is None or not _is_usable(key) or len(fields) > FIELDS_NOTED_MAX or has_ticket:
            return
        ticket, head = ticket_of(entry).encode(), Head(key=key)
        if self._takes_turn(lane, key, ticket):
            self.admitted.setdefault((lane, entry), Noted("r", head, ticket))
        elif self._parked_count(lane, b"k" + key) < line_max:
            self._set_aside(lane, entry, b"k" + key, ticket, head)

    def _answer(self, stream: str, question: Question, id_window_ms: int, line_max: int) -> Answer:
        entry, lane = question.entry, lane_of(stream)
        ticket = question.ticket.encode() or ticket_of(entry).encode()
        head = _head_of(question)
        if question.own_id and id_window_ms > 0:
            word = self._known_id(question, f"{lane}/{ticket.decode()}", id_window_ms)
            if word:
                return Answer(word, question.own_id)
        held = self.admitted.get((stream, entry))
        # A throttled job that was let through before its engine died has taken its span already.
        has_claimed = held is not None and held.head.unique == head.unique
        if question.unique and not (has_claimed and question.mode == "throttle"):
            claimed = self._claim(question)
            if claimed is not None:
                return claimed
        if entry not in self.streams[stream].entries:
            return Answer("lost")
        if head.key and not self._takes_turn(lane, head.key, ticket):
            if self._parked_count(lane, b"k" + head.key) >= line_max:
                return Answer("full")
            self._set_aside(stream, entry, b"k" + head.key, ticket, head)
            return Answer("parked")
        shut = self._shut_limit(lane, ticket, head.limits)
        if shut:
            self._set_aside(stream, entry, b"l" + shut, ticket, head)
            return Answer("parked")
        self._let_run(stream, entry, head, ticket)
        return Answer("run")

    def _let_run(self, stream: str, entry: bytes, head: Head, ticket: bytes) -> None:
        if head.key or head.limits:
            self._let_start(stream, entry, head, ticket)
        elif head.unique:
            # It may ask for a turn and for places later: its time had not come yet.
            held = self.admitted.get((stream, entry), Noted("r", Head(), ticket))
            known = held.head._replace(unique=head.unique, job_id=head.job_id)
            self.admitted[stream, entry] = Noted("r", known, held.ticket)

    def _set_aside(self, stream: str, entry: bytes, line: bytes, ticket: bytes, head: Head) -> None:
        """A job leaves its stream, and keeps its id, its age and its place in the order."""
        fields = _with_ticket(self.streams[stream].entries.pop(entry), stream, entry, ticket)
        self._park(lane_of(stream), line, ticket, head, fields)
        self._group(stream).pending.pop(entry, None)
        self.admitted.pop((stream, entry), None)
        self.aside.add(entry)
        self.emit(Parked(self.name, stream, entry, line))

    def limit(
        self, consumer: str, stream: str, question: Question, name: str, *, shut_ms: int
    ) -> Literal["open", "shut", "lost"]:
        """See :meth:`engine.store.gates.GateStore.limit`."""
        entry, limit = question.entry, name.encode()
        if not self._holds(consumer, stream, entry, question.deliveries):
            return "lost"
        self._use_gates()
        if shut_ms > 0:
            self.shut[limit] = max(self.shut.get(limit, 0), self.gates_ms() + shut_ms)
            return "shut"
        ticket = question.ticket.encode() or ticket_of(entry).encode()
        fresh = Noted("a", _head_of(question)._replace(limits=b""), ticket)
        held = self.admitted.get((stream, entry), fresh)
        head = held.head
        paid = held.paid
        if limit in map(name_of, head.limits.split()):
            # It has its place. What it asks for beyond what it paid is taken from those to come.
            if self._shut_until(limit) is not None:
                return "shut"
            if limit not in paid:
                self._take_token(limit)
            paid -= {limit}
        else:
            is_open, _ = self._limit_is_open(limit)
            if not is_open or self._waits_before(lane_of(stream), limit, ticket):
                return "shut"
            self._take_token(limit)
            self.places[limit] += 1
            head = head._replace(limits=b" ".join([*head.limits.split(), limit]))
        self.admitted[stream, entry] = Noted("a", head, held.ticket, paid)
        return "open"

    def release(self, *, count: int, every: bool) -> Released:
        """See :meth:`engine.store.gates.GateStore.release`."""
        now_ms = self.gates_ms()
        order = sorted(self.due, key=lambda name: (self.due[name], name))
        moved = 0
        for name in [name for name in order if every or self.due[name] <= now_ms][:100]:
            if moved < count:
                moved += self._release(name, count - moved)
        self._forget_claims(200)
        if every:
            self._forget_deleted()
        next_ms = min(self.due.values(), default=FAR)
        return Released(moved, None if next_ms >= FAR else max(0, int(next_ms - now_ms)))

    def _forget_deleted(self) -> None:
        """Take back what jobs hold whose entries somebody deleted."""
        self.freed.clear()
        for stream, entry in list(self.admitted):
            if entry not in self.streams[stream].entries:
                self._leave(stream, Leave(entry, "free"))
        for name, places in list(self.freed.items()):
            if name in self.due:
                self._release(name, places)

    def declare_limits(self, rules: dict[str, str]) -> None:
        """See :meth:`engine.store.gates.GateStore.declare_limits`."""
        for name, text in rules.items():
            known = self.control_hash.get(f"limit:{name}")
            if known is None or " from=code" in known:
                self.control_hash[f"limit:{name}"] = text


def _is_new_and_keyed(stream: str, question: Question) -> bool:
    return ":" not in stream and bool(question.key) and not question.ticket


def _head_of(question: Question) -> Head:
    return Head(
        question.key.encode(),
        question.unique.encode(),
        question.job_id.encode(),
        " ".join(question.limits).encode(),
    )


def _value_of(fields: Sequence[bytes], wanted: bytes) -> bytes | None:
    found = (value for name, value in zip(fields[::2], fields[1::2], strict=True) if name == wanted)
    return next(found, None)


def _is_usable(key: bytes) -> bool:
    return 0 < len(key) <= KEY_BYTES_MAX and not any(byte <= 32 or byte == 127 for byte in key)


def _with_ticket(fields: list[bytes], stream: str, entry: bytes, ticket: bytes) -> list[bytes]:
    fields = list(fields)
    for at in range(0, len(fields), 2):
        if fields[at] == META:
            if HAS_TICKET not in fields[at + 1]:
                fields[at + 1] = b"{" + HAS_TICKET + ticket + b'",' + fields[at + 1][1:]
            return fields
    own = _value_of(fields, b"id")
    if own is None:
        own = stream[:1].encode() + b"-" + entry
    named = b'{"id":' + orjson.dumps(own.decode("utf-8", "replace"))
    aged = b',"enqueued_ms":' + entry.partition(b"-")[0]
    return [*fields, META, named + aged + b"," + HAS_TICKET + ticket + b'"}']
