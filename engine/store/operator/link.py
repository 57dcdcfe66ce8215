"""How the operator's side reaches the server: one connection, bounded reads, translated errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import hiredis

from engine.errors import GroupMissing, StoreRefused
from engine.store.connection import pool
from engine.store.faults import reply_fault
from engine.store.link import Argument, Command, Link
from engine.store.scripts import script
from engine.wire.keys import slot_tag

CHUNK_ENTRIES_MAX = 500
CHUNK_BYTES_MAX = 4 * 1_048_576
DIGITS_MAX = 18

Entry = tuple[bytes, list[bytes]]


class Pace:
    """How many entries the next read may ask for, so that large ones do not add up."""

    def __init__(self) -> None:
        self.count = 16

    def note(self, entries: int, size: int) -> None:
        """Learn from a read: how many entries it brought and how many bytes they had."""
        if entries:
            fitting = CHUNK_BYTES_MAX // (size // entries + 1)
            self.count = max(1, min(CHUNK_ENTRIES_MAX, 4 * self.count, fitting))


class OperatorLink:
    """
    One connection for commands and scripts off the hot path.

    Args:
        url: redis://, rediss:// or unix://.
        name: What CLIENT LIST shows.
        timeout_s: Time after which a silent server counts as gone.
    """

    def __init__(self, url: str, *, name: str = "operator", timeout_s: float = 5.0) -> None:
        connections = pool(url, name=name, timeout_s=timeout_s, connect_timeout_s=timeout_s)
        self._link = Link(connections, timeout_s=timeout_s)

    async def one(self, *command: Argument) -> Any:
        """Run one command."""
        return await self._link.one(*command)

    async def many(
        self, commands: Sequence[Command], *, broken: set[str] | None = None
    ) -> list[Any]:
        """
        Run commands in one write; a missing key or group is answered by None.

        Args:
            commands: The commands, their keys in the second place.
            broken: Takes the keys that hold another type; these are answered by None as well.

        Raises:
            StoreError: The first other error among the replies.
        """
        if not commands:
            return []
        replies = await self._link.call(*commands)
        return [
            _or_missing(reply, command, broken)
            for reply, command in zip(replies, commands, strict=True)
        ]

    async def script(self, name: str, keys: Sequence[str], *arguments: Argument) -> Any:
        """Run a script of ``lua/``."""
        return await self._link.run(script(name), keys, *arguments)

    async def now_ms(self) -> int:
        """Return the server's clock, Unix ms."""
        return time_ms(await self.one(b"TIME"))

    async def stream(
        self, key: str, *, low: str = "-", high: str = "+", newest: bool = False
    ) -> AsyncIterator[list[Entry]]:
        """
        Read a stream in bounded chunks.

        Args:
            key: The stream.
            low: Lowest id; ``(`` before it leaves the id itself out.
            high: Highest id, likewise.
            newest: Begin at the highest.
        """
        pace = Pace()
        while True:
            count = pace.count
            bounds = (high, low) if newest else (low, high)
            found: list[Entry] = await self.one(
                b"XREVRANGE" if newest else b"XRANGE", key, *bounds, b"COUNT", count
            )
            if not found:
                return
            pace.note(len(found), sum(map(entry_bytes, found)))
            yield found
            if len(found) < count:
                return
            last = "(" + found[-1][0].decode()
            if newest:
                high = last
            else:
                low = last

    def close(self) -> None:
        """Close the connection."""
        self._link.drop()


def entry_bytes(entry: Entry) -> int:
    """Count the bytes of an entry's fields."""
    return sum(map(len, entry[1]))


def time_ms(reply: list[bytes]) -> int:
    """Read the answer of TIME."""
    return int(reply[0]) * 1000 + int(reply[1]) // 1000


def pairs(flat: Sequence[bytes] | None) -> dict[bytes, bytes]:
    """Read a flat reply of names and values."""
    return dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}


def whole(raw: bytes | None) -> int:
    """Read a counter; 0 where somebody wrote something else there, which must not hide the rest."""
    return int(raw) if raw is not None and raw.isdigit() and len(raw) <= DIGITS_MAX else 0


def entry_ms(entry: bytes) -> int:
    """Unix ms of a stream entry's id."""
    return int(entry.partition(b"-")[0])


def _or_missing(reply: Any, command: Command, broken: set[str] | None) -> Any:
    if not isinstance(reply, hiredis.ReplyError):
        return reply
    error = reply_fault(str(reply))
    if isinstance(error, GroupMissing) or command[0] == b"MEMORY":
        # A server may forbid the latter; operators then see no bytes, and all else.
        return None
    if isinstance(error, StoreRefused) and error.kind == "wrongtype" and broken is not None:
        # One key that somebody else took must not hide all queues.
        named = (part for part in command if isinstance(part, str))
        broken.update(part for part in named if slot_tag(part) != part)
        return None
    raise error
