"""What one engine has taken, read by its consumers' names and not by looking at all that runs."""

from __future__ import annotations

from collections.abc import Sequence

from engine.store.link import Command
from engine.store.operator.entry import Found
from engine.store.operator.link import OperatorLink
from engine.wire.keys import GROUP, READY, RELEASED, QueueKeys, lane_of
from schemas.rules import LANES


def is_of(consumer: str, engine: str) -> bool:
    """Tell whether a consumer is this engine's: its name, and a word that each start draws."""
    return consumer == engine or consumer.rpartition("-")[0] == engine


class InFlightReader:
    """Lists what engines have taken."""

    def __init__(self, link: OperatorLink) -> None:
        self._link = link

    async def of(
        self, engine: str, queues: Sequence[str], *, limit: int
    ) -> tuple[int, list[Found]]:
        """
        Count what an engine has taken, and list some of it, in three round trips.

        Args:
            engine: The engine.
            queues: What it serves.
            limit: Most jobs to list.
        """
        streams = [
            (QueueKeys(queue), name)
            for queue in queues
            for lane in LANES
            for name in (lane, READY[lane])
        ]
        summaries = await self._link.many(
            [(b"XPENDING", keys.lane(name), GROUP) for keys, name in streams]
        )
        taken = [
            (keys, name, consumer, int(count))
            for (keys, name), summary in zip(streams, summaries, strict=True)
            for consumer, count in (summary and summary[3]) or []
            if consumer != RELEASED.encode() and is_of(consumer.decode("utf-8", "replace"), engine)
        ]
        commands: list[Command] = [
            (b"XPENDING", keys.lane(name), GROUP, "-", "+", limit, consumer)
            for keys, name, consumer, _ in taken
        ]
        replies = await self._link.many([(b"TIME",), *commands]) if commands else []
        rows = [
            (keys, name, row)
            for (keys, name, _, _), reply in zip(taken, replies[1:], strict=True)
            for row in reply or []
        ][:limit]
        bodies = await self._link.many(
            [(b"XRANGE", keys.lane(name), row[0], row[0]) for keys, name, row in rows]
        )
        now_ms = int(replies[0][0]) * 1_000 + int(replies[0][1]) // 1_000 if replies else 0
        found = [
            _found(keys.queue, name, row, body[0][1], now_ms)
            for (keys, name, row), body in zip(rows, bodies, strict=True)
            if body
        ]
        return sum(count for _, _, _, count in taken), found


def _found(
    queue: str, stream: str, row: Sequence[bytes | int], fields: list[bytes], now_ms: int
) -> Found:
    entry, consumer, idle_ms, deliveries = row
    assert isinstance(entry, bytes)
    assert isinstance(consumer, bytes)
    return Found(
        queue=queue,
        state="active",
        lane=lane_of(stream),
        stream=stream,
        entry=entry.decode(),
        fields=fields,
        at_ms=now_ms - int(idle_ms),
        position=f"{stream}/{entry.decode()}",
        consumer=consumer.decode("utf-8", "replace"),
        deliveries=int(deliveries),
    )
