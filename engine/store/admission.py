"""The verbs of gates over a real server; see :mod:`engine.store.gates`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from engine.store.gates import Answer, Question, Released
from engine.store.link import Argument, Link, checked
from engine.store.scripts import script
from engine.wire.keys import GROUP, QueueKeys
from engine.wire.packing import pack

QUESTIONS_MAX = 25
"""In one call: each may move a job, at some ten µs, and nobody else is served meanwhile."""

LOOK_MAX = 25
"""Entries of a lane whose keys are noted in one call; likewise."""


_WORDS: dict[bytes, Literal["open", "shut", "lost"]] = {
    b"open": "open",
    b"shut": "shut",
    b"lost": "lost",
}


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
        for first in range(0, len(questions), QUESTIONS_MAX):
            asked = [_packed(question) for question in questions[first : first + QUESTIONS_MAX]]
            rows = await self.gate_link(queue).run(
                script("admit"),
                names,
                GROUP,
                self.consumer,
                stream,
                id_window_ms,
                line_max,
                LOOK_MAX,
                *asked,
            )
            found += [Answer(*(part.decode() for part in row)) for row in rows]
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
