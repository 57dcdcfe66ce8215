"""
What the one store suite runs against: the memory store, and real servers.

A rig makes stores, and reaches behind their backs: it adds entries as a producer does, ages leases,
loses groups, and reads what is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from engine.store import connection
from engine.store.base import Store
from engine.store.redis import RedisStore, StoreSettings
from engine.testing import ManualClock, MemoryStore, ServerModel
from engine.testing.gates_state import FAR
from engine.testing.queue_model import QueueModel
from engine.testing.streams import GroupModel, StreamModel, parse_id
from engine.wire.keys import ENGINES, GROUP, QueueKeys
from schemas.rules import LANES
from schemas.stats import Beat

QUEUE = "letters"
KEYS = QueueKeys(QUEUE)
Entries = list[tuple[bytes, list[bytes]]]


class Line(NamedTuple):
    """One line of a pending list."""

    consumer: str
    deliveries: int
    idle_ms: float


class Rig(Protocol):
    """The hands of a test behind a store's back."""

    name: str

    def store(self, consumer: str = "a") -> Store: ...
    async def close(self) -> None: ...
    async def now_ms(self) -> int: ...
    async def add(self, lane: str, fields: Sequence[bytes]) -> bytes: ...
    async def add_done(self, at_ms: int, fields: Sequence[bytes]) -> None: ...
    async def delete(self, lane: str, entry: bytes) -> None: ...
    async def end_by_hand(self, lane: str, entry: bytes) -> None: ...
    async def age(self, lane: str, entry: bytes, idle_ms: int) -> None: ...
    async def pending(self, lane: str) -> dict[bytes, Line]: ...
    async def consumers(self, lane: str) -> set[str]: ...
    async def stream(self, key: str) -> Entries: ...
    async def hash(self, key: str) -> dict[bytes, bytes]: ...
    async def set_control(self, field: str, value: str | None) -> None: ...
    async def delay(self, due_ms: int, packed: bytes) -> None: ...
    async def delayed(self) -> dict[bytes, int]: ...
    async def parked(self, lane: str) -> list[bytes]: ...
    async def admitted(self) -> set[str]: ...
    async def let_pass(self, milliseconds: int) -> None: ...
    async def occupy(self, key: str) -> None: ...
    async def drop_groups(self) -> None: ...
    async def flush(self) -> None: ...
    async def engines(self) -> set[str]: ...
    async def add_engine(self, name: str, beat_ms: int) -> None: ...


def beat(name: str, beat_ms: int) -> bytes:
    """Build a beat as engines send it."""
    return msgspec.json.encode(
        Beat(
            name=name,
            host="host",
            pid=1,
            version="1",
            state="running",
            http="",
            started_ms=beat_ms,
            beat_ms=beat_ms,
            loop_lag_ms=0.0,
            rss_bytes=1,
            queues={},
        )
    )


class MemoryRig:
    """The model, seen from behind."""

    name = "memory"

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.model = ServerModel(self.clock.now_ms)
        self.queue: QueueModel = self.model.queue(QUEUE)

    def store(self, consumer: str = "a") -> Store:
        return MemoryStore(self.model, self.clock, consumer=consumer)

    async def close(self) -> None:
        await asyncio.sleep(0)

    async def now_ms(self) -> int:
        return int(self.model.now_ms())

    async def add(self, lane: str, fields: Sequence[bytes]) -> bytes:
        return self.queue.add(lane, fields)

    async def add_done(self, at_ms: int, fields: Sequence[bytes]) -> None:
        self.queue.done.add(fields, at_ms)

    async def delete(self, lane: str, entry: bytes) -> None:
        del self.queue.streams[lane].entries[entry]

    async def end_by_hand(self, lane: str, entry: bytes) -> None:
        del self._group(lane).pending[entry]
        await self.delete(lane, entry)

    async def age(self, lane: str, entry: bytes, idle_ms: int) -> None:
        self._group(lane).pending[entry].delivered_ms = self.model.now_ms() - idle_ms

    async def pending(self, lane: str) -> dict[bytes, Line]:
        group = self.queue.streams[lane].group
        if group is None:
            return {}
        now_ms = self.model.now_ms()
        return {
            entry: Line(line.consumer, line.deliveries, line.idle_ms(now_ms))
            for entry, line in sorted(group.pending.items(), key=lambda pair: parse_id(pair[0]))
        }

    async def consumers(self, lane: str) -> set[str]:
        return set(self._group(lane).consumers)

    async def stream(self, key: str) -> Entries:
        return list(self._streams().get(key, StreamModel()).entries.items())

    def _streams(self) -> dict[str, StreamModel]:
        queue = self.queue
        lanes = {KEYS.lane(lane): stream for lane, stream in queue.streams.items()}
        held = {KEYS.held(job_type): stream for job_type, stream in queue.held.items()}
        ours = {KEYS.done: queue.done, KEYS.dead: queue.dead, KEYS.events: queue.events}
        return {**queue.replies, **lanes, **held, **ours}

    async def hash(self, key: str) -> dict[bytes, bytes]:
        queue = self.queue
        hashes: dict[str, Mapping[str, Any]] = {
            KEYS.stats: queue.stats,
            KEYS.dead_groups: queue.dead_groups,
            KEYS.progress: queue.progress,
            KEYS.limits: {
                f"u:{name.decode()}": count for name, count in sorted(queue.places.items())
            },
            KEYS.unique: {field: taken.by for field, taken in queue.taken.items()},
            **{KEYS.busy(lane): _decoded(keys) for lane, keys in queue.busy.items()},
            KEYS.cancelled: queue.cancelled,
            **queue.minutes,
            **{
                key: {str(quarter): raw for quarter, raw in kept.items()}
                for key, kept in queue.quarters.items()
            },
        }
        found = hashes.get(key, {})
        return {name.encode(): _as_bytes(value) for name, value in found.items()}

    async def set_control(self, field: str, value: str | None) -> None:
        self.queue.control_hash.pop(field, None)
        if value is not None:
            self.queue.control_hash[field] = value

    async def delay(self, due_ms: int, packed: bytes) -> None:
        self.queue.delayed[packed] = due_ms

    async def delayed(self) -> dict[bytes, int]:
        return dict(self.queue.delayed)

    async def parked(self, lane: str) -> list[bytes]:
        return list(self.queue.parked[lane])

    async def admitted(self) -> set[str]:
        """Places where jobs hold something of the gates."""
        return {f"{stream}/{entry.decode()}" for stream, entry in self.queue.admitted}

    async def let_pass(self, milliseconds: int) -> None:
        """Let time pass for gates alone."""
        self.model.advance(milliseconds)
        for packed in self.queue.delayed:
            self.queue.delayed[packed] += milliseconds
        for stream in self.queue.streams.values():
            for line in stream.group.pending.values() if stream.group else ():
                line.delivered_ms += milliseconds

    async def occupy(self, key: str) -> None:
        self.queue.occupied.add(key)

    async def drop_groups(self) -> None:
        self.queue.drop_groups()

    async def flush(self) -> None:
        self.queue.flush()

    async def engines(self) -> set[str]:
        return set(self.model.engines)

    async def add_engine(self, name: str, beat_ms: int) -> None:
        self.model.engines[name] = (beat(name, beat_ms), beat_ms)

    def _group(self, lane: str) -> GroupModel:
        group = self.queue.streams[lane].group
        assert group is not None
        return group


class ServerRig:
    """A real server, seen through a client of its own."""

    def __init__(self, name: str, url: str, *, settings: StoreSettings | None = None) -> None:
        self.name = name
        self.url = url
        self.settings = settings
        self._client: Any = connection.client(url, name="rig")
        # Replies as they are: parsing would fold fields that stand twice.
        self._client.response_callbacks.clear()
        self._stores: list[RedisStore] = []
        self._done_added = 0

    async def call(self, *command: Any) -> Any:
        """Run one command and return its bare reply."""
        return await self._client.execute_command(*command)

    def store(self, consumer: str = "a") -> Store:
        made = RedisStore.from_url(self.url, consumer=consumer, settings=self.settings)
        self._stores.append(made)
        return made

    async def close(self) -> None:
        for store in self._stores:
            await store.close()
        await self._client.aclose()

    async def now_ms(self) -> int:
        seconds, micros = await self.call("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def add(self, lane: str, fields: Sequence[bytes]) -> bytes:
        return bytes(await self.call("XADD", KEYS.lane(lane), "*", *fields))

    async def add_done(self, at_ms: int, fields: Sequence[bytes]) -> None:
        self._done_added += 1
        await self.call("XADD", KEYS.done, f"{at_ms}-{self._done_added}", *fields)

    async def delete(self, lane: str, entry: bytes) -> None:
        await self.call("XDEL", KEYS.lane(lane), entry)

    async def end_by_hand(self, lane: str, entry: bytes) -> None:
        await self.call("XACK", KEYS.lane(lane), GROUP, entry)
        await self.delete(lane, entry)

    async def age(self, lane: str, entry: bytes, idle_ms: int) -> None:
        line = (await self.pending(lane))[entry]
        claim = ("XCLAIM", KEYS.lane(lane), GROUP, line.consumer, 0, entry)
        count = ("RETRYCOUNT", line.deliveries, "JUSTID")
        await self.call(*claim, "IDLE", idle_ms, *count)

    async def pending(self, lane: str) -> dict[bytes, Line]:
        rows = await self.call("XPENDING", KEYS.lane(lane), GROUP, "-", "+", 100_000)
        return {
            bytes(entry): Line(consumer.decode(), int(count), float(idle_ms))
            for entry, consumer, idle_ms, count in rows
        }

    async def consumers(self, lane: str) -> set[str]:
        rows = await self.call("XINFO", "CONSUMERS", KEYS.lane(lane), GROUP)
        return {row[1].decode() for row in rows}

    async def stream(self, key: str) -> Entries:
        return [
            (bytes(entry), list(flat)) for entry, flat in await self.call("XRANGE", key, "-", "+")
        ]

    async def hash(self, key: str) -> dict[bytes, bytes]:
        flat = await self.call("HGETALL", key)
        found = dict(zip(flat[::2], flat[1::2], strict=True))
        if key == KEYS.limits:
            # Counted places alone: the rest tells of moments.
            return {name: found[name] for name in sorted(found) if name.startswith(b"u:")}
        if key == KEYS.unique:
            return {field: text.split()[0] for field, text in found.items()}
        return found

    async def set_control(self, field: str, value: str | None) -> None:
        if value is None:
            await self.call("HDEL", KEYS.control, field)
        else:
            await self.call("HSET", KEYS.control, field, value)

    async def delay(self, due_ms: int, packed: bytes) -> None:
        await self.call("ZADD", KEYS.delayed, due_ms, packed)

    async def delayed(self) -> dict[bytes, int]:
        flat = await self.call("ZRANGE", KEYS.delayed, 0, -1, "WITHSCORES")
        return dict(zip(flat[::2], map(int, flat[1::2]), strict=True))

    async def parked(self, lane: str) -> list[bytes]:
        return list(await self.call("ZRANGE", KEYS.parked(lane), 0, -1))

    async def admitted(self) -> set[str]:
        names = [name.decode() for name in await self.call("HKEYS", KEYS.admitted)]
        return {name for name in names if not name.startswith("@")}

    async def let_pass(self, milliseconds: int) -> None:
        """Let everything that gates know of have happened so much earlier."""
        for key in (KEYS.limits, KEYS.unique):
            for field, text in list(zip(*[iter(await self.call("HGETALL", key))] * 2, strict=True)):
                if not field.startswith((b"u:", b"v:", b"turn")):
                    await self.call("HSET", key, field, _earlier(text, milliseconds))
        for key in (KEYS.limits_due, KEYS.unique_ends):
            for name in await self.call("ZRANGE", key, 0, -1):
                score = float(await self.call("ZSCORE", key, name))
                if score < FAR:
                    await self.call("ZADD", key, score - milliseconds, name)

    async def occupy(self, key: str) -> None:
        await self.call("SET", key, "something else")

    async def drop_groups(self) -> None:
        for lane in LANES:
            await self.call("XGROUP", "DESTROY", KEYS.lane(lane), GROUP)

    async def flush(self) -> None:
        await self.call("FLUSHALL")

    async def engines(self) -> set[str]:
        return {name.decode() for name in await self.call("HKEYS", ENGINES)}

    async def add_engine(self, name: str, beat_ms: int) -> None:
        await self.call("HSET", ENGINES, name, beat(name, beat_ms))


def _earlier(text: bytes, milliseconds: int) -> bytes:
    """Move the moments in a field of gates back."""
    words = text.split(b" ")
    moved = [
        b"%d" % (int(word) - milliseconds) if word.isdigit() and len(word) == 13 else word
        for word in words
    ]
    return b" ".join(moved)


def _decoded(keys: Mapping[bytes, bytes]) -> dict[str, bytes]:
    return {key.decode(): ticket for key, ticket in keys.items()}


def _as_bytes(value: bytes | str | int) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
