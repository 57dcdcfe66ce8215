"""The verbs of gates over the model; see :mod:`engine.store.gates`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

from engine.store.gates import Answer, Question, Released
from engine.testing.queue_model import QueueModel

Found = TypeVar("Found")


class MemoryGates:
    """The verbs of :class:`engine.store.gates.GateStore`, mixed into the store in memory."""

    consumer: str

    def _queue(self, name: str) -> QueueModel:
        raise NotImplementedError

    async def _apply(self, verb: str, act: Callable[[], Found]) -> Found:
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
        """See :meth:`engine.store.gates.GateStore.admit`."""
        model = self._queue(queue)
        return await self._apply(
            "admit",
            lambda: model.admit(
                self.consumer, stream, questions, id_window_ms=id_window_ms, line_max=line_max
            ),
        )

    async def limit(
        self, queue: str, stream: str, question: Question, name: str, *, shut_ms: int = 0
    ) -> Literal["open", "shut", "lost"]:
        """See :meth:`engine.store.gates.GateStore.limit`."""
        model = self._queue(queue)
        return await self._apply(
            "limit", lambda: model.limit(self.consumer, stream, question, name, shut_ms=shut_ms)
        )

    async def release(self, queue: str, *, count: int, every: bool = False) -> Released:
        """See :meth:`engine.store.gates.GateStore.release`."""
        model = self._queue(queue)
        return await self._apply("release", lambda: model.release(count=count, every=every))

    async def declare_limits(self, queue: str, rules: dict[str, str]) -> None:
        """See :meth:`engine.store.gates.GateStore.declare_limits`."""
        await self._apply("declare_limits", lambda: self._queue(queue).declare_limits(rules))
