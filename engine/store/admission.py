"""The verbs of gates over a real server; see :mod:`engine.store.gates`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from engine.store.gates import Answer, Question, Released, Word, is_plain
from engine.store.link import Argument, Link, checked
from engine.store.scripts import script
from engine.wire.keys import GROUP, QueueKeys
from engine.wire.packing import pack

CALL_MAX = 128
"""Questions of one call that ask for turns alone: nobody else is served meanwhile."""

QUESTIONS_MAX = 25
"""The same of others: each may ask for several things, and move a job, at some ten µs."""

LOOK_MAX = 25
"""Entries of a lane whose keys are noted in one call; likewise."""


_WORDS: dict[bytes, Literal["open", "shut", "lost"]] = {
    b"open": "open",
    b"shut": "shut",
    b"lost": "lost",
}


_LETTERS: dict[int, Word] = {
    ord("r"): "run",
    ord("p"): "parked",
    ord("f"): "full",
    ord("l"): "lost",
    ord("a"): "again",
}
_PLAIN = {letter: Answer(word) for letter, word in _LETTERS.items()}


class GateVerbs:
    """The verbs of :class:`engine.store.gates.GateStore`, mixed into the store."""

    consumer: str
    _upkeep: Link
    _gated: set[str]

    def keys_of(self, queue: str) -> QueueKeys:
        """The keys of one queue."""
        raise NotImplementedError

    def gate_link(self, queue: str) -> Link:
        """The connection for questions that jobs wait for."""
        raise NotImplementedError

    async def admit(
        self,
        queue: str,
        stream: str,
        questions: Sequence[Question],
        *,
        id_window_ms: int,
        line_max: int,
    ) -> list[Answer]:
        keys = self.keys_of(queue)
        names = [keys.lane(stream), *keys.gates()]
        found: list[Answer] = []
        for asked in calls_of(stream, questions):
            plain: list[bytes] = []
            full: list[bytes] = []
            kinds = [is_plain(stream, question) for question in asked]
            for question, is_bare in zip(asked, kinds, strict=True):
                if is_bare:
                    plain += (question.entry, question.key.encode())
                else:
                    full.append(_packed(question))
            letters, rows = await self.gate_link(queue).run(
                script("admit"),
                names,
                GROUP,
                self.consumer,
                stream,
                id_window_ms,
                line_max,
                LOOK_MAX,
                pack(plain),
                *full,
            )
            told = iter(letters)
            others = iter(rows)
            found += [
                _PLAIN[next(told)] if is_bare else Answer(*(part.decode() for part in next(others)))
                for is_bare in kinds
            ]
        self._gated.add(queue)
        return found

    async def limit(
        self, queue: str, stream: str, question: Question, name: str, *, shut_ms: int = 0
    ) -> Literal["open", "shut", "lost"]:
        keys = self.keys_of(queue)
        head = [part.encode() for part in (question.key, question.unique, question.job_id)]
        reply: bytes = await self.gate_link(queue).run(
            script("limit"),
            [keys.lane(stream), *keys.gates()],
            GROUP,
            self.consumer,
            stream,
            question.entry,
            question.deliveries,
            name,
            shut_ms,
            question.ticket,
            pack(head),
        )
        self._gated.add(queue)
        return _WORDS[reply]

    async def release(self, queue: str, *, count: int, every: bool = False) -> Released:
        keys = self.keys_of(queue)
        moved, next_ms = await self._upkeep.run(
            script("release"), [*keys.lanes.values(), *keys.gates()], count, int(every)
        )
        return Released(moved, None if next_ms < 0 else next_ms)

    async def declare_limits(self, queue: str, rules: dict[str, str]) -> None:
        control = self.keys_of(queue).control
        names = [f"limit:{name}" for name in rules]
        before = await self._upkeep.one(b"HMGET", control, *names)
        flat: list[Argument] = []
        for name, text, known in zip(names, rules.values(), before, strict=True):
            if known is None or (b" from=code" in known and known != text.encode()):
                flat += (name, text)
        if flat:
            checked(await self._upkeep.call((b"HSET", control, *flat)))


def calls_of(stream: str, questions: Sequence[Question]) -> list[Sequence[Question]]:
    """Share questions out over calls that take the server about as long as each other."""
    calls: list[Sequence[Question]] = []
    first, weight = 0, 0.0
    for at, question in enumerate(questions):
        share = 1 / CALL_MAX if is_plain(stream, question) else 1 / QUESTIONS_MAX
        if weight + share > 1 + 1e-9:
            calls.append(questions[first:at])
            first, weight = at, 0.0
        weight += share
    calls.append(questions[first:])
    return calls


def _packed(question: Question) -> bytes:
    parts = (
        question.ticket,
        question.key,
        question.job_id,
        question.unique,
        question.mode,
        str(question.ms),
        str(question.ms_max),
        "1" if question.wakes else "",
        question.own_id,
        question.body,
        " ".join(question.limits),
    )
    told = [part.encode() for part in parts]
    return pack([question.entry, b"%d" % question.deliveries, *told])
