"""Changes what gates keep: shuts and opens limits, and lets keys go that dead jobs keep."""

from __future__ import annotations

from engine.store.link import Command
from engine.store.operator.gates import turns
from engine.store.operator.link import OperatorLink
from engine.wire.keys import QueueKeys
from schemas.rules import LANES

UNBLOCK_MAX = 100
"""Keys that one script lets go, each at some ten µs."""


class GateWriter:
    """Changes what gates keep of a queue."""

    def __init__(self, link: OperatorLink) -> None:
        self._link = link

    async def shut_until(self, queue: str, name: str) -> int:
        """Return until when a limit is shut, Unix ms; 0 where it is not."""
        raw = await self._link.one(b"HGET", QueueKeys(queue).limits, f"x:{name}")
        until_ms = int(raw) if raw and raw.isdigit() else 0
        return until_ms if until_ms > await self._link.now_ms() else 0

    async def shut(self, queue: str, name: str, until_ms: int) -> None:
        """Let nobody through a limit until then."""
        await self._link.one(b"HSET", QueueKeys(queue).limits, f"x:{name}", until_ms)

    async def open(self, queue: str, name: str) -> None:
        """Undo :meth:`shut`, whoever did it; engines let jobs through within a second."""
        keys = QueueKeys(queue)
        commands: list[Command] = [
            (b"HDEL", keys.limits, f"x:{name}"),
            (b"ZADD", keys.limits_due, b"XX", await self._link.now_ms(), name),
        ]
        await self._link.many(commands)

    async def forget(self, queue: str, name: str) -> None:
        """Forget what was left of a limit's rate; places that are taken are given back as ever."""
        await self._link.one(b"HDEL", QueueKeys(queue).limits, f"t:{name}")

    async def unblock(self, queue: str) -> int:
        """
        Let the next jobs go of all keys that dead jobs keep, in bounded steps.

        Returns:
            How many keys were let go.
        """
        keys, freed = QueueKeys(queue), 0
        for lane in LANES:
            async for page in turns(self._link, queue, lane):
                kept = [(key, told[1:]) for key, told in page.items() if told.startswith(b"!")]
                for begin in range(0, len(kept), UNBLOCK_MAX):
                    flat = [word for pair in kept[begin : begin + UNBLOCK_MAX] for word in pair]
                    freed += await self._link.script("unblock", keys.gates(), lane, *flat)
        return freed
