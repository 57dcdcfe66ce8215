"""How full a queue is and may be, as the server tells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from engine.core.pressure import FULL, SHED, SHED_AT, Bounds, Level
from engine.errors import QueueFull
from engine.store.link import Argument, Command, Link, checked
from engine.wire.keys import QueueKeys
from schemas.rules import LANES

JOBS_MAX = "jobs_max"
BYTES_MAX = "bytes_max"
DEFAULT = "_default"
"""Fields of the control hash: what operators set, and with this ending what engines were set to."""

SAMPLES = 50
"""Nodes of a key that MEMORY USAGE looks at; about 5 µs."""

LOOK_S = 1.0
"""How old a producer's knowledge of a queue's bounds may be."""

HOLD = b"hold:"


class Pressure(msgspec.Struct, frozen=True):
    """
    How full a queue is.

    Attributes:
        level: What it holds.
        bounds: What it may hold.
        defaults: What it may hold where operators set nothing.
    """

    level: Level
    bounds: Bounds
    defaults: Bounds


class Dropped(msgspec.Struct, frozen=True):
    """A job that was dropped on purpose, and why."""

    why: str


EnqueueReply = bytes | list[bytes]
"""What a script that appends says: the words of all jobs, or one for each."""

Answer = str | Dropped | QueueFull
"""What became of a job: its entry id, dropped, or not taken."""


def holding(keys: QueueKeys, types: Sequence[str]) -> tuple[list[str], list[str]]:
    """Name the streams, lanes first, and the sorted sets that hold a queue's jobs."""
    streams = [*keys.streams.values(), *map(keys.held, types)]
    return streams, [keys.delayed, keys.flows, *map(keys.parked, LANES)]


def level_commands(keys: QueueKeys, types: Sequence[str]) -> list[Command]:
    """Build the commands that count what a queue holds."""
    streams, sets = holding(keys, types)
    counts = [*((b"XLEN", key) for key in streams), *((b"ZCARD", key) for key in sets)]
    return [*counts, *map(usage_of, (*streams, *sets))]


def usage_of(key: str) -> Command:
    """Build the command that estimates the bytes of a key."""
    return (b"MEMORY", b"USAGE", key, b"SAMPLES", SAMPLES)


def read_level(replies: Sequence[Any]) -> Level:
    """Read the replies of :func:`level_commands`; missing keys count as empty."""
    half = len(replies) // 2
    return Level(sum(each or 0 for each in replies[:half]), sum(n or 0 for n in replies[half:]))


def read_bounds(found: Mapping[bytes, bytes]) -> Bounds:
    """Read the bounds that hold from a control hash; values that make no sense are not there."""
    default = read_defaults(found)
    return Bounds(
        _number(found.get(JOBS_MAX.encode()), default.jobs),
        _number(found.get(BYTES_MAX.encode()), default.bytes),
    )


def read_defaults(found: Mapping[bytes, bytes]) -> Bounds:
    """Read the bounds that engines were set to."""
    jobs, size = f"{JOBS_MAX}{DEFAULT}".encode(), f"{BYTES_MAX}{DEFAULT}".encode()
    return Bounds(_number(found.get(jobs), 0), _number(found.get(size), 0))


def _number(raw: bytes | None, otherwise: int) -> int:
    return int(raw) if raw is not None and raw.isdigit() else otherwise


def taken(reply: bytes) -> list[Any]:
    """Read the reply of ``enqueue`` or ``enqueue_one``, which take all: the entry ids."""
    return reply.decode().split(" ")


class KnownBounds:
    """
    What a producer knows of one queue's bounds.

    A queue without bounds costs it one small read about once a second.

    Args:
        queue: The queue.

    Attributes:
        keys: The queue's keys.
        types: Types that are held.
        bounds: The bounds; without any the plain script serves.
        is_unknown: Nothing is known yet, so that a producer has to look first.
    """

    def __init__(self, queue: str) -> None:
        self.keys = QueueKeys(queue)
        self.types: list[str] = []
        self.bounds = Bounds()
        self.is_unknown = True
        self._looked_s = float("-inf")

    def is_due(self, now_s: float) -> bool:
        """Tell whether to look again; the one who is told so does it."""
        if now_s - self._looked_s < LOOK_S:
            return False
        self._looked_s = now_s
        return True

    def forget(self) -> None:
        """Look again beside the next batch, since this look failed."""
        self._looked_s = float("-inf")

    def note(self, flat: Sequence[bytes], now_s: float) -> None:
        """Learn from the control hash."""
        found = dict(zip(flat[::2], flat[1::2], strict=True))
        self.bounds = read_bounds(found)
        held = sorted(name for name in found if name.startswith(HOLD))
        self.types = [name.removeprefix(HOLD).decode("utf-8", "replace") for name in held]
        self._looked_s = now_s
        self.is_unknown = False

    def answers(self, reply: EnqueueReply, lanes: Iterable[str]) -> list[Answer]:
        """Read a reply of any of the scripts that append."""
        if isinstance(reply, bytes):
            return [*taken(reply)]
        *words, level = reply
        jobs, jobs_max, size, bytes_max = map(int, level.split(b"/"))
        queue = self.keys.queue
        found: list[Answer] = []
        for word, lane in zip(words, lanes, strict=True):
            if word == FULL:
                found.append(
                    QueueFull(queue, jobs=jobs, jobs_max=jobs_max, bytes=size, bytes_max=bytes_max)
                )
            elif word == SHED:
                has = [f"{jobs:,} of {jobs_max:,} jobs"] if jobs_max else []
                has += [f"{size:,} of {bytes_max:,} bytes"] if bytes_max else []
                why = f"queue {queue} has {' and '.join(has)}, and lane {lane} is shed"
                found.append(Dropped(f"{why} from {SHED_AT[lane]} %"))
            else:
                found.append(word.decode())
        return found


class PressureVerbs:
    """The verbs of :class:`engine.store.base.Store` about full queues."""

    _upkeep: Link

    def keys_of(self, queue: str) -> QueueKeys:
        """The keys of one queue."""
        raise NotImplementedError

    async def pressure(self, queue: str, types: Sequence[str]) -> Pressure:
        keys = self.keys_of(queue)
        commands = level_commands(keys, types)
        control, *replies = await self._upkeep.call((b"HGETALL", keys.control), *commands)
        half = len(replies) // 2
        checked([control, *replies[:half]])
        # A server may forbid MEMORY; its engines then know no bytes, and work.
        replies[half:] = [each if isinstance(each, int) else 0 for each in replies[half:]]
        found = dict(zip(control[::2], control[1::2], strict=True))
        return Pressure(read_level(replies), read_bounds(found), read_defaults(found))

    async def default_bounds(self, queue: str, bounds: Bounds) -> None:
        keys = self.keys_of(queue)
        fields = {f"{JOBS_MAX}{DEFAULT}": bounds.jobs, f"{BYTES_MAX}{DEFAULT}": bounds.bytes}
        gone = [name for name, most in fields.items() if not most]
        commands: list[tuple[Argument, ...]] = []
        if gone:
            commands.append((b"HDEL", keys.control, *gone))
        kept = [part for name, most in fields.items() if most for part in (name, most)]
        if kept:
            commands.append((b"HSET", keys.control, *kept))
        checked(await self._upkeep.call(*commands))
